"""Exceptions of tune that a user may want to catch.

::

    TuneError                     everything below
    ├── TrialFailedError          trials failed and the caller asked to hear of it
    ├── ExperimentInUseError      another process is running the same experiment
    ├── ExperimentNotFoundError   nothing to resume or to read in that directory
    ├── JournalError              the journal is not one of ours, or is damaged before its end
    └── CallbackError             a callback, a searcher, a scheduler or a stopper raised; `__cause__` has it

Wrong arguments are `TypeError` and `ValueError` at the call, as everywhere.
"""

from __future__ import annotations


class TuneError(Exception):
    """Base of tune's own exceptions. Ray's name."""


class TrialFailedError(TuneError):
    """One or more trials failed; `trial_ids` names them."""

    def __init__(self, message: str, trial_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.trial_ids = trial_ids


class ExperimentInUseError(TuneError):
    """Another living process runs this experiment; `pid` is its process id."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class ExperimentNotFoundError(TuneError):
    """There is no experiment in this directory."""


class JournalError(TuneError):
    """The journal cannot be read."""


class CallbackError(TuneError):
    """Code that the controller calls raised: `__cause__` is what it raised."""
