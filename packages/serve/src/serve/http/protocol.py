"""uvicorn's HTTP protocol with limits, deadlines, and the checks of a request's head that HTTP/1.1 demands.

uvicorn's parser (llhttp) refuses broken syntax. What it lets through and a server must not: no or several ``Host``
fields, unknown expectations and transfer codings, heads without end, clients that stop in the middle. Each gets the
status that RFC 9110 and 9112 name, at once, and costs no application anything.

A connection's requests stand in line: the first is being answered, the last may still be coming in. What answers them
(an application's `Cycle`; a proxy has its own kind) is made by `_make_turn`.

Deadlines are set only when a request does not arrive whole in one piece, and one timer watches for idleness, however
many requests there are; so the usual request pays for no timer.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from serve.http.cycle import CYCLE, Cycle
from serve.http.limits import Refused, RequestLimits
from serve.metrics.observer import Observer

#: RFC 3986 host and port, without user information
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?")
_LONG = re.compile(rb"[0-9]{1,18}")
#: what scopes say of ASGI. From 2.4 on, sending to a client that left raises, which spares streams a second task
_ASGI = {"version": "3.0", "spec_version": "2.4"}


class Turn(Protocol):
    """One request in a connection's line, and what answers it."""

    #: something of the answer was sent; all of it was; the connection lives on after it
    started: bool
    complete: bool
    keep_alive: bool

    def start(self) -> None:
        """Begin to answer: whatever was before it in line is answered."""

    def feed(self, body: bytes) -> None:
        """Take a piece of the request's body."""

    def feed_end(self) -> None:
        """The request is whole."""

    def client_gone(self) -> None:
        """The client has closed the connection, or will not be answered any more."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: uvicorn's.
        _loop: uvicorn's.
        limits: what clients may ask for.
        observer: is told of what is refused before it is a request; None for nobody.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: RequestLimits,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._observer = observer
        #: the requests that are not answered whole, oldest first
        self._line: deque[Turn] = deque()
        #: the request whose body is coming in
        self._receiving: Turn | None = None
        #: the first in line has to be started once all that has come is parsed
        self._start_due = False
        #: bytes of the current head, bytes of the current body
        self._head_bytes = 0
        self._body_bytes = 0
        #: between the first byte of a request and the end of its head; between that and the end of its body
        self._in_head = False
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        #: when the connection became idle (None: it is not), how long it may be, and the timer that looks
        self._idle_since: float | None = None
        self._idle_limit = limits.idle_timeout_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._draining = False
        #: uvicorn's default header fields, and the same as they are sent
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_head = b""

    # -- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin, and wait for a first request."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._be_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; the requests in line learn of it."""
        self._unset_deadline()
        self._unset_idle()
        self.connections.discard(self)
        self.flow.resume_writing()
        self._drop_line()
        self.parser = None  # type: ignore[assignment]  # it refers to this protocol

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what must not be served."""
        if self._refused:
            return
        if self._deadline is not None and not self._in_head:
            self._unset_deadline()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._unset_deadline()
                self._unset_idle()
                self.handle_websocket_upgrade()
                return
        except httptools.HttpParserError as error:
            cause = error.__context__
            refused = cause if isinstance(cause, Refused) else Refused(400, f"bad request: {_reason(error)}")
            self._refuse(refused)
            return
        if self._start_due:
            self._start_due = False
            self._line[0].start()
        if self._in_head or self._in_body:
            self._set_deadline()

    def shutdown(self) -> None:
        """End after the answers in progress (uvicorn's hook)."""
        if self._line:
            self._line[-1].keep_alive = False
        else:
            self.transport.close()

    @property
    def in_line(self) -> int:
        """The number of requests that are not answered whole."""
        return len(self._line)

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        if self._in_head:
            # counts from the request's first byte, however slowly the rest drips
            if self._deadline is None:
                self._deadline = self.loop.call_later(self._limits.header_timeout_s, self._head_too_slow)
        else:
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

    def _be_idle(self) -> None:
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self._idle_limit, self._look_idle)

    def _look_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return  # the next idleness sets it again
        left = self._idle_since + self._idle_limit - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._look_idle)
        else:
            self.transport.close()

    def _unset_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    # -- the parser's callbacks; an exception from here reaches data_received as the context of the parser's own ------

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = self._body_bytes = 0
        self._in_head = True
        self._idle_since = None  # not before: line ends between requests are idleness, too

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self.url += url
        if len(self.url) > self._limits.target_bytes:
            raise Refused(414, f"the request's target is longer than {self._limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        self.headers.append((name.lower(), value))
        self._head_bytes += len(name) + len(value)
        limits = self._limits
        if self._head_bytes > limits.header_bytes or len(self.headers) > limits.headers:
            raise Refused(431, f"the header has more than {limits.headers} fields or {limits.header_bytes} bytes")

    def on_headers_complete(self) -> None:
        """The head is whole: check it, then get in line."""
        self._in_head = False
        self._in_body = True
        self._unset_deadline()
        parser = self.parser
        version = parser.get_http_version()
        method = parser.get_method()
        target = self._check_head(version, method)
        if parser.should_upgrade() and self._should_upgrade():
            self.scope = {"method": method.decode(), "headers": self.headers}  # type: ignore[typeddict-item]
            self._receiving = None
            return
        keep_alive = version != "1.0" and parser.should_keep_alive() and not self._draining
        turn = self._make_turn(method, target, version, keep_alive)
        self._receiving = turn
        self._line.append(turn)
        if len(self._line) == 1:
            self._start_due = True
        else:
            self.flow.pause_reading()  # no more than one read ahead

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        limit = self._limits.body_bytes
        if limit is not None and self._body_bytes > limit:
            raise Refused(413, f"the request's body is longer than {limit} bytes")
        if self._receiving is not None:
            self._receiving.feed(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_body = False
        self._unset_deadline()
        turn, self._receiving = self._receiving, None
        if turn is not None:
            turn.feed_end()
            if turn.complete and not self._line:
                self._be_idle()  # it was answered before it was whole

    def _make_turn(self, method: bytes, target: Any, version: str, keep_alive: bool) -> Turn:
        """Return what answers the request whose head is whole; a subclass may answer in another way."""
        path = target.path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        root_path = self.root_path
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": root_path,
            "path": root_path + path,
            "raw_path": root_path.encode("ascii") + target.path,
            "query_string": target.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        cycle = Cycle(self, scope, keep_alive=keep_alive, expects=self.expect_100_continue)
        scope[CYCLE] = cycle
        return cycle

    # -- the checks ---------------------------------------------------------------------------------------------------

    def _check_head(self, version: str, method: bytes) -> Any:
        if version not in ("1.1", "1.0"):
            raise Refused(505, f"HTTP/{version} is not spoken here; HTTP/1.1 is")
        if method == b"CONNECT":
            raise Refused(501, "CONNECT is not served")
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
                if not _HOST.fullmatch(value):
                    raise Refused(400, "the Host field is not a host")
            elif name == b"content-length":
                self._check_length(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise Refused(501, "the only transfer coding understood here is chunked")
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise Refused(417, "the only expectation understood here is 100-continue")
                self.expect_100_continue = version != "1.0"
        if hosts > 1 or (not hosts and version == "1.1"):
            raise Refused(400, "a request of HTTP/1.1 has exactly one Host field")
        return self._check_target()

    def _check_length(self, value: bytes) -> None:
        if not _LONG.fullmatch(value):
            raise Refused(400, "the Content-Length field is not a length")
        limit = self._limits.body_bytes
        if limit is not None and int(value) > limit:
            raise Refused(413, f"the request's body is longer than {limit} bytes")

    def _check_target(self) -> Any:
        try:
            target = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            target = None
        if target is None or not target.path or not target.path.isascii() or not target.path.startswith(b"/"):
            raise Refused(400, "the request's target is not a path")
        return target

    # -- answers ------------------------------------------------------------------------------------------------------

    @property
    def default_head(self) -> bytes:
        """The header fields that every answer has, as they are sent."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:  # uvicorn makes new ones each second, for the date
            self._default_headers = headers
            self._default_head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return self._default_head

    def answered(self, turn: Turn) -> None:
        """The first in line is answered whole (called by itself)."""
        self._line.popleft()
        self.server_state.total_requests += 1
        if not turn.keep_alive:
            self.transport.close()
            return
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._line:
            self._line[0].start()
            return
        if self._idle_limit != self.timeout_keep_alive:
            self._idle_limit = self.timeout_keep_alive
            self._unset_idle()
        if not self._in_head and not self._in_body:
            self._be_idle()

    # -- draining -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Answer the request in progress, or else one more, and say with it that the connection ends."""
        self._draining = True
        if self._line:
            self._line[-1].keep_alive = False

    # -- refusing -----------------------------------------------------------------------------------------------------

    def _refuse(self, refused: Refused) -> None:
        """Answer in place of the application and close, unless an answer has begun: then only close."""
        self._refused = True
        self._unset_deadline()
        if self.transport.is_closing():
            return
        if self._observer is not None:
            self._observer.refused(self.client, refused.status, refused.text)
        late = self._in_body and self._receiving is not None and self._receiving.complete
        begun = late or any(turn.started for turn in self._line)
        self._drop_line()
        if not begun:
            self.transport.write(_answer(refused, self.default_head))
        self.transport.close()

    def _drop_line(self) -> None:
        """Nobody in line will be answered any more."""
        dropped, self._line = self._line, deque()
        self._receiving = None
        for turn in dropped:
            turn.client_gone()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 (uvicorn's hook)."""
        self._refuse(Refused(400, msg))


def _reason(error: BaseException) -> str:
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    return text.encode("ascii", "replace").decode()


def _answer(refused: Refused, default_head: bytes) -> bytes:
    body = f"{refused.text}\n".encode()
    length = str(len(body)).encode()
    head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: " + length + b"\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[refused.status] + default_head + head + body
