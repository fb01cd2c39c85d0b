"""The whole sweep ends when the best values of all trials do not move any more."""

from __future__ import annotations

import bisect
import math
import statistics

from tune.argument_checks import integer, number, one_of
from tune.stopper.base import Stopper
from tune.trial import Result


class ExperimentPlateauStopper(Stopper):
    """End the sweep when the best values seen in any trial lie close together.

    Args:
        metric: name of the metric.
        std: the (population) standard deviation up to which the best values count as a plateau.
        top: how many of the best values are looked at; at least 2.
        mode: ``"min"`` or ``"max"``: which values are the best.
        patience: how many results the plateau must have lasted.
    """

    def __init__(self, metric: str, std: float = 0.001, top: int = 10, mode: str = "min", patience: int = 0) -> None:
        self._metric = metric
        self._std = number("std", std, above=0)
        self._top = integer("top", top, at_least=2)
        self._sign = 1.0 if one_of("mode", mode, ("min", "max")) == "min" else -1.0
        self._patience = integer("patience", patience, at_least=0)
        #: the best values, best first, with the sign that makes small ones good
        self._best: list[float] = []
        self._lasted = 0

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Learn a result, and tell whether the sweep, and so this trial, ends."""
        value = result.get(self._metric)
        if value is None or not math.isfinite(value):
            return self.stop_all()
        bisect.insort(self._best, self._sign * float(value))
        del self._best[self._top :]
        self._lasted = self._lasted + 1 if self.has_plateaued() else 0
        return self.stop_all()

    def has_plateaued(self) -> bool:
        """Tell whether the best values lie close together now."""
        return len(self._best) == self._top and statistics.pstdev(self._best) <= self._std

    def stop_all(self) -> bool:
        """Tell whether the plateau has lasted long enough."""
        return self.has_plateaued() and self._lasted >= self._patience
