"""Domains: the values one parameter may take, and how random search draws from them. Ray's classes and meanings.

A domain is an immutable record. It draws from a `numpy.random.Generator` that it is handed, so the same generator
state gives the same value. The public functions that make domains, ``tune.uniform`` and so on, are in `functions`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np

#: A bound this close to a multiple of ``q`` (in units of ``q``) is one: 0.3 / 0.1 is not 3.
_ALMOST = 1e-9


class Domain(msgspec.Struct, frozen=True):
    """Base of all domains: what a parameter may be."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw one value."""
        raise NotImplementedError

    def is_valid(self, value: Any) -> bool:
        """Tell whether the value could have been drawn, rounding to ``q`` aside."""
        raise NotImplementedError

    @property
    def domain_str(self) -> str:
        """The domain for people: ``uniform(0, 1)``."""
        raise NotImplementedError

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """Draw values, as in Ray.

        Args:
            config: what a `sample_from` function is given.
            size: how many values; a list is returned if it is not 1.
            random_state: a seed, a numpy ``Generator`` or ``RandomState``; None draws anew every time.
        """
        rng = as_generator(random_state)
        return self.draw(rng) if size == 1 else [self.draw(rng) for _ in range(size)]


def as_generator(random_state: Any) -> np.random.Generator:
    """Return the numpy generator that a seed, ``Generator``, ``RandomState`` or None stands for."""
    import numpy as np  # noqa: PLC0415  a tenth of a second that listing or planning a sweep does not need

    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(int(random_state.randint(2**31)))
    return np.random.default_rng(random_state)


def snap(value: float, q: float) -> float:
    """Round to the nearest multiple of `q`, without the noise of binary fractions: 0.3, not 0.30000000000000004."""
    return multiple(round(value / q), q)


def multiple(count: int, q: float) -> float:
    """Return ``count * q`` as a person would write it."""
    return float(count * Decimal(repr(float(q))))


def first_multiple(lower: float, q: float) -> int:
    """Return the smallest count whose multiple of `q` is not below `lower`."""
    return math.ceil(lower / q - _ALMOST)


def last_multiple(upper: float, q: float) -> int:
    """Return the largest count whose multiple of `q` is not above `upper`."""
    return math.floor(upper / q + _ALMOST)


class Float(Domain, frozen=True):
    """A real number in [lower, upper], uniform or uniform in the logarithm, perhaps rounded to multiples of `q`."""

    lower: float
    upper: float
    log: bool = False
    q: float | None = None

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value; every multiple of ``q`` is equally likely unless ``log``."""
        if self.q is not None and not self.log:
            first, last = first_multiple(self.lower, self.q), last_multiple(self.upper, self.q)
            return self._within(multiple(int(rng.integers(first, last + 1)), self.q))
        low, high = (math.log(self.lower), math.log(self.upper)) if self.log else (self.lower, self.upper)
        drawn = low + (high - low) * float(rng.random())
        return self.settle(math.exp(drawn) if self.log else drawn)

    def settle(self, value: float) -> float:
        """Return the permitted value nearest to this one."""
        if self.q is None:
            return self._within(value)
        count = min(max(round(value / self.q), first_multiple(self.lower, self.q)), last_multiple(self.upper, self.q))
        return self._within(multiple(count, self.q))

    def _within(self, value: float) -> float:
        return min(max(value, self.lower), self.upper)

    def is_valid(self, value: Any) -> bool:
        """Tell whether the value is a number within the bounds."""
        return is_number(value) and self.lower <= value <= self.upper

    @property
    def domain_str(self) -> str:
        """The domain for people."""
        return _written("loguniform" if self.log else "uniform", self.q is not None, self.lower, self.upper, self.q)


class Integer(Domain, frozen=True):
    """A whole number in [lower, upper), uniform or uniform in the logarithm.

    With ``q`` other than 1 the values are multiples of `q` and `upper` is included, as in Ray.
    """

    lower: int
    upper: int
    log: bool = False
    q: int = 1

    @property
    def first(self) -> int:
        """The smallest value."""
        return first_multiple(self.lower, self.q) * self.q

    @property
    def last(self) -> int:
        """The largest value."""
        return self.upper - 1 if self.q == 1 else last_multiple(self.upper, self.q) * self.q

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one value."""
        if not self.log:
            return int(rng.integers(self.first // self.q, self.last // self.q + 1)) * self.q
        # Each value gets the share that its rounding interval has in the logarithm, so the ends are not short.
        low, high = math.log(self.first - self.q / 2), math.log(self.last + self.q / 2)
        return self.settle(math.exp(low + (high - low) * float(rng.random())))

    def settle(self, value: float) -> int:
        """Return the permitted value nearest to this one."""
        return min(max(round(value / self.q) * self.q, self.first), self.last)

    def is_valid(self, value: Any) -> bool:
        """Tell whether the value is a whole number within the bounds."""
        return is_number(value) and self.first <= value <= self.last and float(value).is_integer()

    @property
    def domain_str(self) -> str:
        """The domain for people."""
        return _written("lograndint" if self.log else "randint", self.q != 1, self.lower, self.upper, self.q)


class Normal(Domain, frozen=True):
    """A real number from a normal distribution, perhaps rounded to multiples of `q`."""

    mean: float = 0.0
    sd: float = 1.0
    q: float | None = None

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        value = float(rng.normal(self.mean, self.sd))
        return value if self.q is None else snap(value, self.q)

    def is_valid(self, value: Any) -> bool:
        """Tell whether the value is a finite number."""
        return is_number(value) and math.isfinite(value)

    @property
    def domain_str(self) -> str:
        """The domain for people."""
        return _written("randn", self.q is not None, self.mean, self.sd, self.q)


class Categorical(Domain, frozen=True):
    """One of a list of values, each equally likely. A value may itself hold domains: a conditional space."""

    categories: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw one value."""
        return self.categories[int(rng.integers(len(self.categories)))]

    def is_valid(self, value: Any) -> bool:
        """Tell whether the value is one of the list, of the same type: ``True`` is not ``1``."""
        return any(same(value, category) for category in self.categories)

    @property
    def domain_str(self) -> str:
        """The domain for people."""
        return f"choice({list(self.categories)!r})"


class Function(Domain, frozen=True):
    """What a function makes of the rest of the configuration; ``tune.sample_from``."""

    func: Callable[..., Any]
    #: whether the function takes the configuration; otherwise it takes nothing
    pass_config: bool = True

    def draw(self, rng: np.random.Generator) -> Any:
        """Call the function with an empty configuration."""
        return self.sample(None)

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """Call the function `size` times; a list is returned if it is not 1."""
        arguments = ({} if config is None else config,) if self.pass_config else ()
        return self.func(*arguments) if size == 1 else [self.func(*arguments) for _ in range(size)]

    def is_valid(self, value: Any) -> bool:
        """Tell that anything may come out of a function."""
        return True

    @property
    def domain_str(self) -> str:
        """The domain for people."""
        return f"sample_from({getattr(self.func, '__name__', self.func)})"


def is_number(value: Any) -> bool:
    """Tell whether a value is a number, numpy's included, and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def same(left: Any, right: Any) -> bool:
    """Tell whether two constants are the same: equal and of a type, arrays and the like by identity."""
    if left is right:
        return True
    if type(left) is not type(right) and not (_plain_number(left) and _plain_number(right)):
        return False
    try:
        return bool(left == right)
    except (ValueError, TypeError):  # arrays and frames compare element by element
        return False


def _plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(name: str, quantized: bool, *arguments: Any) -> str:
    shown = arguments if quantized else arguments[:2]
    return f"{'q' if quantized else ''}{name}({', '.join(f'{argument:g}' for argument in shown)})"
