"""The public functions that make search spaces: ``tune.uniform`` and its relatives, with Ray's names and bounds."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from tune.space.domains import (
    Categorical,
    Domain,
    Float,
    Function,
    Integer,
    Normal,
    first_multiple,
    is_number,
    last_multiple,
)


def uniform(lower: float, upper: float) -> Float:
    """Search a real number between `lower` and `upper`.

    Raises:
        ValueError: the bounds are not finite numbers in ascending order.
    """
    return Float(*_reals("uniform", lower, upper))


def quniform(lower: float, upper: float, q: float) -> Float:
    """Search a multiple of `q` between `lower` and `upper`, both included.

    Raises:
        ValueError: bad bounds, `q` not positive, or no multiple of it between the bounds.
    """
    low, high = _reals("quniform", lower, upper)
    return Float(low, high, q=_step("quniform", low, high, q))


def loguniform(lower: float, upper: float) -> Float:
    """Search a real number between `lower` and `upper` whose logarithm is uniform: learning rates and the like.

    Raises:
        ValueError: bad bounds, or `lower` not above 0.
    """
    low, high = _positive("loguniform", *_reals("loguniform", lower, upper))
    return Float(low, high, log=True)


def qloguniform(lower: float, upper: float, q: float) -> Float:
    """Search as `loguniform`, rounded to multiples of `q`.

    Raises:
        ValueError: bad bounds, `lower` not above 0, `q` not positive, or no multiple of it between the bounds.
    """
    low, high = _positive("qloguniform", *_reals("qloguniform", lower, upper))
    return Float(low, high, log=True, q=_step("qloguniform", low, high, q))


def randint(lower: int, upper: int) -> Integer:
    """Search a whole number from `lower` up to, but not including, `upper`.

    Raises:
        TypeError: a bound is not a whole number.
        ValueError: `upper` is not above `lower`.
    """
    return Integer(*_whole("randint", lower, upper))


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """Search a multiple of `q` from `lower` up to and including `upper` (not including, if `q` is 1).

    Raises:
        TypeError: an argument is not a whole number.
        ValueError: bad bounds, `q` below 1, or no multiple of it between the bounds.
    """
    low, high = _whole("qrandint", lower, upper)
    return Integer(low, high, q=_whole_step("qrandint", low, high, q))


def lograndint(lower: int, upper: int) -> Integer:
    """Search as `randint`, uniform in the logarithm.

    Raises:
        TypeError: a bound is not a whole number.
        ValueError: bad bounds, or `lower` not above 0.
    """
    low, high = _whole("lograndint", lower, upper)
    _positive("lograndint", low, high)
    return Integer(low, high, log=True)


def qlograndint(lower: int, upper: int, q: int) -> Integer:
    """Search as `qrandint`, uniform in the logarithm.

    Raises:
        TypeError: an argument is not a whole number.
        ValueError: bad bounds, `lower` not above 0, `q` below 1, or no multiple of it between the bounds.
    """
    low, high = _whole("qlograndint", lower, upper)
    _positive("qlograndint", low, high)
    return Integer(low, high, log=True, q=_whole_step("qlograndint", low, high, q))


def randn(mean: float = 0.0, sd: float = 1.0) -> Normal:
    """Draw a real number from a normal distribution. For random search only: it has no bounds to search within.

    Raises:
        ValueError: `mean` is not finite or `sd` is not positive.
    """
    return Normal(_real("randn", "mean", mean), _spread("randn", sd))


def qrandn(mean: float, sd: float, q: float) -> Normal:
    """Draw as `randn`, rounded to multiples of `q`.

    Raises:
        ValueError: `mean` is not finite, or `sd` or `q` is not positive.
    """
    center, spread = _real("qrandn", "mean", mean), _spread("qrandn", sd)
    return Normal(center, spread, q=_step("qrandn", -math.inf, math.inf, q))


def choice(categories: Iterable[Any]) -> Categorical:
    """Search one of several values.

    A value may be a dict, list or tuple that holds further domains: they are searched only while it is chosen, to any
    depth (a conditional space).

    Args:
        categories: the values, at least one; of any type.

    Raises:
        TypeError: not a collection.
        ValueError: there is none.
    """
    return Categorical(tuple(_values("choice", categories)))


def grid_search(values: Iterable[Any]) -> dict[str, list[Any]]:
    """Try every value, in a cross product with all other grids, ``num_samples`` times.

    Values may hold further domains and grids, as in `choice`. For `BasicVariantGenerator` only.

    Raises:
        TypeError: not a collection.
        ValueError: there is none.
    """
    return {GRID: _values("grid_search", values)}


def sample_from(func: Callable[..., Any]) -> Function:
    """Compute a parameter from the rest of the configuration.

    Args:
        func: a function of the configuration (a dict whose items are attributes too, so that Ray's older
            ``lambda spec: spec.config.alpha * 2`` works as well), or of nothing. It may use other ``sample_from``
            parameters. Under a seed, ``random`` and ``numpy.random`` are seeded while it runs.

    Raises:
        TypeError: not callable, or it takes two arguments or more.
    """
    if not callable(func):
        raise TypeError(f"sample_from() needs a function, got {func!r}. For a fixed value write the value itself.")
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # some builtins have none; they are taken at their word
        return Function(func)
    for arguments in ((None,), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return Function(func, pass_config=bool(arguments))
    raise TypeError(
        f"sample_from() needs a function of the configuration or of nothing, got {func!r} with arguments {signature}."
    )


#: The key of the dict that `grid_search` returns; as in Ray, a config may have such dicts written out.
GRID = "grid_search"
#: Beyond it floats do not tell whole numbers apart, and samplers compute in floats.
_LARGEST = 2**53


def is_grid(value: Any) -> bool:
    """Tell whether a value is what `grid_search` returns."""
    return isinstance(value, dict) and len(value) == 1 and GRID in value and not isinstance(value[GRID], Domain)


def _values(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise TypeError(f"{name}() needs a list of values, got {values!r}. For one value write [{values!r}].")
    listed = list(values)
    if not listed:
        raise ValueError(f"{name}() needs at least one value, got none.")
    return listed


def _real(name: str, what: str, value: Any) -> float:
    if not is_number(value):
        raise TypeError(f"{name}() needs a number as {what}, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{name}() needs a finite {what}, got {value!r}.")
    return float(value)


def _reals(name: str, lower: Any, upper: Any) -> tuple[float, float]:
    low, high = _real(name, "lower", lower), _real(name, "upper", upper)
    if not low <= high:
        raise ValueError(f"{name}() needs lower <= upper, got lower={lower!r}, upper={upper!r}.")
    if not math.isfinite(high - low):
        raise ValueError(f"{name}() needs bounds whose difference is a finite number, got {lower!r} and {upper!r}.")
    return low, high


def _positive(name: str, low: float, high: float) -> tuple[float, float]:
    if low <= 0:
        raise ValueError(f"{name}() needs lower > 0 because it searches the logarithm, got lower={low!r}.")
    return low, high


def _whole(name: str, lower: Any, upper: Any) -> tuple[int, int]:
    for what, value in (("lower", lower), ("upper", upper)):
        if not is_number(value) or not math.isfinite(value) or int(value) != value:
            raise TypeError(f"{name}() needs a whole number as {what}, got {value!r}.")
        if abs(value) > _LARGEST:
            raise ValueError(f"{name}() needs bounds within +-2**53, got {what}={value!r}.")
    if not lower < upper:
        raise ValueError(f"{name}() needs lower < upper (upper is not included), got lower={lower!r}, upper={upper!r}.")
    return int(lower), int(upper)


def _spread(name: str, sd: Any) -> float:
    spread = _real(name, "sd", sd)
    if spread <= 0:
        raise ValueError(f"{name}() needs sd > 0, got {sd!r}.")
    return spread


def _step(name: str, low: float, high: float, q: Any) -> float:
    step = _real(name, "q", q)
    if step <= 0:
        raise ValueError(f"{name}() needs q > 0, got {q!r}.")
    if math.isfinite(low) and last_multiple(high, step) < first_multiple(low, step):
        raise ValueError(f"{name}() has no multiple of q={q!r} between {low!r} and {high!r}.")
    return step


def _whole_step(name: str, low: int, high: int, q: Any) -> int:
    if not is_number(q) or int(q) != q:
        raise TypeError(f"{name}() needs a whole number as q, got {q!r}.")
    return int(_step(name, low, high, q))
