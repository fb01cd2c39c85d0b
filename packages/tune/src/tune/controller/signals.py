"""Ctrl-C and SIGTERM: asked for once, a sweep ends in order; Ctrl-C again ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: set to 1, the signals keep their usual meaning. Ray's name
_DISABLED = "TUNE_DISABLE_SIGINT_HANDLER"


class Interruption:
    """Whether somebody wants the sweep to end."""

    def __init__(self) -> None:
        self.wanted = False

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs. Signals reach only a process's main thread: elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread() or os.environ.get(_DISABLED) == "1":
            yield
            return
        before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
