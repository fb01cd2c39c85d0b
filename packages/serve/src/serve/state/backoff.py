"""How long to wait before what failed is tried again: longer each time, forgotten after a while without failures."""

from __future__ import annotations

#: seconds before the second attempt; doubles from there
FIRST_S = 0.1
LONGEST_S = 10.0
#: seconds without a failure after which the next counts as the first again
FORGET_S = 60.0


class Backoff:
    """Counts failures in a row."""

    def __init__(self) -> None:
        self.failures = 0
        #: when the next attempt may begin, on the caller's clock
        self.until = 0.0
        self._last = 0.0

    def failed(self, now: float) -> None:
        """Note a failure. The first one costs no waiting."""
        if self.failures and now - max(self._last, self.until) > FORGET_S:
            self.failures = 0
        self.failures += 1
        self._last = now
        wait = 0.0 if self.failures == 1 else min(LONGEST_S, FIRST_S * 2.0 ** (self.failures - 2))
        self.until = now + wait

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0
        self.until = 0.0
