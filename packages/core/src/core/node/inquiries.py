"""Questions that only the processes of the session can answer together, such as which tasks there are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from msgspec import Struct

from core.node.connections import Server
from core.protocol import from_node, to_node

#: Seconds that the processes have; one that is stopped, or busy in C code, is left out.
PATIENCE = 1.0


class Report(Struct):
    """What one process told."""

    address: bytes
    message: to_node.Report


class _Inquiry(Struct):
    waiting_for: set[bytes]
    deadline: float
    done: Callable[[list[Report]], None]
    reports: list[Report]


class Inquiries:
    """Asks every driver and worker, and passes on what they told once all have, or when time is up.

    Args:
        server: the connections to them.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = count(1)
        self._open: dict[int, _Inquiry] = {}

    def start(self, what: str, done: Callable[[list[Report]], None], now: float) -> None:
        """Ask everybody; call ``done`` with the reports."""
        number = next(self._numbers)
        addresses = set(self._server.by_address)
        self._open[number] = _Inquiry(addresses, now + PATIENCE, done, [])
        for address in addresses:
            self._server.send(address, from_node.Inquiry(number, what))
        self._finish_if_complete(number)

    def answered(self, address: bytes, message: to_node.Report) -> None:
        """A process told."""
        inquiry = self._open.get(message.number)
        if inquiry is not None and address in inquiry.waiting_for:
            inquiry.waiting_for.discard(address)
            inquiry.reports.append(Report(address, message))
            self._finish_if_complete(message.number)

    def process_gone(self, address: bytes) -> None:
        """A process will not answer any more."""
        for number, inquiry in list(self._open.items()):
            inquiry.waiting_for.discard(address)
            self._finish_if_complete(number)

    @property
    def deadline(self) -> float | None:
        """When :meth:`expire` has something to do."""
        return min((inquiry.deadline for inquiry in self._open.values()), default=None)

    def expire(self, now: float) -> None:
        """Go on without those who did not answer in time."""
        for number, inquiry in list(self._open.items()):
            if inquiry.deadline <= now:
                inquiry.waiting_for.clear()
                self._finish_if_complete(number)

    def _finish_if_complete(self, number: int) -> None:
        if not self._open[number].waiting_for:
            inquiry = self._open.pop(number)
            inquiry.done(inquiry.reports)
