"""The ASGI application of a proxy: find the route, get a replica, relay.

A request that no replica has seen is sent to another one, or waits for one. One that a replica may have begun is sent
again only if its method is idempotent (RFC 9110, 9.2.2) and nothing of an answer has gone to the client; otherwise the
client gets 502. Nothing hangs: a client that leaves takes its request with it, and a request's time limit ends in 504.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from serve.errors import BackPressureError, DeploymentUnavailableError
from serve.handle.router import Router, Wish
from serve.http.headers import CLIENT, FULL, OURS, ROOT_PATH
from serve.metrics.observer import Observer
from serve.proxy.upstream import Answer, Pool, Upstream, UpstreamError
from serve.specs import ReplicaInfo, Route, Split, Targets
from serve.state.routing import RoutingTable, choose_split, shadows

logger = logging.getLogger("serve.proxy")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: fields of one connection (RFC 9110, 7.6.1), and our own, which clients may not set
_NOT_RELAYED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        *OURS,
    }
)
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
#: bytes of a body that are kept to be sent again
_REPLAYABLE = 64 * 1024
#: seconds to wait before asking replicas again that all turned a request away
_FULL_BACKOFF_S = 0.005
#: attempts of one request on replicas that die under it
_ATTEMPTS = 3


class ClientGone(Exception):  # noqa: N818 - an event
    """The client closed its connection."""


class Relay:
    """The ASGI application of a proxy.

    Args:
        router: finds replicas.
        observer: is told of every answer; None for nobody.
        request_timeout_s: seconds a request may take unless its route or its own header says less; None for no limit.
    """

    def __init__(
        self, router: Router, observer: Observer | None = None, request_timeout_s: float | None = None
    ) -> None:
        self._router = router
        self._observer = observer
        self._timeout = request_timeout_s
        self._table = RoutingTable()
        self._pool = Pool()
        self._shadowing: set[asyncio.Task[None]] = set()

    @property
    def router(self) -> Router:
        """Finds replicas."""
        return self._router

    @property
    def table(self) -> RoutingTable:
        """The routes as last published."""
        return self._table

    @property
    def pool(self) -> Pool:
        """The connections to replicas."""
        return self._pool

    def update(self, targets: Targets) -> None:
        """Take a publication over."""
        self._table = RoutingTable(targets.routes)
        self._pool.keep_only(info.socket for replicas in targets.replicas.values() for info in replicas)

    def split(self, route: Route, fields: Mapping[str, str]) -> Split:
        """Choose the revision that answers a request with these header fields."""
        return choose_split(route, fields, random.random())  # noqa: S311 - load balancing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        began = time.perf_counter()
        request = _Request(scope, receive, send)
        route = self._table.match(scope["path"])
        try:
            if scope["path"].startswith("/-/") and await self._own(request):
                pass
            elif route is None:
                await request.refuse(404, f"no application is served at {scope['path']!r}; GET /-/routes lists them")
            else:
                await self._limited(request, route)
        except ClientGone:
            request.status = 499  # nginx's figure for it; nobody reads it but the log
        except asyncio.CancelledError:
            if not request.gone:
                raise
            request.status = 499
        finally:
            if self._observer is not None:
                self._tell(self._observer, request, route, time.perf_counter() - began)

    def _tell(self, observer: Observer, request: _Request, route: Route | None, seconds: float) -> None:
        scope, request_id, status, sent = request.scope, request.request_id, request.status, request.sent
        if route is not None:
            observer.answered(scope, route.app, route.prefix, request_id, status, sent, seconds)
        elif status == 404:  # the proxy's own pages are no requests
            observer.turned_away(scope, "", "", request_id, status, sent)

    async def _own(self, request: _Request) -> bool:
        """Answer what is asked of the proxy itself."""
        match request.scope["path"]:
            case "/-/healthz":
                await request.respond(200, b"success", b"text/plain; charset=utf-8")
            case "/-/routes":
                routes = {route.prefix: route.app for route in self._table.routes}
                await request.respond(200, json.dumps(routes).encode(), b"application/json")
            case _:
                return False
        return True

    async def _limited(self, request: _Request, route: Route) -> None:
        limit = request.time_limit(route.request_timeout_s or self._timeout)
        try:
            if limit is None:
                await self._relay(request, route)
            else:
                async with asyncio.timeout(limit):
                    await self._relay(request, route)
        except TimeoutError:
            await request.refuse(504, f"no answer within {limit:g} s")
        except BackPressureError as error:
            await request.refuse(503, str(error), [(b"retry-after", str(math.ceil(error.retry_after_s)).encode())])
        except DeploymentUnavailableError as error:
            await request.refuse(503, str(error), [(b"retry-after", b"1")])

    async def _relay(self, request: _Request, route: Route) -> None:
        split = self.split(route, request.fields)
        for copy_to in shadows(route):
            await self._shadow(request, route, copy_to)
        failed: set[str] = set()
        while True:
            replica = await self._router.acquire(
                Wish(
                    split.ingress,
                    split.version,
                    request.fields.get("serve_multiplexed_model_id", ""),
                    request.fields.get("x-session-id", ""),
                    frozenset(failed),
                )
            )
            refused = False
            try:
                refused = not await self._attempt(request, route, replica)
            except UpstreamError as error:
                self._router.lost(replica)
                failed.add(replica.replica_id)
                if not request.repeatable(error) or len(failed) >= _ATTEMPTS:
                    await request.broken(error)
                    return
                continue
            finally:
                self._router.release(replica, refused=refused)
            if not refused:
                return
            await asyncio.sleep(_FULL_BACKOFF_S)

    async def _attempt(self, request: _Request, route: Route, replica: ReplicaInfo) -> bool:
        """Relay to one replica; False if it turned the request away."""
        upstream = await self._pool.get(replica.socket)
        request.watch(upstream)
        try:
            await request.send_to(upstream, self._table.root_path(route))
            answer = await upstream.answer()
            if any(name == FULL for name, _ in answer.headers):
                await _drain(upstream)
                return False
            await request.relay_answer(answer, upstream)
        except BaseException:
            upstream.close()
            if request.gone:
                raise ClientGone from None
            raise
        finally:
            request.watch(None)
        self._pool.put(replica.socket, upstream)
        return True

    async def _shadow(self, request: _Request, route: Route, split: Split) -> None:
        """Send a copy of the request and throw the answer away."""
        copy = await request.copy()
        if copy is None:
            return  # a body too large to keep
        task = asyncio.get_running_loop().create_task(self._relay_shadow(copy, route, split))
        self._shadowing.add(task)
        task.add_done_callback(self._shadowing.discard)

    async def _relay_shadow(self, request: _Request, route: Route, split: Split) -> None:
        wish = Wish(split.ingress, split.version)
        try:
            replica = await self._router.acquire(wish)
            try:
                await self._attempt(request, route, replica)
            finally:
                self._router.release(replica)
        except (UpstreamError, BackPressureError, DeploymentUnavailableError) as error:
            logger.info("shadow request of %s failed: %s", route.app, error)


class _Request:
    """One client's request, and what has been answered so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        #: header fields by lower-case name; of several the last
        self.fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.request_id = self.fields.get("x-request-id") or uuid.uuid4().hex
        self.status = 0
        #: bytes of the answer's body
        self.sent = 0
        #: the client closed its connection
        self.gone = False
        self._upstream: Upstream | None = None
        self._task = asyncio.current_task()
        #: what of the body was read, as long as all of it is kept
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0
        self._body_read = False
        connection = scope.get("serve.connection")
        if connection is not None:
            connection.on_lost = self._lost

    # -- the client ---------------------------------------------------------------------------------------------------

    def _lost(self) -> None:
        self.gone = True
        if self._upstream is not None:
            self._upstream.close()
        elif self._task is not None:
            self._task.cancel()  # it waits in line

    def watch(self, upstream: Upstream | None) -> None:
        """Close this connection if the client goes away."""
        self._upstream = upstream
        if self.gone and upstream is not None:
            upstream.close()
            raise ClientGone

    def time_limit(self, default: float | None) -> float | None:
        """Return the seconds this request may take; its own header may ask for less than the default."""
        text = self.fields.get("x-request-timeout-seconds")
        if text is None:
            return default
        try:
            asked = float(text)
        except ValueError:
            return default
        if not asked > 0:
            return default
        return asked if default is None else min(asked, default)

    async def respond(
        self, status: int, body: bytes, content_type: bytes, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Answer in place of a replica."""
        fields = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *(headers or [])]
        self.status = status
        self.sent = len(body)
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Answer with an error of the proxy's own; an answer that has begun is cut off instead."""
        if self.status:
            raise UpstreamError(text, reached=True)  # uvicorn closes the connection, so the client sees the cut
        fields = [(b"x-request-id", self.request_id.encode("latin-1")), *(headers or [])]
        await self.respond(status, f"{text}\n".encode(), b"text/plain; charset=utf-8", fields)

    async def broken(self, error: UpstreamError) -> None:
        """Answer for a replica that died."""
        await self.refuse(502 if error.reached else 503, str(error), [(b"retry-after", b"1")])

    def repeatable(self, error: UpstreamError) -> bool:
        """Tell whether the request may be sent to another replica."""
        if self.status or self._kept is None:
            return False
        return not error.reached or self.scope["method"] in _IDEMPOTENT

    # -- towards the replica ------------------------------------------------------------------------------------------

    def _head(self, root_path: str) -> tuple[list[bytes], bool]:
        """Return the head for the replica, and whether the body is sent in chunks."""
        scope = self.scope
        target = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        parts = [scope["method"].encode(), b" ", target, b" HTTP/1.1\r\n"]
        chunked = False
        for name, value in scope["headers"]:
            if name in _NOT_RELAYED:
                chunked = chunked or name == b"transfer-encoding"
                continue
            parts += (name, b": ", value, b"\r\n")
        if "host" not in self.fields:
            parts.append(b"host: localhost\r\n")  # a client of HTTP/1.0
        if "x-request-id" not in self.fields:
            parts += (b"x-request-id: ", self.request_id.encode("latin-1"), b"\r\n")
        if scope["client"] is not None:
            parts += (CLIENT, b": ", f"{scope['client'][0]} {scope['client'][1]} {scope['scheme']}".encode(), b"\r\n")
        if root_path:
            parts += (ROOT_PATH, b": ", root_path.encode(), b"\r\n")
        if chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        return parts, chunked

    async def send_to(self, upstream: Upstream, root_path: str) -> None:
        """Send head and body; returns early if the replica answers before it has read all."""
        parts, chunked = self._head(root_path)
        has_body = chunked or "content-length" in self.fields
        for piece in self._kept or ():
            parts.append(_framed(piece, chunked))
        if not has_body or self._body_read:
            if chunked:
                parts.append(b"0\r\n\r\n")
            upstream.begin(b"".join(parts))
            return
        body, more = await self._read()
        parts.append(_framed(body, chunked))
        if not more and chunked:
            parts.append(b"0\r\n\r\n")
        upstream.begin(b"".join(parts))
        if more:
            await self._stream_to(upstream, chunked)

    async def _stream_to(self, upstream: Upstream, chunked: bool) -> None:
        answered = asyncio.get_running_loop().create_task(upstream.answer())
        try:
            more = True
            while more and not answered.done():
                reading = asyncio.get_running_loop().create_task(self._read())
                await asyncio.wait({reading, answered}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    upstream.reusable = False  # answered before all was read: the rest of the body has no reader
                    return
                body, more = reading.result()
                await upstream.send(_framed(body, chunked) + (b"0\r\n\r\n" if chunked and not more else b""))
        finally:
            answered.cancel()

    async def _read(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGone
        body, more = message.get("body", b""), message.get("more_body", False)
        self._body_read = not more
        if self._kept is not None:
            self._kept_bytes += len(body)
            if self._kept_bytes > _REPLAYABLE:
                self._kept = None
            else:
                self._kept.append(body)
        return body, more

    async def copy(self) -> _Request | None:
        """Return a copy for a shadow, with all of the body; None if that is too large to keep."""
        if "content-length" in self.fields or "transfer-encoding" in self.fields:
            while not self._body_read and self._kept is not None:
                await self._read()
        if self._kept is None:
            return None
        scope = {key: value for key, value in self.scope.items() if key != "serve.connection"}
        copy = _Request(scope, self._receive, _to_nobody)
        copy._kept = list(self._kept)
        copy._body_read = True
        return copy

    # -- towards the client -------------------------------------------------------------------------------------------

    async def relay_answer(self, answer: Answer, upstream: Upstream) -> None:
        """Send the replica's answer on, piece by piece as it comes."""
        fields = [field for field in answer.headers if field[0] not in _NOT_RELAYED]
        self.status = answer.status
        await self._send({"type": "http.response.start", "status": answer.status, "headers": fields})
        while True:
            body, more = upstream.take()
            self.sent += len(body)
            if body or not more:
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
            if not more:
                return
            await upstream.more()


def _framed(body: bytes, chunked: bool) -> bytes:
    if not chunked or not body:
        return body
    return b"%x\r\n%b\r\n" % (len(body), body)


async def _drain(upstream: Upstream) -> None:
    more = True
    while more:
        await upstream.more()
        _, more = upstream.take()


async def _to_nobody(_message: MutableMapping[str, Any]) -> None:
    """Throw a message away."""


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
