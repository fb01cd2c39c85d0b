"""A sweep at a glance: how many trials stand where, which is best, how long it will take. Pure.

``metric`` may be nested as ``a/b``. A value counts if it is a finite number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from tune.trial import Result, Trial, TrialStatus

#: in the order they are shown
STATUS_ORDER = (
    TrialStatus.RUNNING,
    TrialStatus.PAUSED,
    TrialStatus.PENDING,
    TrialStatus.TERMINATED,
    TrialStatus.ERROR,
    TrialStatus.TIMEOUT,
    TrialStatus.OUT_OF_MEMORY,
)


class Summary(msgspec.Struct, frozen=True):
    """A sweep at a glance."""

    #: trials by status, in the order they are shown; those with none are left out
    counts: dict[TrialStatus, int]
    #: trials made so far
    made: int
    #: trials in all, None if unknown
    total: int | None
    elapsed_s: float
    #: trials that ended in this run
    ended: int
    #: trial with the best last value of the metric; None if none has one
    best: Trial | None = None
    best_value: float | None = None
    #: CPUs, GPUs and so on that running trials hold
    used: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def finished(self) -> int:
        """Trials that are finished, in whatever way."""
        return sum(count for status, count in self.counts.items() if status.finished)

    @property
    def errors(self) -> int:
        """Trials that stand in an error."""
        return sum(count for status, count in self.counts.items() if status.errored)

    @property
    def rate(self) -> float:
        """Trials ended a second, in this run."""
        return self.ended / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until all trials are finished at this rate; None if that cannot be said."""
        if self.total is None or not self.ended:
            return None
        return max(0, self.total - self.finished) / self.rate


def value_of(result: Result, name: str) -> Any:
    """Return what a result has under a name, ``a/b`` for nested ones; None if nothing."""
    if name in result or "/" not in name:
        return result.get(name)
    value: Any = result
    for part in name.split("/"):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def number_of(result: Result, name: str) -> float | None:
    """Return a result's finite number under a name; None if it has none."""
    value = value_of(result, name)
    if isinstance(value, float | int):
        return value if math.isfinite(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def summarize(
    trials: Iterable[Trial],
    *,
    metric: str | None,
    mode: str | None,
    total: int | None,
    elapsed_s: float,
    ended_before: int = 0,
) -> Summary:
    """Look at every trial once.

    Args:
        trials: all of them.
        metric: what to judge by; None: no trial is best.
        mode: ``"min"`` or ``"max"``.
        total: trials in all, None if unknown.
        elapsed_s: seconds since this run began.
        ended_before: trials that were finished when it began.
    """
    counts: Counter[TrialStatus] = Counter()
    used: Counter[str] = Counter()
    best: tuple[float, Trial] | None = None
    sign = -1.0 if mode == "min" else 1.0
    for trial in trials:
        counts[trial.status] += 1
        if trial.status is TrialStatus.RUNNING:
            used.update(trial.resources.total)
        value = None if metric is None else number_of(trial.last_result, metric)
        if value is not None and (best is None or sign * value > sign * best[0]):
            best = value, trial
    finished = sum(count for status, count in counts.items() if status.finished)
    return Summary(
        counts={status: counts[status] for status in STATUS_ORDER if counts[status]},
        made=counts.total(),
        total=total,
        elapsed_s=elapsed_s,
        ended=max(0, finished - ended_before),
        best=best[1] if best else None,
        best_value=best[0] if best else None,
        used=dict(used),
    )
