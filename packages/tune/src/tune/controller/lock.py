"""One driver at a time in an experiment's directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tune.errors import ExperimentInUseError

_NAME = "driver.lock"


class ExperimentLock:
    """A file lock that the kernel gives back when the process dies, however it dies.

    Args:
        directory: of the experiment.

    Raises:
        ExperimentInUseError: another process has it.
    """

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(self._file)
            os.close(self._file)
            raise ExperimentInUseError(
                f"the experiment in {directory} is being run by process {pid}; wait until it ends, or end it, "
                "or choose another name",
                pid,
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give it back. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def running_pid(directory: Path) -> int | None:
    """Return the process id of the driver that runs this experiment now, None if there is none."""
    try:
        file = os.open(directory / _NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(file)
    else:
        return None
    finally:
        os.close(file)


def _read_pid(file: int) -> int:
    text = os.pread(file, 32, 0)
    return int(text) if text.isdigit() else 0
