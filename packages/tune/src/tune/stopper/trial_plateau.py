"""A trial ends when its metric does not move any more."""

from __future__ import annotations

import math
import statistics
from collections import deque

from tune.argument_checks import integer, number, one_of
from tune.stopper.base import Stopper
from tune.trial import Result


class TrialPlateauStopper(Stopper):
    """End a trial whose metric's last values lie close together.

    Args:
        metric: name of the metric.
        std: the (population) standard deviation below which the values count as a plateau.
        num_results: over how many of the last results.
        grace_period: no trial ends before so many results.
        metric_threshold: no trial ends before its metric is at least this good (as `mode` says).
        mode: ``"min"`` or ``"max"``; needed with `metric_threshold`.

    Raises:
        ValueError: `metric_threshold` without `mode`, or a number out of range.
    """

    def __init__(
        self,
        metric: str,
        std: float = 0.01,
        num_results: int = 4,
        grace_period: int = 4,
        metric_threshold: float | None = None,
        mode: str | None = None,
    ) -> None:
        if metric_threshold is not None:
            one_of("mode (needed with metric_threshold)", mode, ("min", "max"))
        self._metric = metric
        self._std = number("std", std, above=0)
        self._num_results = integer("num_results", num_results, at_least=2)
        self._grace_period = integer("grace_period", grace_period, at_least=0)
        self._threshold = metric_threshold
        self._mode = mode
        self._counts: dict[str, int] = {}
        self._values: dict[str, deque[float]] = {}

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Tell whether the trial has reached a plateau. A result without the metric breaks none and makes none."""
        value = result.get(self._metric)
        if value is None:
            return False
        values = self._values.setdefault(trial_id, deque(maxlen=self._num_results))
        values.append(float(value))
        self._counts[trial_id] = self._counts.get(trial_id, 0) + 1
        if not self._plateau(trial_id, float(value)):
            return False
        del self._values[trial_id], self._counts[trial_id]  # the trial is over: keep nothing about it
        return True

    def _plateau(self, trial_id: str, value: float) -> bool:
        values = self._values[trial_id]
        if self._counts[trial_id] < self._grace_period or len(values) < self._num_results:
            return False
        if self._threshold is not None and not self._good_enough(value, self._threshold):
            return False
        return all(map(math.isfinite, values)) and statistics.pstdev(values) < self._std

    def _good_enough(self, value: float, threshold: float) -> bool:
        return value <= threshold if self._mode == "min" else value >= threshold
