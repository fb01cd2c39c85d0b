"""No scheduling: every trial runs to its end, in order."""

from __future__ import annotations

from tune.schedulers.base import TrialScheduler


class FIFOScheduler(TrialScheduler):
    """Lets every trial run to its end, in the order they were suggested. Trials never wait for it."""

    def __init__(self) -> None:
        super().__init__()

    def debug_string(self) -> str:
        """Return one line about the state."""
        return "FIFO"
