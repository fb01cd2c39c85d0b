"""What a trial is worth: one number of all its results, by scope."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from numbers import Real
from typing import Any

from tune.argument_checks import one_of
from tune.result import lookup
from tune.trial import Result

#: ``last``: the last result; ``all``: the best of all; the others: the mean of all or of the last ones.
SCOPES = ("last", "all", "avg", "last-5-avg", "last-10-avg")
_WINDOWS = {"last-5-avg": 5, "last-10-avg": 10}


def as_number(value: Any) -> float | None:
    """Return a metric's value as a float; None if it is not a number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, Real):
        return float(value)
    return float(value) if hasattr(value, "__float__") and not isinstance(value, str) else None


def score(results: Iterable[Result], metric: str, mode: str, scope: str) -> float | None:
    """Return a trial's score; None if no result has the metric.

    Args:
        results: all results of the trial, oldest first; for the scope ``last`` the last one is enough.
        metric: the name, flat for nested ones.
        mode: ``"min"`` or ``"max"``, for the scope ``all``, in which results that are not finite do not count unless
            there is no other.
        scope: one of `SCOPES`.

    Raises:
        ValueError: an unknown scope.
    """
    one_of("scope", scope, SCOPES)
    values = (as_number(lookup(result, metric)) for result in results)
    numbers: Iterable[float] = (value for value in values if value is not None)
    if scope == "all":
        return _best(list(numbers), mode)
    window = deque(numbers, maxlen=1 if scope == "last" else _WINDOWS.get(scope))
    return math.fsum(window) / len(window) if window else None


def _best(numbers: list[float], mode: str) -> float | None:
    finite = [value for value in numbers if math.isfinite(value)]
    if not finite:
        return numbers[-1] if numbers else None
    return min(finite) if mode == "min" else max(finite)


def better(one: float, other: float, mode: str) -> bool:
    """Tell whether one score is better than another; anything is better than NaN."""
    if math.isnan(other):
        return not math.isnan(one)
    return one < other if mode == "min" else one > other
