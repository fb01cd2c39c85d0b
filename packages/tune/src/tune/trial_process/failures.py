"""What a trial raised, as a `TrialFailure`: text that needs no class of the user's to be read."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

import cloudpickle

from tune.trial import FailureKind, TrialFailure
from tune.trial_process.metrics import UnpicklableMetricError

#: Frames of files below are ours: left out above the user's first.
_OURS = str(Path(__file__).resolve().parent)


def failure_of(error: BaseException) -> TrialFailure:
    """Describe what user code raised. Never raises."""
    kind = FailureKind.UNPICKLABLE if isinstance(error, UnpicklableMetricError) else FailureKind.RAISED
    return TrialFailure(kind, _type_name(type(error)), _message(error), _traceback(error), _pickled(error))


def _type_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) was called"
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001 - the user's __str__
        return f"(its __str__ raised {type(problem).__name__})"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, _users_frames(error.__traceback__)))
    except Exception:  # noqa: BLE001 - formatting calls the user's __str__ and __repr__
        return "".join(traceback.format_tb(error.__traceback__))


def _users_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames from the first on that is not ours; all if all are."""
    frame = frames
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    return frame or frames


def _pickled(error: BaseException) -> bytes | None:
    """Return the pickled exception if it comes back from it as what it was."""
    try:
        blob: bytes = cloudpickle.dumps(error, protocol=5)
        return blob if type(cloudpickle.loads(blob)).__name__ == type(error).__name__ else None
    except Exception:  # noqa: BLE001 - the exception's own __reduce__ or __init__
        return None
