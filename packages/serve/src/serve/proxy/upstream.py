"""Connections from a proxy to the replicas' Unix sockets, kept alive and used again.

Not an HTTP client library: the proxy knows both ends. A request is bytes written to a socket; the bytes of an answer go
on to the client as they come, and httptools (llhttp) looks along to find the head and the end. So the cost of a proxied
request is that of its system calls and of parsing it, and the chunks of a stream are not taken apart.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from typing import Protocol, cast

import httptools

from serve.http.cycle import BODILESS

#: bytes that the head of an answer may have
HEAD_BYTES = 1 << 20
#: idle connections kept for each replica
KEEP = 64


class UpstreamError(Exception):
    """The replica's connection broke, or could not be made.

    Args:
        text: what happened.
        reached: whether the replica may have seen the request.
        gone: whether nobody accepts connections there any more.
    """

    def __init__(self, text: str, *, reached: bool, gone: bool = False) -> None:
        super().__init__(text)
        self.reached = reached
        self.gone = gone


class User(Protocol):
    """Who sent a request over a connection, and is told of the answer."""

    def head_came(self, upstream: Upstream, data: bytes) -> None:
        """The head is whole (`Upstream.status`, `Upstream.headers`); `data` begins with it."""

    def body_came(self, data: bytes) -> None:
        """More of the body came, as it was sent: in chunks, if it is."""

    def answer_ended(self, upstream: Upstream) -> None:
        """The answer is whole; the connection belongs to the user until he gives it back to the pool."""

    def failed(self, error: UpstreamError) -> None:
        """The answer will not come, or not whole. The connection is closed."""

    def upstream_full(self) -> None:
        """The replica does not keep up with the request's body."""

    def upstream_free(self) -> None:
        """It does again."""


class Upstream(asyncio.Protocol):
    """One connection to one replica; one request at a time."""

    def __init__(self) -> None:
        #: of the answer
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        #: the connection can take another request
        self.reusable = True
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._user: User | None = None
        #: the answer's head, as far as it has come; None once it was passed on
        self._head: bytes | None = None
        self._headed = False
        self._whole = False
        #: the answer has no body whatever its head says; its body has a length or comes in chunks
        self._bodiless = False
        self._framed = False

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Follow a piece of an answer, and pass it on."""
        user, parser = self._user, self._parser
        if user is None or parser is None:
            self.close()  # a replica says nothing unasked
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError(f"the replica's answer is not HTTP: {error}", reached=True))
            return
        if self._head is None:
            user.body_came(data)
        else:
            head = self._head + data
            if not self._headed:
                self._head = head
                if len(head) > HEAD_BYTES:
                    self._fail(UpstreamError("the head of the replica's answer has no end", reached=True))
                return
            self._head = None
            user.head_came(self, head)
        if self._whole:
            self._end(user)

    def _end(self, user: User) -> None:
        if self._bodiless:
            self._parser = None  # it may wait for a body
        if self._user is user:
            self._user = None
            user.answer_ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: of an answer without a length, or of a request that fails."""
        self.reusable = False
        self._transport = self._parser = None
        user = self._user
        if user is None:
            return
        if self._headed and not self._framed:
            self._end(user)
        else:
            self._fail(UpstreamError("the replica closed the connection", reached=True))

    def _fail(self, error: UpstreamError) -> None:
        user, self._user = self._user, None
        self.close()
        if user is not None:
            user.failed(error)

    def pause_writing(self) -> None:
        """The replica does not keep up with the request's body."""
        if self._user is not None:
            self._user.upstream_full()

    def resume_writing(self) -> None:
        """It does again."""
        if self._user is not None:
            self._user.upstream_free()

    # -- the parser's callbacks ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field of the answer."""
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of the answer."""
        parser = self._parser
        assert parser is not None
        self.status = parser.get_status_code()
        if self.status < 200:
            raise ValueError("an interim answer, which no replica of ours gives")
        self._headed = True
        if self.status in BODILESS:
            self._framed = True
        if self._bodiless:
            self._whole = self._framed = True
            self.reusable = self.reusable and parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        parser = self._parser
        assert parser is not None
        self._whole = True
        self.reusable = self.reusable and parser.should_keep_alive()

    # -- one request --------------------------------------------------------------------------------------------------

    def begin(self, user: User, request: bytes, *, bodiless: bool) -> None:
        """Send the head of a request, and whatever of its body is at hand.

        Args:
            user: is told of the answer.
            request: the bytes.
            bodiless: the answer has no body: to HEAD.

        Raises:
            UpstreamError: the replica has closed the connection.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UpstreamError("the replica closed the connection", reached=False)
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self.headers = []
        self._head = b""
        self._headed = self._whole = self._framed = False
        self._bodiless = bodiless
        self._user = user
        transport.write(request)

    def send(self, data: bytes) -> None:
        """Send more of the request's body."""
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        """Read no more of the answer for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def leave(self) -> None:
        """Close; the user wants to hear no more, and the replica's application sees its client go."""
        self._user = None
        self.close()

    def close(self) -> None:
        """Close."""
        self.reusable = False
        if self._transport is not None:
            self._transport.close()


class Pool:
    """Idle connections to replicas, by the path of their socket."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Upstream]] = {}

    def take(self, path: str) -> Upstream | None:
        """Return an idle connection; None if there is none."""
        idle = self._idle.get(path)
        while idle:
            upstream = idle.pop()
            if upstream.reusable:
                return upstream
        return None

    async def connect(self, path: str) -> Upstream:
        """Return a new connection.

        Raises:
            UpstreamError: the replica does not accept connections.
        """
        try:
            _, upstream = await asyncio.get_running_loop().create_unix_connection(Upstream, path)
        except OSError as error:
            gone = error.errno in (errno.ECONNREFUSED, errno.ENOENT)
            text = f"the replica does not accept connections: {error.strerror}"
            raise UpstreamError(text, reached=False, gone=gone) from error
        return upstream

    def put(self, path: str, upstream: Upstream) -> None:
        """Take a connection back whose answer is whole."""
        idle = self._idle.setdefault(path, [])
        if upstream.reusable and len(idle) < KEEP:
            idle.append(upstream)
        else:
            upstream.close()

    def drop(self, path: str) -> None:
        """Close the idle connections to one replica: another one to it broke."""
        for upstream in self._idle.pop(path, ()):
            upstream.close()

    def keep_only(self, paths: Iterable[str]) -> None:
        """Close the idle connections to replicas that are gone."""
        known = set(paths)
        for path in [path for path in self._idle if path not in known]:
            self.drop(path)

    def close(self) -> None:
        """Close all idle connections."""
        self.keep_only(())


class Tunnel(asyncio.Protocol):
    """One direction of a connection that has left HTTP (WebSocket): what comes here is written there."""

    def __init__(self, other: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self._other = other
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        #: how what came here begins, and its bytes
        self.first = b""
        self.passed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if not self.passed:
            self.first = data[:12]
        self.passed += len(data)
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
