"""The ladder of successive halving: rungs, each with the outcomes of the trials that reached it."""

from __future__ import annotations

import math
from collections.abc import Callable

from tune.schedulers.ranking import Judge, Outcome, Ranking


def ladder(first: float, last: float, factor: float) -> list[float]:
    """Return the milestones ``first * factor**k`` below `last`, then `last`.

    Computed by multiplication from the bottom, not by logarithms, whose rounding loses a rung now and then.
    """
    steps = []
    milestone = float(first)
    # A milestone within rounding of the last one is the last one.
    while milestone < last and not math.isclose(milestone, last):
        steps.append(milestone)
        milestone *= factor
    return [*steps, float(last)]


class Rung:
    """One milestone and who has reached it."""

    def __init__(self, milestone: float, judge: Judge) -> None:
        #: of the time attribute
        self.milestone = milestone
        #: outcomes of all that reached it
        self.ranking: Ranking = judge.ranking()
        #: those of them that were told to go on
        self.promoted: set[str] = set()
        #: those of them that wait here, in the order they came
        self.waiting: dict[str, None] = {}

    def reach(self, trial_id: str, outcome: Outcome) -> None:
        """Record that a trial reached the milestone, once."""
        self.ranking.add(trial_id, outcome)

    def promotable(self, factor: float, eligible: Callable[[str], bool]) -> str | None:
        """Return the best waiting trial that is among the best ``1/factor`` of all here and that is eligible."""
        if not self.waiting:
            return None
        best = self.ranking.top(int(len(self.ranking) / factor))
        return next((trial_id for trial_id in best if trial_id in self.waiting and eligible(trial_id)), None)

    def best_waiting(self, eligible: Callable[[str], bool]) -> str | None:
        """Return the best that waits here and is eligible."""
        return min(filter(eligible, self.waiting), key=self.ranking.place, default=None)
