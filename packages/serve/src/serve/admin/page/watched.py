"""What the status page needs of the controller."""

from __future__ import annotations

from typing import Protocol

from serve.metrics.report import Family
from serve.schema.live import Live


class Watched(Protocol):
    """What the page shows: the controller. Its methods run on the event loop that calls them."""

    async def metrics(self) -> list[Family]:
        """Return all numbers of all processes."""

    async def live(self, since: float = 0.0) -> Live:
        """Return everything as it is, and the points after a time."""

    async def log_tail(self, name: str, lines: int) -> list[str] | None:
        """Return the last lines of the log of a replica or proxy; None if none is known."""
