"""A signal on its way to the main thread, sent again where once is not enough.

Once is not enough when the handler finds the main thread at a place where nothing may be raised; and when the signal
comes in the moment between a thread's letting go of the interpreter lock and its call to the kernel: the call then
blocks for as long as it likes, with the handler waiting for its end.
"""

from __future__ import annotations

import signal
import threading
import time
from math import inf

monotonic = time.monotonic

#: Seconds until a signal is sent again, doubled each time, and how often.
AGAIN_SECONDS = 0.003
AGAIN_TIMES = 12


class PendingSignal:
    """Nothing, or one signal to be sent; the handler may run between any two lines, which is why there is no lock."""

    def __init__(self) -> None:
        self._number = 0
        self._times = 0
        self._interval = AGAIN_SECONDS
        #: when to call :meth:`send` (monotonic seconds); infinity if never
        self.due = inf

    def send_later(self, number: int) -> None:
        """Send a signal once, a little later (called by its handler)."""
        self._number, self._times, self._interval = number, 1, AGAIN_SECONDS
        self.due = monotonic() + AGAIN_SECONDS

    def send_until_seen(self, number: int) -> None:
        """Send a signal now, and again until :meth:`seen` is called, as long as that makes sense."""
        self._number, self._times, self._interval = number, AGAIN_TIMES, AGAIN_SECONDS
        self.due = monotonic() + AGAIN_SECONDS
        _send(number)

    def seen(self) -> None:
        """The handler runs."""
        self.due = inf

    def send(self) -> None:
        """Send what is due."""
        self._times -= 1
        self._interval *= 2
        self.due = monotonic() + self._interval if self._times > 0 else inf
        _send(self._number)


def _send(number: int) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)
