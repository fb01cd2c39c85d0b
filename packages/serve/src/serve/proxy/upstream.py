"""Connections from a proxy to the replicas' Unix sockets, kept alive and used again.

Not an HTTP client library: the proxy knows both ends, so a request is a head and pieces of a body written to a
socket, and an answer is what httptools (llhttp) parses out of it. That is what keeps the cost of a proxied request a
fraction of a served one's.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterable
from typing import cast

import httptools

#: bytes of an answer that wait for a slow client before the replica is made to wait too
HIGH_WATER = 256 * 1024
#: idle connections kept for each replica
KEEP = 64


class UpstreamError(Exception):
    """The replica's connection broke. `reached` tells whether it may have seen the request."""

    def __init__(self, text: str, *, reached: bool) -> None:
        super().__init__(text)
        self.reached = reached


class Answer:
    """The head of a replica's answer."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers


class Upstream(asyncio.Protocol):
    """One connection to one replica; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._answer: Answer | None = None
        self._pieces: collections.deque[bytes] = collections.deque()
        self._held = 0
        self._complete = True
        self._error: BaseException | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        #: whether anything of the current request may have reached the replica's code
        self.reached = False
        #: whether the connection can take another request
        self.reusable = True

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of an answer."""
        if self._parser is None:
            self.close()  # a replica says nothing unasked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError(f"the replica's answer is not HTTP: {error}", reached=True))

    def connection_lost(self, exc: Exception | None) -> None:
        """End: of an answer without a length, or of a request that fails."""
        self.reusable = False
        self._transport = None
        if not self._complete:
            self._fail(UpstreamError("the replica closed the connection", reached=self.reached))
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def pause_writing(self) -> None:
        """The replica does not keep up with the request's body."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- the parser's callbacks ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field of the answer."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head of the answer."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if status < 200 and status != 101:  # an interim answer; the real one follows
            self._headers = []
            return
        self._answer = Answer(status, self._headers)
        self._wake()

    def on_body(self, body: bytes) -> None:
        """A piece of the answer's body."""
        self._pieces.append(body)
        self._held += len(body)
        if self._held > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._answer is None:
            return
        parser = self._parser
        assert parser is not None
        self._complete = True
        self.reusable = self.reusable and parser.should_keep_alive()
        self._wake()

    # -- one request --------------------------------------------------------------------------------------------------

    def begin(self, head: bytes) -> None:
        """Send the head of a request (and whatever of the body is at hand)."""
        if self._transport is None or self._transport.is_closing():
            raise UpstreamError("the replica closed the connection", reached=False)
        self._parser = httptools.HttpResponseParser(self)
        self._headers = []
        self._answer = None
        self._complete = False
        self._error = None
        self._held = 0
        self._pieces.clear()
        self.reached = True
        self._transport.write(head)

    async def send(self, data: bytes) -> None:
        """Send a piece of the body, as fast as the replica takes it."""
        if self._writable is not None:
            await self._writable
        if self._transport is None:
            raise self._error or UpstreamError("the replica closed the connection", reached=True)
        self._transport.write(data)

    async def answer(self) -> Answer:
        """Wait for the head of the answer.

        Raises:
            UpstreamError: it will not come.
        """
        while self._answer is None:
            await self._wait()
        return self._answer

    def take(self) -> tuple[bytes, bool]:
        """Return what there is of the answer's body, and whether more will come."""
        body = b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        self._pieces.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return body, not self._complete

    async def more(self) -> None:
        """Wait until there is something to `take`."""
        while not self._pieces and not self._complete:
            await self._wait()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        wakeup = self._wakeup = asyncio.get_running_loop().create_future()
        try:
            await wakeup
        finally:
            if self._wakeup is wakeup:  # a cancelled waiter may leave after the next has come
                self._wakeup = None
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.close()
        self._wake()

    def close(self) -> None:
        """Close; the replica's application sees its client go."""
        self.reusable = False
        if self._transport is not None:
            self._transport.close()


class Pool:
    """Idle connections to replicas, by the path of their socket."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Upstream]] = {}

    async def get(self, path: str) -> Upstream:
        """Return a connection that nobody uses.

        Raises:
            UpstreamError: the replica does not accept connections (any more).
        """
        idle = self._idle.get(path)
        while idle:
            upstream = idle.pop()
            if upstream.reusable:
                return upstream
        try:
            _, upstream = await asyncio.get_running_loop().create_unix_connection(Upstream, path)
        except OSError as error:
            raise UpstreamError(f"the replica does not accept connections: {error.strerror}", reached=False) from error
        return upstream

    def put(self, path: str, upstream: Upstream) -> None:
        """Take a connection back whose answer is whole."""
        idle = self._idle.setdefault(path, [])
        if upstream.reusable and len(idle) < KEEP:
            idle.append(upstream)
        else:
            upstream.close()

    def keep_only(self, paths: Iterable[str]) -> None:
        """Close the idle connections to replicas that are gone."""
        known = set(paths)
        for path in [path for path in self._idle if path not in known]:
            for upstream in self._idle.pop(path):
                upstream.close()

    def close(self) -> None:
        """Close all idle connections."""
        self.keep_only(())


class Tunnel(asyncio.Protocol):
    """One direction of a connection that has left HTTP (WebSocket): what comes here is written there."""

    def __init__(self, other: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self._other = other
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if not self._other.is_closing():
            self._other.write(data)

    def pause_writing(self) -> None:
        """This side is slow: do not read the other."""
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        """This side keeps up again."""
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """One side is gone, so the other goes too."""
        self._other.close()
        self._on_close()
