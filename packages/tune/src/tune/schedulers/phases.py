"""Where a trial stands in the eyes of a scheduler that pauses: one table for all of them.

The status in `tune.trial` says what the controller has done so far; the phase says what the scheduler has decided,
which the controller carries out a little later. A trial whose phase is HELD may still be RUNNING for a moment.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from tune.schedulers.base import View
from tune.trial import TrialStatus


class Phase(enum.StrEnum):
    """What a scheduler has decided about a trial."""

    #: it runs, or starts when it gets a place
    ACTIVE = "active"
    #: it is paused and waits for a decision
    HELD = "held"
    #: it is paused and goes on when a place is free
    READY = "ready"
    #: it has ended, or is told to
    OVER = "over"


class Step(enum.StrEnum):
    """What happens to a trial's phase."""

    HOLD = "hold"
    RELEASE = "release"
    TAKE_UP = "take_up"
    END = "end"
    REOPEN = "reopen"


#: From a phase, by a step, to a phase. What is not here is a bug.
TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.ACTIVE, Step.HOLD): Phase.HELD,
    (Phase.HELD, Step.RELEASE): Phase.READY,
    (Phase.READY, Step.TAKE_UP): Phase.ACTIVE,
    # A trial that is ready can run already: it failed while paused, say, and was started again.
    (Phase.READY, Step.HOLD): Phase.HELD,
    (Phase.ACTIVE, Step.END): Phase.OVER,
    (Phase.HELD, Step.END): Phase.OVER,
    (Phase.READY, Step.END): Phase.OVER,
    (Phase.OVER, Step.END): Phase.OVER,
    (Phase.OVER, Step.REOPEN): Phase.READY,
}


class Phases:
    """The phases of all trials of a scheduler. Those that are over are forgotten."""

    def __init__(self) -> None:
        self._of: dict[str, Phase] = {}
        #: the trials in each phase, in the order they came to it
        self._in: dict[Phase, dict[str, None]] = {phase: {} for phase in Phase}

    def __getitem__(self, trial_id: str) -> Phase:
        return self._of.get(trial_id, Phase.OVER)

    def begin(self, trial_id: str) -> None:
        """Take up a new trial."""
        self._put(trial_id, Phase.ACTIVE)

    def step(self, trial_id: str, step: Step) -> None:
        """Move a trial.

        Raises:
            KeyError: the table does not have the transition.
        """
        phase = TRANSITIONS[self[trial_id], step]
        self._in[self[trial_id]].pop(trial_id, None)
        if phase is Phase.OVER:
            self._of.pop(trial_id, None)
        else:
            self._put(trial_id, phase)

    def all(self, phase: Phase) -> list[str]:
        """Return the trials in a phase other than OVER, in the order they came to it."""
        return list(self._in[phase])

    def any(self, phase: Phase) -> bool:
        """Tell whether a trial is in a phase other than OVER."""
        return bool(self._in[phase])

    def paused(self, phase: Phase, view: View) -> Iterator[str]:
        """Yield the trials in a phase whose process has been given back."""
        for trial_id in self._in[phase]:
            if trial_id in view.live and view.live[trial_id].status is TrialStatus.PAUSED:
                yield trial_id

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._of

    def _put(self, trial_id: str, phase: Phase) -> None:
        self._of[trial_id] = phase
        self._in[phase][trial_id] = None
