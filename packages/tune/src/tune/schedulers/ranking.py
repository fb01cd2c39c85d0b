"""Which of several results is better: one metric or several, with or without constraints.

Theory. A result becomes an `Outcome`: its metrics as numbers of which more is better, and by how much it breaks the
constraints. Outcomes are put in order best first by

1. feasibility: any outcome that breaks no constraint before any that does; among those that do, the smaller breach
   first (Deb's rule, NSGA-II);
2. the metric, if there is one, or the weighted sum, if weights were given;
3. otherwise the front of non-dominated sorting it lies in, and within a front its crowding distance (NSGA-II).

With one number (1 and 2) an outcome has a key of its own, and `SortedRanking` keeps a list in order by bisection:
adding costs a binary search and a memory move. With several numbers an outcome's place depends on all others, and
`ParetoRanking` sorts anew, by ENS (Zhang et al., 2015), when asked after something was added.

Metrics that are not numbers (NaN) are worse than any number. Equal outcomes keep the order they came in.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from tune.trial import Result

#: Names of results to what they may be: an upper bound, or a pair of lower and upper bound with None for no bound; or
#: a function of a result, whose value, or the sum of whose positive values, is the breach (Optuna's convention).
Constraints = Mapping[str, float | tuple[float | None, float | None]] | Callable[[Result], float | Sequence[float]]


class Outcome(msgspec.Struct, frozen=True):
    """A result as schedulers compare it."""

    #: more is better; -inf for not a number
    values: tuple[float, ...]
    #: 0 for a result that keeps all constraints
    breach: float = 0.0


class Judge:
    """Makes results comparable.

    Args:
        metric: one name or several.
        mode: ``"min"`` or ``"max"``, one for all metrics or one for each.
        weights: metric to weight; makes one number of several metrics: the weighted sum, each metric turned so that
            more is better.
        constraints: see `Constraints`.

    Raises:
        ValueError: a mode is none, or modes or weights do not fit the metrics.
    """

    def __init__(
        self,
        metric: str | Sequence[str],
        mode: str | Sequence[str],
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        self.metrics: tuple[str, ...] = (metric,) if isinstance(metric, str) else tuple(metric)
        modes = (mode,) * len(self.metrics) if isinstance(mode, str) else tuple(mode)
        if not self.metrics:
            raise ValueError("metric is an empty list: name at least one metric")
        if len(modes) != len(self.metrics):
            raise ValueError(
                f"{len(self.metrics)} metrics but {len(modes)} modes: give one mode, or one for each metric"
            )
        for word in modes:
            if word not in {"min", "max"}:
                raise ValueError(f"mode must be 'min' or 'max', not {word!r}")
        if weights is not None and set(weights) != set(self.metrics):
            raise ValueError(
                f"weights are of {sorted(weights)}, the metrics are {sorted(self.metrics)}: they must agree"
            )
        self._signs = tuple(1.0 if word == "max" else -1.0 for word in modes)
        self._weights = None if weights is None else tuple(float(weights[name]) for name in self.metrics)
        self._constraints = constraints

    @property
    def total(self) -> bool:
        """Whether outcomes have an order that does not depend on other outcomes."""
        return len(self.metrics) == 1 or self._weights is not None

    def outcome(self, result: Result) -> Outcome | None:
        """Return the result's outcome; None if a metric is missing."""
        values = []
        for name, sign in zip(self.metrics, self._signs, strict=True):
            value = result.get(name)
            if value is None:
                return None
            values.append(-math.inf if math.isnan(value) else sign * float(value))
        if self._weights is not None:
            mixed = sum(weight * value for weight, value in zip(self._weights, values, strict=True))
            values = [-math.inf if math.isnan(mixed) else mixed]
        return Outcome(tuple(values), self._breach(result))

    def ranking(self) -> Ranking:
        """Return an empty ranking of such outcomes."""
        return SortedRanking() if self.total else ParetoRanking()

    def _breach(self, result: Result) -> float:
        if self._constraints is None:
            return 0.0
        if callable(self._constraints):
            found = self._constraints(result)
            amounts = [found] if isinstance(found, int | float) else list(found)
            return sum(_excess(amount) for amount in amounts)
        return sum(_excess_of(result.get(name), bound) for name, bound in self._constraints.items())


def _excess(amount: float) -> float:
    """Return how far a constraint's value is above zero; infinitely far if it is not a number."""
    return math.inf if math.isnan(amount) else max(0.0, float(amount))


def _excess_of(value: Any, bound: float | tuple[float | None, float | None]) -> float:
    low, high = bound if isinstance(bound, tuple | list) else (None, bound)
    if value is None:
        return math.inf  # a constraint that nobody reports is not kept
    above = 0.0 if high is None else _excess(value - high)
    below = 0.0 if low is None else _excess(low - value)
    return above + below


class Ranking(Protocol):
    """Outcomes of trials in order."""

    def __len__(self) -> int: ...

    def __contains__(self, trial_id: object) -> bool: ...

    def add(self, trial_id: str, outcome: Outcome) -> None:
        """Add the outcome of a trial that has none yet."""

    def outcome(self, trial_id: str) -> Outcome:
        """Return a trial's outcome."""

    def top(self, count: int) -> list[str]:
        """Return the best so many trials, best first."""

    def place(self, trial_id: str) -> int:
        """Return how many are better, or as good and added before."""

    def keeps(self, outcome: Outcome, reduction_factor: float) -> bool:
        """Tell whether a further outcome is good enough to go on by ASHA's stopping rule.

        That is: at least as good as the percentile ``1 - 1/reduction_factor`` of the outcomes here (linear between
        neighbours that are both feasible numbers, the better of them otherwise). True if there are none.
        """


class _Outcomes:
    """What both rankings share: the outcomes in the order they came."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}

    def __len__(self) -> int:
        return len(self._outcomes)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._outcomes

    def outcome(self, trial_id: str) -> Outcome:
        """Return a trial's outcome."""
        return self._outcomes[trial_id]


#: breach, the value turned so that less is better, number in order of coming
_Key = tuple[float, float, int]


class SortedRanking(_Outcomes):
    """A ranking by one number."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, _Key] = {}
        #: keys best first, with the trial's id
        self._sorted: list[tuple[_Key, str]] = []

    def add(self, trial_id: str, outcome: Outcome) -> None:
        """Add the outcome of a trial that has none yet."""
        key = (outcome.breach, -outcome.values[0], len(self._outcomes))
        self._outcomes[trial_id] = outcome
        self._keys[trial_id] = key
        insort(self._sorted, (key, trial_id))

    def top(self, count: int) -> list[str]:
        """Return the best so many trials, best first."""
        return [trial_id for _, trial_id in self._sorted[:count]]

    def place(self, trial_id: str) -> int:
        """Return how many are better, or as good and added before."""
        return bisect_left(self._sorted, (self._keys[trial_id], trial_id))

    def keeps(self, outcome: Outcome, reduction_factor: float) -> bool:
        """Tell whether a further outcome is good enough to go on."""
        if not self._sorted:
            return True
        rank = (len(self._sorted) - 1) / reduction_factor
        better, worse = (self._sorted[index][0][:2] for index in (math.floor(rank), math.ceil(rank)))
        cutoff = better
        if better != worse and worse[0] == 0 and math.isfinite(worse[1] - better[1]):
            cutoff = 0.0, better[1] + (worse[1] - better[1]) * (rank - math.floor(rank))
        return (outcome.breach, -outcome.values[0]) <= cutoff


class ParetoRanking(_Outcomes):
    """A ranking by several numbers: fronts, then crowding."""

    def __init__(self) -> None:
        super().__init__()
        #: best first; shorter than the outcomes if something was added since
        self._order: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, trial_id: str, outcome: Outcome) -> None:
        """Add the outcome of a trial that has none yet."""
        self._outcomes[trial_id] = outcome

    def top(self, count: int) -> list[str]:
        """Return the best so many trials, best first."""
        self._sort()
        return self._order[:count]

    def place(self, trial_id: str) -> int:
        """Return how many are better, or as good and added before."""
        self._sort()
        return self._places[trial_id]

    def _sort(self) -> None:
        if len(self._order) < len(self._outcomes):
            self._order = pareto_order(self._outcomes)
            self._places = {trial_id: place for place, trial_id in enumerate(self._order)}

    def keeps(self, outcome: Outcome, reduction_factor: float) -> bool:
        """Tell whether a further outcome is good enough to go on."""
        if not self._outcomes:
            return True
        self._sort()
        rank = (len(self._outcomes) - 1) / reduction_factor
        feasible = self._outcomes[self._order[math.ceil(rank)]].breach == 0
        asked = ""  # no trial's id; first, so that it is before those that are as good
        place = pareto_order({asked: outcome, **self._outcomes}).index(asked)
        return place <= (math.ceil(rank) if feasible else math.floor(rank))


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether `one` is nowhere worse and somewhere better; more is better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def fronts(points: Mapping[str, tuple[float, ...]]) -> list[list[str]]:
    """Return names of points by front, the front that nothing dominates first."""
    found: list[list[str]] = []
    # In this order no point is dominated by a later one, so each is compared with those already placed only.
    for name in sorted(points, key=lambda name: points[name], reverse=True):
        point = points[name]
        for front in found:
            if not any(dominates(points[other], point) for other in reversed(front)):
                front.append(name)
                break
        else:
            found.append([name])
    return found


def crowding(front: Sequence[str], points: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    """Return how far each point of a front is from its neighbours; infinite at the ends."""
    distance = dict.fromkeys(front, 0.0)
    for axis in range(len(points[front[0]])):
        line = sorted(front, key=lambda name: points[name][axis])
        span = points[line[-1]][axis] - points[line[0]][axis]
        distance[line[0]] = distance[line[-1]] = math.inf
        if not 0 < span < math.inf:
            continue
        for before, name, after in zip(line, line[1:], line[2:], strict=False):
            distance[name] += (points[after][axis] - points[before][axis]) / span
    return distance


def pareto_order(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return the names of outcomes, best first."""
    feasible = {name: outcome.values for name, outcome in outcomes.items() if outcome.breach == 0}
    order: list[str] = []
    for front in fronts(feasible):
        distance = crowding(front, feasible)
        order += sorted(front, key=lambda name: -distance[name])
    broken = [name for name in outcomes if name not in feasible]
    return order + sorted(broken, key=lambda name: outcomes[name].breach)
