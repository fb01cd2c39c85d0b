"""One request that an ASGI application answers: what it receives, and what of its answer is sent when.

uvicorn's own sends an answer's head and its body one after the other, each with a system call of its own. Here the head
of an answer whose length is known waits for the body, which follows at once (ASGI allows that), and the pieces of a
stream that are made within one turn of the event loop go together. On a loopback connection a system call is a tenth of
what a small answer costs, and a stream of small pieces costs little else.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE

if TYPE_CHECKING:
    from serve.http.protocol import GuardedProtocol

#: where a scope has the cycle that it belongs to, for those that want to know what was sent
CYCLE = "serve.cycle"
#: bytes of a request's body that wait for the application before the client is made to wait
READ_AHEAD = 64 * 1024
#: bytes of a stream that are sent before the event loop's turn ends
GATHER = 64 * 1024
#: statuses whose answers have no body
BODILESS = (204, 304)

logger = logging.getLogger("uvicorn.error")


class Cycle:
    """See the module's docstring. A connection calls all that is not ASGI's.

    Args:
        protocol: the connection.
        scope: ASGI's.
        keep_alive: whether the connection lives on after the answer.
        expects: the client waits for ``100 Continue`` before it sends the body.
    """

    __slots__ = (
        "_chunked",
        "_ended",
        "_expects",
        "_gathered",
        "_head",
        "_left",
        "_message",
        "_news",
        "_pieces",
        "_protocol",
        "_waiting",
        "complete",
        "gone",
        "keep_alive",
        "keep_going",
        "more_head",
        "scope",
        "sent",
        "started",
        "status",
        "task",
    )

    def __init__(self, protocol: GuardedProtocol, scope: dict[str, Any], *, keep_alive: bool, expects: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        #: of the answer; 0 before there is one
        self.status = 0
        #: bytes of its body that were sent
        self.sent = 0
        #: header lines that are sent beside the application's
        self.more_head = b""
        #: something of the answer was sent
        self.started = False
        #: all of it was
        self.complete = False
        #: the client is
        self.gone = False
        #: the application may finish even so
        self.keep_going = False
        #: runs the application
        self.task: asyncio.Task[None] | None = None
        self._protocol = protocol
        self._expects = expects
        #: what has come of the body and was not received yet, and whether that is all of it
        self._message = bytearray()
        self._ended = False
        #: there is something to receive; somebody waits for that
        self._news = False
        self._waiting: asyncio.Future[None] | None = None
        #: of the answer: a head that is held back, pieces of a stream that are gathered, and their bytes
        self._head = b""
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._chunked = False
        #: bytes that the body of the answer still has, by its length
        self._left = 0

    # -- the connection -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the application."""
        protocol = self._protocol
        self.task = task = protocol.loop.create_task(self._run(protocol.app))
        protocol.tasks.add(task)
        task.add_done_callback(protocol.tasks.discard)

    def feed(self, body: bytes) -> None:
        """Take a piece of the request's body."""
        if self.complete:
            return
        self._message += body
        if len(self._message) > READ_AHEAD:
            self._protocol.flow.pause_reading()
        self._tell()

    def feed_end(self) -> None:
        """The request is whole."""
        self._ended = True
        self._tell()

    def client_gone(self) -> None:
        """The client has closed the connection, or will not be answered any more."""
        if not self.complete:
            self.gone = True
            self._tell()

    def _tell(self) -> None:
        self._news = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # -- the application ----------------------------------------------------------------------------------------------

    async def _run(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self.gone:
                await self._fail()
        except Exception as error:
            if not self.gone:  # what it raised because its client left interests nobody
                logger.error("Exception in ASGI application\n", exc_info=error)
                await self._fail()
        else:
            if not self.complete and not self.gone:
                logger.error("the ASGI application returned before its response was complete")
                await self._fail()

    async def _fail(self) -> None:
        """Answer 500, or cut off an answer that has begun; one that is whole (Starlette's own 500) stands."""
        if self.complete:
            return
        if self.started:
            self._flush()
            self._protocol.transport.close()
            return
        self.status = 0
        body = b"Internal Server Error"
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": fields})
        await self.send({"type": "http.response.body", "body": body})

    async def receive(self) -> dict[str, Any]:
        """Return the next piece of the request's body, or that the client is gone (ASGI)."""
        if self._expects and not self.started and not self._protocol.transport.is_closing():
            self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects = False
        self._protocol.flow.resume_reading()
        if not self._news and not self.complete:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        self._news = False
        if self.gone or self.complete:
            return {"type": "http.disconnect"}
        body, self._message = bytes(self._message), bytearray()
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    async def send(self, message: Any) -> None:
        """Send a piece of the answer (ASGI).

        Raises:
            OSError: the client is gone, so nothing more need be made.
            RuntimeError: the application breaks ASGI's rules, or a header field is none.
        """
        flow = self._protocol.flow
        if flow.write_paused and not self.gone:
            await flow.drain()
        if self.gone:
            if self.keep_going:
                return
            raise OSError("the client has closed the connection")
        if self.complete:
            raise RuntimeError(f"ASGI message {message['type']!r} after the response was complete")
        if not self.status:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"expected ASGI message 'http.response.start', but got {message['type']!r}")
            self._begin(message["status"], message.get("headers", ()))
        elif message["type"] != "http.response.body":
            raise RuntimeError(f"expected ASGI message 'http.response.body', but got {message['type']!r}")
        else:
            self._continue(message.get("body", b""), more=message.get("more_body", False))

    # -- the answer ---------------------------------------------------------------------------------------------------

    def _begin(self, status: int, fields: Any) -> None:
        parts = [STATUS_LINE[status], self._protocol.default_head, self.more_head]
        length: int | None = None
        chunked = closes = False
        for name, value in fields:
            if HEADER_RE.search(name):
                raise RuntimeError(f"{name!r} is no name of a header field")
            if HEADER_VALUE_RE.search(value):
                raise RuntimeError(f"{value!r} is no value of a header field")
            name = name.lower()  # noqa: PLW2901 - the same name
            if name == b"content-length" and not chunked:
                length = int(value)
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                length, chunked = None, True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, closes = False, True
            parts += (name, b": ", value, b"\r\n")
        if length is None and not chunked and status not in BODILESS and self.scope["method"] != "HEAD":
            if self.scope["http_version"] == "1.0":
                self.keep_alive = False  # the end of the connection is the end of the body
            else:
                chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not closes:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self.status = status
        self._chunked = chunked
        self._left = -1 if length is None else length
        self._head = b"".join(parts)
        if length is None:  # a stream may be long in coming: its head tells the client that it will
            self._gather(self._head)
            self._head = b""

    def _continue(self, body: bytes, *, more: bool) -> None:
        is_head = self.scope["method"] == "HEAD"
        if is_head:
            body = b""
        self.sent += len(body)
        if self._chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more and not is_head:
                body += b"0\r\n\r\n"
        elif self._left >= 0 and not is_head:
            if len(body) > self._left:
                raise RuntimeError("the response's body is longer than its Content-Length")
            self._left -= len(body)
            if not more and self._left:
                raise RuntimeError("the response's body is shorter than its Content-Length")
        if self._head:
            body, self._head = self._head + body, b""
        if self._pieces or (more and self._left < 0):
            self._gather(body)
        elif body:
            self.started = True
            self._protocol.transport.write(body)
        if not more:
            self._flush()
            self.complete = True
            self._tell()
            self._protocol.answered(self)

    def _gather(self, piece: bytes) -> None:
        self.started = True
        if not self._pieces:
            self._protocol.loop.call_soon(self._flush)
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= GATHER:
            self._flush()

    def _flush(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._gathered = self._pieces, [], 0
            if not self.gone:
                self._protocol.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
