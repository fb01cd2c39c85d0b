"""What became of a trial whose process died: signal, exit code, last words."""

from __future__ import annotations

import signal

from core.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    OutOfMemoryError,
    RayError,
)
from tune.trial import FailureKind, TrialFailure

#: Errors that are the end of one process. Others are the end of the session.
OF_ONE_PROCESS = (ActorDiedError, ActorPlacementGroupRemoved, ActorUnschedulableError, OutOfMemoryError)


def failure_of_death(error: RayError, last_words: str) -> TrialFailure:
    """Describe a death.

    Args:
        error: one of `OF_ONE_PROCESS`.
        last_words: the last lines of the trial's own file of standard error; empty if it has none.
    """
    if isinstance(error, OutOfMemoryError):
        return TrialFailure(FailureKind.OUT_OF_MEMORY, "OutOfMemoryError", str(error), last_words)
    if not isinstance(error, ActorDiedError) or (not error.signal and error.exit_code is None):
        return TrialFailure(FailureKind.DIED, type(error).__name__, str(error), last_words)
    return TrialFailure(
        FailureKind.DIED,
        "ProcessDied",
        f"the trial's process (pid {error.pid}) {_how(error)} while it ran",
        last_words or error.stderr_tail,
    )


def _how(error: ActorDiedError) -> str:
    if not error.signal:
        return f"exited with code {error.exit_code}"
    try:
        return f"was ended by {signal.Signals(error.signal).name}"
    except ValueError:
        return f"was ended by signal {error.signal}"
