"""Trials end after so many results."""

from __future__ import annotations

from tune.argument_checks import integer
from tune.stopper.base import Stopper
from tune.trial import Result


class MaximumIterationStopper(Stopper):
    """End each trial after `max_iter` results; a trial that goes on from a checkpoint counts on.

    Args:
        max_iter: number of results, at least 1.
    """

    def __init__(self, max_iter: int) -> None:
        self._max_iter = integer("max_iter", max_iter, at_least=1)
        self._seen: dict[str, int] = {}

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Tell whether this is the last result, by its ``training_iteration`` or, without one, by counting."""
        seen = self._seen.get(trial_id, 0) + 1
        iteration = result.get("training_iteration", seen)
        if iteration >= self._max_iter:
            self._seen.pop(trial_id, None)  # the trial is over: keep nothing about it
            return True
        self._seen[trial_id] = seen
        return False

    def bounds(self) -> dict[str, float]:
        """Return the bound, so that a trial ends by itself and need not wait."""
        return {"training_iteration": self._max_iter}
