"""The way into a replica: counts requests, keeps to ``max_ongoing_requests``, and tells the code whom it answers.

Requests that come through a proxy or a handle have waited in line there; a replica that is full nevertheless (several
proxies do not know of each other) sends them back unread. Requests that come to the replica directly wait here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from serve.context import RequestContext, new_request_id, reset_request_context, set_request_context
from serve.errors import BackPressureError
from serve.gateway.line import PriorityLine
from serve.gateway.marks import KEY_NAME, RANK, VERDICT, App, Refused
from serve.http.cycle import CYCLE
from serve.http.headers import CLIENT, FULL, JUDGED, OURS, REVISION, ROOT_PATH
from serve.http.limit import TIMEOUT, time_limit
from serve.metrics.observer import Observer

_MODEL = b"serve_multiplexed_model_id"
#: where a scope has the time of the event loop at which its request is given up
_DEADLINE = "serve.deadline"


class Gate:
    """Counts the requests of one replica.

    Args:
        name: of the deployment, for messages.
        max_ongoing: requests at a time.
        max_queued: direct requests that may wait; -1 for any number.
        retry_after_s: what the refused are told.
        status_code: what the refused get.
    """

    def __init__(
        self, name: str, max_ongoing: int, max_queued: int = -1, retry_after_s: float = 1.0, status_code: int = 503
    ) -> None:
        self._name = name
        self.max_ongoing = max_ongoing
        self.max_queued = max_queued
        self.retry_after_s = retry_after_s
        self.status_code = status_code
        self.ongoing = 0
        #: requests that were let in since the start
        self.total = 0
        #: the most that were in at a time since the last look
        self.peak = 0
        #: what the application's lifespan left for its requests
        self.lifespan_state: dict[str, Any] = {}
        self._line: PriorityLine[asyncio.Future[None]] = PriorityLine()
        self._emptied: asyncio.Event | None = None

    @property
    def queued(self) -> int:
        """Requests that wait here."""
        return len(self._line)

    @property
    def full(self) -> bool:
        """Whether nobody more is let in."""
        return self.ongoing >= self.max_ongoing

    def enter(self) -> None:
        """Count a request in."""
        self.ongoing += 1
        self.total += 1
        self.peak = max(self.peak, self.ongoing)

    def leave(self) -> None:
        """Count a request out, and let the next one in."""
        self.ongoing -= 1
        self._let_in()
        if self._emptied is not None and not self.ongoing:
            self._emptied.set()

    def configure(self, max_ongoing: int, max_queued: int, retry_after_s: float, status_code: int) -> None:
        """Take over other options; who fits now is let in."""
        self.max_ongoing = max_ongoing
        self.max_queued = max_queued
        self.retry_after_s = retry_after_s
        self.status_code = status_code
        self._let_in()

    def _let_in(self) -> None:
        """Let those in who fit, in the order of the line."""
        while self._line and not self.full:
            waiting = self._line.pop()
            if not waiting.done():
                self.enter()
                waiting.set_result(None)

    async def empty(self) -> None:
        """Wait until nobody is in or in line."""
        if self.ongoing:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def order(self, ageing_s: float) -> None:
        """Let a class be worth so many seconds of waiting; those who wait already keep their places."""
        self._line.ageing_s = ageing_s

    async def wait(self, rank: int = 0) -> None:
        """Wait in line until there is room, and go in.

        Args:
            rank: higher ones are served first.

        Raises:
            BackPressureError: the line is full, and all others come first.
        """
        waiting = asyncio.get_running_loop().create_future()
        sent_away = self._line.push(waiting, rank, time.monotonic(), self.max_queued)
        if sent_away is not None and not sent_away.done():
            sent_away.set_exception(BackPressureError(self._name, len(self._line), self.retry_after_s))
        try:
            await waiting
        except asyncio.CancelledError:
            if not self._line.remove(waiting) and not waiting.cancelled() and waiting.exception() is None:
                self.leave()
            raise


class GatedApp:
    """The ASGI application that a replica's server runs: the gate, the request's context, then the user's.

    Args:
        app: the user's.
        gate: of the replica.
        app_name: name of the application.
        root_path: prefix of the route, for requests that come directly.
        direct: whether requests come from clients themselves, not through a proxy.
        observer: is told of each request; None for nobody.
        gateway: puts what the application's options ask for before it; None for nothing.
        request_timeout_s: seconds that a direct request may take; None for any number.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        gate: Gate,
        app_name: str,
        *,
        root_path: str = "",
        direct: bool = False,
        observer: Observer | None = None,
        gateway: Callable[[App, Refused], App] | None = None,
        request_timeout_s: float | None = None,
    ) -> None:
        self.request_timeout_s = request_timeout_s
        self._app = app
        self._gate = gate
        self._app_name = app_name
        self._root_path = root_path
        self._direct = direct
        self._observer = observer
        self._admit: App = self._run
        self.guard(gateway)

    def guard(self, gateway: Callable[[App, Refused], App] | None) -> None:
        """Put another gateway before the application, or none."""
        within = self._through_the_line if self._direct else self._run
        self._admit = within if gateway is None else gateway(within, self._refused)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or run the lifespan (ASGI)."""
        if scope["type"] == "lifespan":
            if self._direct:  # it runs on the server behind proxies, which every replica has
                scope.get("state", {}).update(self._gate.lifespan_state)
                await _no_lifespan(receive, send)
            else:
                self._gate.lifespan_state = scope.get("state", {})
                await self._app(scope, receive, send)
        elif self._direct:
            await self._from_client(scope, receive, send)
        elif self._gate.full:
            await _refuse(scope, send, 503, b"full", [(FULL, b"1")])
        else:
            self._gate.enter()
            try:
                await self._admit(_from_proxy(scope), receive, send)
            finally:
                self._gate.leave()

    async def _from_client(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/-/healthz":
            await _refuse(scope, send, 200, b"success", [])
            return
        if self._root_path:
            if path != self._root_path and not path.startswith(self._root_path + "/"):
                await self._turn_away(scope, send, 404, f"no application is served at {path!r}\n", [])
                return
            scope["root_path"] = self._root_path
        limit = self.request_timeout_s
        for name, value in scope["headers"]:
            if name == TIMEOUT:
                limit = time_limit(value, limit)
        if limit is None or scope["type"] == "websocket":
            await self._admit(scope, receive, send)
        else:
            await self._within(limit, scope, receive, send)

    async def _within(self, limit: float, scope: Any, receive: Any, send: Any) -> None:
        """Answer 504 when the time is over, or cut off an answer that has begun."""
        begun = False

        async def noting(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        scope[_DEADLINE] = asyncio.get_running_loop().time() + limit
        time_is = asyncio.timeout_at(scope[_DEADLINE])
        try:
            async with time_is:
                await self._admit(scope, receive, noting)
        except TimeoutError:
            if begun or not time_is.expired():
                raise
            text = f"no answer within {limit:g} s\n"
            if CYCLE in scope:  # it waited in line; otherwise `_run` has told the observer
                await self._turn_away(scope, send, 504, text, [])
            else:
                await _refuse(scope, send, 504, text.encode(), [])

    async def _through_the_line(self, scope: Any, receive: Any, send: Any) -> None:
        gate = self._gate
        if gate.full:
            try:
                await gate.wait(scope.get(RANK, 0))
            except BackPressureError as error:
                retry_after = str(math.ceil(error.retry_after_s)).encode()
                await self._turn_away(scope, send, gate.status_code, f"{error}\n", [(b"retry-after", retry_after)])
                return
        else:
            gate.enter()
        try:
            await self._run(scope, receive, send)
        finally:
            gate.leave()

    def _refused(self, scope: Any, status: int, size: int) -> None:
        """The gateway refused a request."""
        if self._observer is not None:
            self._observer.turned_away(scope, self._app_name, self._root_path or "/", "", status, size)

    async def _turn_away(
        self, scope: Any, send: Any, status: int, text: str, fields: list[tuple[bytes, bytes]]
    ) -> None:
        body = text.encode()
        if self._observer is not None:
            app, route = ("", "") if status == 404 else (self._app_name, self._root_path or "/")
            self._observer.turned_away(scope, app, route, "", status, len(body))
        await _refuse(scope, send, status, body, fields)

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        began = time.perf_counter()
        context = RequestContext(app_name=self._app_name, route=scope.get("root_path", "") or "/")
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                context.request_id = value.decode("latin-1")
            elif name == _MODEL:
                context.multiplexed_model_id = value.decode("latin-1")
        context.revision = scope.get("serve.revision", 0)
        context.api_key = scope.get(KEY_NAME, "")
        request_id = context.request_id = context.request_id or new_request_id()
        answer: Any = scope.pop(CYCLE, None)
        if answer is None:
            answer = _Noted(send)
            send = answer.send
        answer.more_head = b"x-request-id: %b\r\n" % request_id.encode("latin-1")
        gone = False
        error: Exception | None = None
        token = set_request_context(context)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            gone = True
            raise
        except Exception as raised:
            error = raised
            raise
        finally:
            if self._observer is not None:
                seconds = time.perf_counter() - began
                status = _status_of_the_cancelled(scope) if gone else answer.status or 500
                self._observer.answered(
                    scope, self._app_name, _pattern(scope), request_id, status, answer.sent, seconds, error
                )
            reset_request_context(token)
            if error is not None:  # the server logs it next, in this task
                set_request_context(RequestContext(request_id, context.route, self._app_name))


def _status_of_the_cancelled(scope: Any) -> int:
    """Return 504 if the request's time was over, else nginx's figure for a client that left."""
    return 504 if asyncio.get_running_loop().time() >= scope.get(_DEADLINE, math.inf) else 499


class _Noted:
    """Notes what goes out over a connection whose server does not: a WebSocket's.

    Args:
        send: ASGI's.
    """

    def __init__(self, send: Any) -> None:
        self._send = send
        self.status = 0
        self.sent = 0
        self.more_head = b""

    async def send(self, message: Any) -> None:
        """Send (ASGI)."""
        kind = message["type"]
        if kind == "websocket.accept":
            self.status = 101
        elif kind == "http.response.start":
            self.status = message["status"]
            name, _, value = self.more_head.strip().partition(b": ")
            message["headers"] = [*message.get("headers", ()), (name, value)]
        elif kind == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)


def _pattern(scope: Any) -> str:
    """Return the pattern of the path that the user's application matched, or else its prefix: no path of a client's."""
    prefix: str = scope.get("root_path", "")
    pattern: str | None = getattr(scope.get("route"), "path_format", None)  # FastAPI's
    return prefix + pattern if pattern is not None else prefix or "/"


def _from_proxy(scope: Any) -> Any:
    """Take the proxy's own header fields out and believe them."""
    fields = []
    for name, value in scope["headers"]:
        if name not in OURS:
            fields.append((name, value))
        elif name == ROOT_PATH:
            scope["root_path"] = value.decode()
        elif name == JUDGED:
            scope[VERDICT] = value
        elif name == REVISION:
            scope["serve.revision"] = int(value)
        elif name == CLIENT:
            host, port, scheme = value.decode().rsplit(" ", 2)
            scope["client"] = (host, int(port))
            scope["scheme"] = {"http": "ws", "https": "wss"}[scheme] if scope["type"] == "websocket" else scheme
    scope["headers"] = fields
    return scope


async def _refuse(scope: Any, send: Any, status: int, body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _no_lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
