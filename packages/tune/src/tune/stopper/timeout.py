"""The whole sweep ends after so many seconds."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

from tune.argument_checks import seconds
from tune.stopper.base import Stopper
from tune.trial import Result


class TimeoutStopper(Stopper):
    """End the whole sweep after a time. It is not a limit of single trials: that is ``trial_time_limit_s``.

    The time runs from the first question; what was used up before a crash of the driver counts after a resume, the
    time in between does not.

    Args:
        timeout: seconds, or a ``datetime.timedelta``.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, timeout: float | datetime.timedelta, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds("timeout", timeout)
        self._clock = clock
        self._asked: float | None = None

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Return False: no single trial ends by this rule."""
        return False

    def stop_all(self) -> bool:
        """Tell whether the time is up."""
        now = self._clock()
        if self._asked is not None:
            self._left -= now - self._asked
        self._asked = now
        return self._left <= 0

    def bounds(self) -> dict[str, float]:
        """Return no bounds: trials need not wait for this rule."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_asked": None}  # another process's clock starts anew
