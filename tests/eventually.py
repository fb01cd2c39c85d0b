"""The one place where tests poll: a deadline instead of a guess at how long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks.
INTERVAL = 0.01


def eventually(predicate: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """Return the first true value of ``predicate``.

    Args:
        predicate: called again and again.
        timeout: seconds after which it is a failure; generous, since only a failing test waits that long.
        what: what is waited for, for the message; the predicate's name by default.

    Raises:
        AssertionError: the deadline passed.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            name = what or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"not within {timeout:g} s: {name} (last value: {value!r})")
        time.sleep(INTERVAL)
