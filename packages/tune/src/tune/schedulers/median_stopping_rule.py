"""The median stopping rule (Golovin et al., Google Vizier, 2017).

Rule. A trial at time ``t`` ends if its best result so far is worse than the median of the other trials' running means
up to ``t`` (from the grace period on); those trials count that have come as far as ``t``. With fewer than
`min_samples_required` of them it goes on, or gives its place to others for a while (`min_time_slice`).

Trials wait for the verdict at every result from the grace period on, so no decision is late.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from tune.messages import Sync
from tune.schedulers.base import CONTINUE, NEW, PAUSE, STOP, WAIT, Choice, Decision, Resume, TrialScheduler, View
from tune.schedulers.judging import JudgingScheduler
from tune.schedulers.ranking import Constraints, Outcome
from tune.trial import Result, Trial, TrialStatus


class Curve:
    """The results of one trial: times, and sums of scores up to each."""

    def __init__(self) -> None:
        #: how far it has come
        self.last: float = -math.inf
        #: of the results that count, ascending
        self.times: list[float] = []
        #: of the scores, from the grace period on, up to and with each time
        self._sums: list[float] = [0.0]
        self.best: float = -math.inf

    def add(self, time: float, score: float) -> None:
        """Add a result. One that is not later than the last (a restarted trial) or not finite has no part in means."""
        self.best = max(self.best, score)
        if time > self.last and math.isfinite(score):
            self.times.append(time)
            self._sums.append(self._sums[-1] + score)
        self.last = max(self.last, time)

    def mean(self, first: float, last: float) -> float:
        """Return the mean of the scores in a span of time, both ends with it; NaN if there is none."""
        low, high = bisect_left(self.times, first), bisect_right(self.times, last)
        return (self._sums[high] - self._sums[low]) / (high - low) if high > low else math.nan


class MedianStoppingRule(JudgingScheduler):
    """Ends trials that are worse than the median of the others.

    Args:
        time_attr: the result's name that measures progress. It must never fall within a trial.
        metric: the result's name to judge by; several need `weights`; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        grace_period: in units of `time_attr`: no trial is stopped before.
        min_samples_required: with fewer other trials at a time none is stopped.
        min_time_slice: in units of `time_attr`: while there are too few samples, a trial that has run longer than this
            since it was last paused is paused if others wait for a place. 0 never does that (Ray then does it at every
            result).
        hard_stop: False pauses trials instead of ending them; they go on when nothing else is left to do.
        weights: of several metrics, name to weight: judge by the weighted sum.
        constraints: what results must keep (see `ASHAScheduler`); results that do not keep them are not counted.

    Raises:
        ValueError: an argument is out of range.
    """

    _several_metrics = False

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        grace_period: float = 60.0,
        min_samples_required: int = 3,
        min_time_slice: float = 0,
        hard_stop: bool = True,
        *,
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        super().__init__(metric=metric, mode=mode, time_attr=time_attr, weights=weights, constraints=constraints)
        if min_samples_required < 1:
            raise ValueError(f"min_samples_required must be at least 1, not {min_samples_required!r}")
        if grace_period < 0 or min_time_slice < 0:
            raise ValueError("grace_period and min_time_slice must not be negative")
        self.grace_period = grace_period
        self.min_samples_required = min_samples_required
        self.min_time_slice = min_time_slice
        self.hard_stop = hard_stop
        self.needs_checkpoints: bool = not hard_stop or min_time_slice > 0
        self._curves: dict[str, Curve] = {}
        #: when each trial was paused last
        self._last_pause: dict[str, float] = {}
        #: trials that were stopped, or, without `hard_stop`, put back
        self._stopped: set[str] = set()

    def sync(self, trial: Trial) -> Sync:
        """Wait at every result from the grace period on."""
        if trial.trial_id in self._stopped:
            return Sync()
        return Sync(at=self.grace_period, attribute=self.time_attr)

    def on_trial_add(self, trial: Trial) -> None:
        """Begin the trial's curve."""
        self._curves.setdefault(trial.trial_id, Curve())

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Compare the trial's best with the median of the others' means."""
        measured = self._measure(result)
        if measured is None:
            return CONTINUE
        if trial.trial_id in self._stopped:
            return STOP if self.hard_stop else CONTINUE
        time, curve = measured[0], self._curves[trial.trial_id]
        curve.add(time, _score(measured[1]))
        if time < self.grace_period:
            return CONTINUE
        means = self._means_of_others(trial.trial_id, time)
        if len(means) < self.min_samples_required:
            return self._yield_place(trial, time, view)
        if curve.best >= statistics.median(means):
            return CONTINUE
        self._stopped.add(trial.trial_id)
        return STOP if self.hard_stop else PAUSE

    def choose(self, view: View) -> Choice:
        """Start new trials first, then go on with those that yielded, then with those that were put back."""
        if view.more_trials:
            return NEW
        paused = view.paused()
        waiting = [trial for trial in paused if trial.trial_id not in self._stopped] or paused
        # The one that has come least far, so that all come to be compared.
        return min(
            (Resume(trial.trial_id) for trial in waiting),
            key=lambda choice: self._last_pause.get(choice.trial_id, math.inf),
            default=WAIT,
        )

    def on_resume(self, previous: TrialScheduler, trials: Sequence[Trial]) -> list[str]:
        """Take over the curves. Trials that were stopped stay so."""
        if isinstance(previous, MedianStoppingRule) and previous.judge.metrics == self.judge.metrics:
            self._curves = previous._curves  # noqa: SLF001 - of its own class
        return super().on_resume(previous, trials)

    def debug_string(self) -> str:
        """Return one line about the state."""
        return f"Median stopping rule: {len(self._stopped)} stopped"

    def validate(self) -> None:
        """Check that curves ascend."""
        for curve in self._curves.values():
            assert all(a < b for a, b in zip(curve.times, curve.times[1:], strict=False))
        assert self._stopped <= set(self._curves)

    def _means_of_others(self, trial_id: str, time: float) -> list[float]:
        means = [
            curve.mean(self.grace_period, time)
            for other, curve in self._curves.items()
            if other != trial_id and curve.last >= time
        ]
        return [mean for mean in means if math.isfinite(mean)]

    def _yield_place(self, trial: Trial, time: float, view: View) -> Decision:
        if self.min_time_slice <= 0 or time - self._last_pause.get(trial.trial_id, 0.0) <= self.min_time_slice:
            return CONTINUE
        if not view.more_trials and not any(t.status is not TrialStatus.RUNNING for t in view.live.values()):
            return CONTINUE
        self._last_pause[trial.trial_id] = time
        return PAUSE


def _score(outcome: Outcome) -> float:
    return -math.inf if outcome.breach > 0 else outcome.values[0]
