"""uvicorn's HTTP protocol with limits, deadlines, and the checks of a request's head that HTTP/1.1 demands.

uvicorn's parser (llhttp) refuses broken syntax. What it lets through and a server must not: no or several ``Host``
fields, unknown expectations and transfer codings, heads without end, clients that stop in the middle. Each gets the
status that RFC 9110 and 9112 name, at once, and costs no application anything.

Timers are set only when a request does not arrive whole in one piece, so the usual request pays for none.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serve.http.corked import CorkedTransport
from serve.http.limits import Refused, RequestLimits

#: RFC 3986 host and port, without user information
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?")
_LONG = re.compile(rb"[0-9]{1,18}")


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: uvicorn's.
        _loop: uvicorn's.
        limits: what clients may ask for.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: RequestLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        #: bytes of the current head, header fields of it, bytes of the current body
        self._head_bytes = 0
        self._body_bytes = 0
        #: between the first byte of a request and the end of its head; between that and the end of its body
        self._in_head = False
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False
        self._draining = False

    # -- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin, and wait for a first request."""
        super().connection_made(CorkedTransport(transport, self.loop))
        self._deadline = self.loop.call_later(self._limits.idle_timeout_s, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._unset_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what must not be served."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        if self._deadline is not None and not self._in_head:
            self._unset_deadline()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._unset_deadline()
                self.handle_websocket_upgrade()
                return
        except httptools.HttpParserError as error:
            cause = error.__context__
            refused = cause if isinstance(cause, Refused) else Refused(400, f"bad request: {_reason(error)}")
            self._refuse(refused)
            return
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._in_head:
            # counts from the request's first byte, however slowly the rest drips
            if self._deadline is None:
                self._deadline = self.loop.call_later(self._limits.header_timeout_s, self._head_too_slow)
        elif self._in_body:
            self._deadline = self.loop.call_later(self._limits.body_timeout_s, self._body_too_slow)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_too_slow(self) -> None:
        self._deadline = None
        self._refuse(Refused(408, f"the request's head took longer than {self._limits.header_timeout_s:g} s"))

    def _body_too_slow(self) -> None:
        self._deadline = None
        if self.flow.read_paused:  # it is we who do not read
            self._deadline = self.loop.call_later(self._limits.body_timeout_s, self._body_too_slow)
            return
        self._refuse(Refused(408, f"nothing of the request's body came for {self._limits.body_timeout_s:g} s"))

    # -- the parser's callbacks; an exception from here reaches data_received as the context of the parser's own ------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = self._body_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        super().on_url(url)
        if len(self.url) > self._limits.target_bytes:
            raise Refused(414, f"the request's target is longer than {self._limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        limits = self._limits
        if self._head_bytes > limits.header_bytes or len(self.headers) > limits.headers:
            raise Refused(431, f"the header has more than {limits.headers} fields or {limits.header_bytes} bytes")

    def on_headers_complete(self) -> None:
        """The head is whole: check it, then start the application."""
        self._in_head = False
        self._in_body = True
        self._unset_deadline()
        self._check_head()
        super().on_headers_complete()
        if self._draining:
            self._announce_end()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        limit = self._limits.body_bytes
        if limit is not None and self._body_bytes > limit:
            raise Refused(413, f"the request's body is longer than {limit} bytes")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_body = False
        self._unset_deadline()
        super().on_message_complete()

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(505, f"HTTP/{version} is not spoken here; HTTP/1.1 is")
        if self.parser.get_method() == b"CONNECT":
            raise Refused(501, "CONNECT is not served")
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
                if not _HOST.fullmatch(value):
                    raise Refused(400, "the Host field is not a host")
            elif name == b"content-length":
                self._check_length(value)
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                raise Refused(501, "the only transfer coding understood here is chunked")
            elif name == b"expect" and value.lower() != b"100-continue":
                raise Refused(417, "the only expectation understood here is 100-continue")
        if hosts > 1 or (not hosts and version == "1.1"):
            raise Refused(400, "a request of HTTP/1.1 has exactly one Host field")
        self._check_target()

    def _check_length(self, value: bytes) -> None:
        if not _LONG.fullmatch(value):
            raise Refused(400, "the Content-Length field is not a length")
        limit = self._limits.body_bytes
        if limit is not None and int(value) > limit:
            raise Refused(413, f"the request's body is longer than {limit} bytes")

    def _check_target(self) -> None:
        try:
            path = httptools.parse_url(self.url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        if path is None or not path.isascii() or not path.startswith(b"/"):
            raise Refused(400, "the request's target is not a path")

    # -- draining -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Answer the request in progress, or else one more, and say with it that the connection ends."""
        self._draining = True
        cycle: Any = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._announce_end()

    def _announce_end(self) -> None:
        if self.cycle.response_started:
            self.cycle.keep_alive = False
        else:
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

    # -- refusing -----------------------------------------------------------------------------------------------------

    def _refuse(self, refused: Refused) -> None:
        """Answer in place of the application and close, unless an answer has begun: then only close."""
        self._refused = True
        self._unset_deadline()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's annotation says
        answering = cycle is not None and not cycle.response_complete
        if answering:
            cycle.disconnected = True  # the application learns that the client is gone
            cycle.message_event.set()
        if not (answering and cycle.response_started):
            self.transport.write(_answer(refused, self.server_state.default_headers))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 (uvicorn's hook)."""
        self._refuse(Refused(400, msg))


def _reason(error: BaseException) -> str:
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    return text.encode("ascii", "replace").decode()


def _answer(refused: Refused, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    body = f"{refused.text}\n".encode()
    fields = [
        *default_headers,
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    return STATUS_LINE[refused.status] + head + b"\r\n" + body
