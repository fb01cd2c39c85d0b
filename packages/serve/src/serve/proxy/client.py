"""Whom an exchange answers: a client's connection, or nobody."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from serve.proxy.request import RequestHead


class Client(Protocol):
    """The connection that a request came on, as far as its exchange uses it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: Any
    client: tuple[str, int] | None

    @property
    def default_head(self) -> bytes:
        """The header fields that every answer of this process has."""

    @property
    def origin(self) -> bytes:
        """The line that tells a replica whom the request comes from."""

    def observed_scope(self, head: RequestHead) -> dict[str, Any]:
        """Return what metrics and logs know of a request, as in ASGI."""

    def answered(self, turn: Any) -> None:
        """The answer went out whole."""


class Nobody:
    """Who gets the answers to copies of requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: Any = self
        self.flow: Any = self
        self.default_head = b""
        self.origin = b""
        self.client: tuple[str, int] | None = None

    def write(self, data: bytes) -> None:
        """Throw away."""

    def abort(self) -> None:
        """There is nothing to close."""

    def pause_reading(self) -> None:
        """There is nothing to read."""

    def resume_reading(self) -> None:
        """There is nothing to read."""

    def observed_scope(self, head: RequestHead) -> dict[str, Any]:
        """Tell nothing."""
        return {"method": head.method.decode("ascii")}

    def answered(self, turn: Any) -> None:
        """Forget the answer."""
