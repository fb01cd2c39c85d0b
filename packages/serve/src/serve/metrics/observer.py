"""Who wants to know of every request: the numbers and the access log of a process.

Whoever serves HTTP tells an observer of each answer, once, after its last byte was handed to the connection.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from serve.metrics.requests import Requests

Scope = MutableMapping[str, Any]


class AccessLog(Protocol):
    """Where a line for each request goes. Must not block."""

    def write(
        self,
        scope: Scope,
        application: str,
        route: str,
        request_id: str,
        status: int,
        sent: int,
        seconds: float,
        replica: str = "",
    ) -> None:
        """Note a request."""

    def refused(self, client: tuple[str, int] | None, status: int, reason: str) -> None:
        """Note what was refused before it was a request."""


class Observer:
    """Tells the numbers and the access log of one process.

    Args:
        log: writes them down; None for nowhere.
    """

    def __init__(self, log: AccessLog | None = None) -> None:
        #: those that were for an application to answer
        self.requests = Requests()
        #: those that were answered in its place
        self.refusals = Requests()
        #: may be changed
        self.log = log

    def answered(
        self,
        scope: Scope,
        application: str,
        route: str,
        request_id: str,
        status: int,
        sent: int,
        seconds: float,
        error: BaseException | None = None,
        replica: str = "",
    ) -> None:
        """Learn of an answer.

        Args:
            scope: of the request (ASGI).
            application: that answered; empty if none did.
            route: pattern of the path as far as it is known, or the application's prefix.
            request_id: of the request.
            status: of the answer.
            sent: bytes of its body.
            seconds: it took, to the last byte.
            error: what the user's code raised.
            replica: that a proxy had it answered by.
        """
        exception = "" if error is None else type(error).__name__
        self.requests.ended((application, route, scope.get("method", "WEBSOCKET"), status, exception), seconds)
        if error is not None:
            self.requests.failed(request_id, route, error)
        if self.log is not None:
            self.log.write(scope, application, route, request_id, status, sent, seconds, replica)

    def turned_away(self, scope: Scope, application: str, route: str, request_id: str, status: int, sent: int) -> None:
        """Learn of a request that no application was given: there is none at its path, or no room."""
        self.refusals.ended((application, route, scope.get("method", "WEBSOCKET"), status, ""), 0.0)
        if self.log is not None:
            self.log.write(scope, application, route, request_id, status, sent, 0.0)

    def refused(self, client: tuple[str, int] | None, status: int, reason: str) -> None:
        """Learn of what was refused before it was a request: it breaks HTTP's rules, or a limit."""
        self.refusals.ended(("", "", "UNKNOWN", status, ""), 0.0)
        if self.log is not None:
            self.log.refused(client, status, reason)
