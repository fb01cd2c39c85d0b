"""What all schedulers that compare results share: their metric, mode, weights and constraints."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tune.schedulers.base import TrialScheduler
from tune.schedulers.ranking import Constraints, Judge, Outcome
from tune.trial import Result


class JudgingScheduler(TrialScheduler):
    """Base of the schedulers that compare results.

    Args:
        metric: the result's name to judge by, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``, for each metric if they differ; None takes the sweep's.
        time_attr: the result's name that measures progress. It must never fall within a trial.
        weights: of several metrics, name to weight: judge by the weighted sum. None judges by non-dominated sorting.
        constraints: what results must keep: names to an upper bound or a pair of lower and upper bound (None for
            none), or a function of the result whose positive values are breaches. Results that keep them are better
            than all that do not.
        seed: of what the scheduler draws; None takes the sweep's, and without that a random one.
    """

    #: whether several metrics without weights are possible
    _several_metrics = True

    def __init__(
        self,
        *,
        metric: str | Sequence[str] | None,
        mode: str | Sequence[str] | None,
        time_attr: str,
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(metric=metric, mode=mode, time_attr=time_attr, seed=seed)
        self.weights = weights
        self.constraints = constraints
        self._judge: Judge | None = None
        self._rng = random.Random(seed)  # noqa: S311 - a sweep's decisions, not secrets
        if metric is not None and mode is not None:
            self._judge = self._make_judge(metric, mode)  # a mistake is told where it is made

    def set_search_properties(
        self, metric: str | Sequence[str] | None, mode: str | Sequence[str] | None, *, seed: int | None = None
    ) -> None:
        """Take the sweep's metric, mode and seed where this scheduler was given none.

        Raises:
            ValueError: neither has a metric, or metric, mode and weights do not fit each other.
        """
        super().set_search_properties(metric, mode, seed=seed)
        if self.metric is None or self.mode is None:
            raise ValueError(
                f"{type(self).__name__} compares trials by a metric, but there is none: pass metric='...' and "
                f"mode='min' or 'max' to tune.run (or TuneConfig), or to the scheduler"
            )
        self._judge = self._make_judge(self.metric, self.mode)
        self._rng = random.Random(self.seed)  # noqa: S311 - a sweep's decisions, not secrets

    @property
    def judge(self) -> Judge:
        """What makes results comparable.

        Raises:
            ValueError: there is no metric yet.
        """
        if self._judge is None:
            raise ValueError(f"{type(self).__name__} has no metric yet: set_search_properties gives it one")
        return self._judge

    def _make_judge(self, metric: str | Sequence[str], mode: str | Sequence[str]) -> Judge:
        judge = Judge(metric, mode, self.weights, self.constraints)
        if not judge.total and not self._several_metrics:
            raise ValueError(
                f"{type(self).__name__} needs one number to compare by, but there are {len(judge.metrics)} metrics: "
                f"pass weights={{{', '.join(f'{name!r}: 1.0' for name in judge.metrics)}}} to mix them"
            )
        return judge

    def _measure(self, result: Result) -> tuple[float, Outcome] | None:
        """Return how far the trial is and how good; None if the result lacks what that takes."""
        time = result.get(self.time_attr)
        outcome = self.judge.outcome(result)
        return None if time is None or outcome is None else (float(time), outcome)


def check_positive(**arguments: float) -> None:
    """Check arguments that must be above zero.

    Raises:
        ValueError: one is not; it is named.
    """
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} must be greater than 0, not {value!r}")
