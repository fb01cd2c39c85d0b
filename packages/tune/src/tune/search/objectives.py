"""What a searcher judges results by: metrics, modes and constraints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tune.space.domains import is_number
from tune.trial import Result

#: Bounds of a metric: an upper one, or lower and upper, None for none.
Bounds = float | tuple[float | None, float | None]
#: Bounds by metric, or a function of the last result whose values must not be above 0.
Constraints = Mapping[str, Bounds] | Callable[[Result], float | Sequence[float]]


class Objectives(msgspec.Struct, frozen=True):
    """One metric or several, each with its direction."""

    metrics: tuple[str, ...]
    #: ``"min"`` or ``"max"``, as many
    modes: tuple[str, ...]

    @classmethod
    def of(cls, metric: str | Sequence[str] | None, mode: str | Sequence[str] | None, *, searcher: str) -> Objectives:
        """Check a sweep's metric and mode. One mode stands for all metrics; without one, ``"max"`` (Ray's default).

        Raises:
            ValueError: there is no metric, a mode is not known, or there are more or fewer modes than metrics.
        """
        if not metric:
            raise ValueError(f"{searcher} needs to know what is good: give metric= and mode= to tune.run.")
        metrics = (metric,) if isinstance(metric, str) else tuple(metric)
        modes = (mode or "max",) * len(metrics) if mode is None or isinstance(mode, str) else tuple(mode)
        if len(modes) != len(metrics):
            raise ValueError(f"metrics {list(metrics)} need as many modes, got {list(modes)}.")
        for one in modes:
            if one not in {"min", "max"}:
                raise ValueError(f"mode must be 'min' or 'max', got {one!r}.")
        return cls(metrics, modes)

    def values(self, result: Result | None) -> list[float] | None:
        """Return the metrics of a result, None if one is missing, not a number, or NaN."""
        values: list[float] = []
        for metric in self.metrics:
            value = None if result is None else result.get(metric)
            if value is None or not is_number(value) or math.isnan(value):
                return None
            values.append(float(value))
        return values

    def losses(self, values: Sequence[float]) -> list[float]:
        """Return the values with their signs such that less is better."""
        return [-value if mode == "max" else value for value, mode in zip(values, self.modes, strict=True)]


def check_constraints(constraints: Any) -> None:
    """Refuse what are no constraints.

    Raises:
        TypeError: neither bounds by metric nor a function.
        ValueError: bounds that are no bounds.
    """
    if constraints is None or callable(constraints):
        return
    if not isinstance(constraints, Mapping):
        raise TypeError(
            f"constraints must be bounds by metric, {{'latency': 20}} or {{'latency': (None, 20)}}, or a function of "
            f"the result whose values must not be above 0; got {constraints!r}."
        )
    for metric, bounds in constraints.items():
        pair = isinstance(bounds, tuple | list) and len(bounds) == 2
        ends = [end for end in bounds if end is not None] if pair else [bounds]
        if not ends or not all(is_number(end) and not math.isnan(end) for end in ends):
            raise ValueError(f"constraints[{metric!r}] must be an upper bound or (lower, upper), got {bounds!r}.")


def violations(constraints: Constraints | None, result: Result) -> dict[str, float] | None:
    """Return by how much a result breaks each constraint, 0 or less where it does not; None if it cannot be told."""
    if constraints is None:
        return {}
    if callable(constraints):
        returned = constraints(result)
        amounts = list(returned) if isinstance(returned, Iterable) else [returned]
        broken = {str(number): float(amount) for number, amount in enumerate(amounts)}
    else:
        broken = {}
        for metric, bounds in constraints.items():
            value = result.get(metric)
            if value is None or not is_number(value):
                return None
            lower, upper = (None, bounds) if isinstance(bounds, int | float) else bounds
            if upper is not None:
                broken[f"{metric}<={upper:g}"] = float(value) - upper
            if lower is not None:
                broken[f"{metric}>={lower:g}"] = lower - float(value)
    return None if any(math.isnan(amount) for amount in broken.values()) else broken
