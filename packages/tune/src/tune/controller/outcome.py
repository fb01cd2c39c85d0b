"""What became of a sweep."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tune.trial import Trial


class EndReason(enum.StrEnum):
    """Why a sweep ended."""

    #: nothing more to do
    COMPLETE = "complete"
    #: ``time_budget_s`` was over
    TIME_BUDGET = "time_budget"
    #: the stopper said so for all
    STOPPER = "stopper"
    #: ``fail_fast``: a trial failed
    FAIL_FAST = "fail_fast"
    #: Ctrl-C, or SIGTERM; the sweep can be resumed
    INTERRUPTED = "interrupted"
    #: a callback, searcher, scheduler or stopper raised, or the backend was lost; the sweep can be resumed
    ERROR = "error"


@dataclass(frozen=True)
class SweepOutcome:
    """What became of a sweep."""

    directory: Path
    #: in order of creation, those of earlier runs included
    trials: Sequence[Trial]
    ended: EndReason
    #: seconds of this run
    wall_time_s: float
    #: what to raise, if anything: a CallbackError; with ``fail_fast="raise"`` the trial's own exception
    error: BaseException | None = None

    @property
    def failed(self) -> list[Trial]:
        """The trials that stand in an error."""
        return [trial for trial in self.trials if trial.status.errored]
