"""One request in a proxy: find the route, get a replica, send it there, let the answer through.

There is no task and no queue: each step runs in the event that makes it possible, so a request to a free replica leaves
in the same turn of the event loop in which it came.

A request that no replica has seen is sent to another one, or waits for one. One that a replica may have begun is sent
again only if its method is idempotent (RFC 9110, 9.2.2) and nothing of an answer has gone to the client; otherwise the
client gets 502. Nothing hangs: a client that leaves takes its request with it, and a request's time limit ends in 504.
"""

from __future__ import annotations

import asyncio
import json
import math
import time

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serve.errors import BackPressureError, DeploymentUnavailableError
from serve.handle.router import Ticket, Wish
from serve.http.headers import FULL
from serve.proxy.client import Client, Nobody
from serve.proxy.judges import field_lines, judged_line
from serve.proxy.relay import Relay
from serve.proxy.request import NOT_RELAYED, RequestHead, revision_line, root_path_line
from serve.proxy.upstream import Upstream, UpstreamError
from serve.specs import ReplicaInfo, Route, Split
from serve.state.routing import shadows

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
#: fields of an answer that keep it from going on as it is; the framing of the body stays
_OF_THE_CONNECTION = NOT_RELAYED - {b"transfer-encoding"}
#: bytes of a request's body that are kept to be sent again
REPLAYABLE = 64 * 1024
#: seconds to wait before asking replicas again that all turned a request away
FULL_BACKOFF_S = 0.005
#: replicas that may die under one request
ATTEMPTS = 3
#: the log's status for a client that left: nginx's figure
CLIENT_LEFT = 499


class Exchange:
    """See the module's docstring. A turn in its client's line (`serve.http.protocol.Turn`).

    Args:
        relay: what all share.
        client: the connection.
        head: the request's.
        root_path: prefix that a proxy in front of ours has taken off.
        keep_alive: whether the connection lives on after the answer.
        expects: the client waits for ``100 Continue`` before it sends the body.
    """

    def __init__(
        self, relay: Relay, client: Client, head: RequestHead, root_path: str, *, keep_alive: bool, expects: bool
    ) -> None:
        self.keep_alive = keep_alive
        #: something of the answer was sent; all of it was (or nobody waits for it any more)
        self.started = False
        self.complete = False
        self._relay = relay
        self._client = client
        self._head = head
        self._root_path = root_path
        self._expects = expects
        self._began = time.perf_counter()
        self._status = 0
        self._sent = 0
        self._route: Route | None = None
        self._split: Split | None = None
        self._rank = 0
        self._encoded = b""
        #: what has come of the body: all of it, as long as that is kept; whether the last piece was among it
        self._pieces: list[bytes] = []
        self._kept = True
        self._bytes = 0
        self._ended = False
        #: who has it, over which connection; or the place in line for one
        self._replica: ReplicaInfo | None = None
        #: the last that had it; empty if none did
        self._answerer = ""
        self._upstream: Upstream | None = None
        self._ticket: Ticket | None = None
        #: replicas that died under it
        self._failed: frozenset[str] = frozenset()
        self._attempts = 0
        self._paused = False
        #: the replica is full; its answer says no more than that
        self._turned_away = False
        self._limit: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None

    # -- the client ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find out where the request goes, and send it there."""
        relay, head = self._relay, self._head
        encoded = head.encode(self._client.origin)
        if head.path.startswith("/-/") and self._answer_ourselves():
            return
        route = self._route = relay.table.match(head.path)
        if route is None:
            self._refuse(404, f"no application is served at {head.path!r}; GET /-/routes lists them")
            return
        root_path = relay.table.root_path(route)
        verdict = relay.judges.judge(route.app, head.path[len(root_path) :] or "/", head, self._client.client)
        if verdict is not None:
            if verdict.status:
                self._refuse(verdict.status, verdict.text, field_lines(verdict))
                return
            self._rank = verdict.rank
            encoded.append(judged_line(verdict))
        split = self._split = relay.split(route, head)
        encoded += (
            root_path_line(self._root_path + root_path),
            revision_line(route, split),
            b"\r\n",
        )
        self._encoded = b"".join(encoded)
        limit = relay.time_limit(route, head)
        if limit is not None:
            self._limit = self._client.loop.call_later(limit, self._time_is_over, limit)
        if self._ended:
            self._cast_shadows()
        self._acquire()

    def feed(self, body: bytes) -> None:
        """Take a piece of the request's body."""
        if self.complete:
            return
        self._bytes += len(body)
        if self._upstream is not None:
            self._upstream.send(self._framed(body))
            if self._bytes > REPLAYABLE:
                self._keep_no_more()
        elif self._bytes > REPLAYABLE:
            self._client.flow.pause_reading()
        if self._kept or self._upstream is None:
            self._pieces.append(body)

    def feed_end(self) -> None:
        """The request is whole."""
        self._ended = True
        if self.complete:
            return
        if self._upstream is not None and self._head.chunked:
            self._upstream.send(b"0\r\n\r\n")
        if self._split is not None:
            self._cast_shadows()

    def client_gone(self) -> None:
        """The client has closed the connection: the replica's application learns of it."""
        if not self.complete:
            self._status = CLIENT_LEFT
            self._let_go()
            self._finish()

    def pause(self) -> None:
        """The client does not keep up with the answer."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """It does again."""
        self._paused = False
        if self._upstream is not None:
            self._upstream.resume()

    def _cast_shadows(self) -> None:
        """Send copies of the request where they are wanted, once, if all of the body was kept."""
        route, own = self._route, self._split
        assert route is not None, "a request is routed before it is copied"
        assert own is not None, "a request is routed before it is copied"
        for split in shadows(route):
            if self._kept:
                common = self._encoded.removesuffix(revision_line(route, own) + b"\r\n")
                encoded = b"".join((common, revision_line(route, split), b"\r\n"))
                Shadow(self._relay, self._client.loop, self._head, encoded, list(self._pieces)).send(split)

    def _framed(self, body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if self._head.chunked else body

    def _keep_no_more(self) -> None:
        self._kept = False
        self._pieces.clear()

    # -- getting to a replica -----------------------------------------------------------------------------------------

    def _acquire(self) -> None:
        split, head, router = self._split, self._head, self._relay.router
        assert split is not None, "a request is routed before it gets a replica"
        wish = Wish(split.ingress, split.version, head.model_id, head.session_id, self._failed, self._rank)
        try:
            replica = router.try_acquire(wish)
            if replica is None:
                self._ticket = router.enqueue(wish, self._served)
                return
        except BackPressureError as error:
            self._refuse(error.status_code, str(error), b"retry-after: %d\r\n" % math.ceil(error.retry_after_s))
            return
        except DeploymentUnavailableError as error:
            self._refuse(503, str(error), b"retry-after: 1\r\n")
            return
        self._go(replica)

    def _served(self, replica: ReplicaInfo | None) -> None:
        """The line has moved (in any thread)."""
        self._client.loop.call_soon_threadsafe(self._arrive, replica)

    def _arrive(self, replica: ReplicaInfo | None) -> None:
        ticket, self._ticket = self._ticket, None
        if self.complete:
            if replica is not None:
                self._relay.router.release(replica)
        elif replica is None:
            sent_away = ticket is not None and ticket.sent_away
            why = (
                "the line is full, and others are more urgent"
                if sent_away
                else "the application was deleted, or cannot start"
            )
            self._refuse(503, why, b"retry-after: 1\r\n")
        else:
            self._go(replica)

    def _go(self, replica: ReplicaInfo) -> None:
        self._replica = replica
        self._answerer = replica.replica_id
        upstream = self._relay.pool.take(replica.socket)
        if upstream is not None:
            self._send_to(upstream)
        else:
            self._connecting = self._client.loop.create_task(self._connect(replica))

    async def _connect(self, replica: ReplicaInfo) -> None:
        try:
            upstream = await self._relay.pool.connect(replica.socket)
        except UpstreamError as error:
            self._connecting = None
            if error.gone:
                self._relay.router.lost(replica)
            self._release(refused=not error.gone)
            self._client.loop.call_later(0 if error.gone else FULL_BACKOFF_S, self._again)
            return
        self._connecting = None
        self._send_to(upstream)

    def _again(self) -> None:
        if not self.complete:
            self._acquire()

    def _send_to(self, upstream: Upstream) -> None:
        """Send all that has come; what comes later follows piece by piece."""
        parts = [self._encoded]
        if self._pieces:
            parts += (self._framed(piece) for piece in self._pieces)
        if self._ended and self._head.chunked:
            parts.append(b"0\r\n\r\n")
        try:
            upstream.begin(self, b"".join(parts), bodiless=self._head.method == b"HEAD")
        except UpstreamError as error:
            self.failed(error)
            return
        self._upstream = upstream
        if self._paused:
            upstream.pause()
        if self._bytes > REPLAYABLE:
            self._keep_no_more()
        if not self._ended:
            if self._expects:
                self._expects = False
                self._client.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._client.flow.resume_reading()

    def upstream_full(self) -> None:
        """The replica does not keep up with the body."""
        self._client.flow.pause_reading()

    def upstream_free(self) -> None:
        """It does again."""
        self._client.flow.resume_reading()

    def _release(self, *, refused: bool = False) -> None:
        replica, self._replica = self._replica, None
        if replica is not None:
            self._relay.router.release(replica, model_id=self._head.model_id, refused=refused)

    # -- the replica's answer -----------------------------------------------------------------------------------------

    def head_came(self, upstream: Upstream, data: bytes) -> None:
        """Let the head through, without what is of the replica's connection."""
        names = {name for name, _ in upstream.headers}
        if FULL in names:
            self._turned_away = True
            return
        end = data.index(b"\r\n\r\n") + 4
        self._status = upstream.status
        self._sent = len(data) - end
        if not self.keep_alive or not names.isdisjoint(_OF_THE_CONNECTION):
            fields = [b"%b: %b\r\n" % field for field in upstream.headers if field[0] not in _OF_THE_CONNECTION]
            if not self.keep_alive:
                fields.append(b"connection: close\r\n")
            data = b"".join([STATUS_LINE[upstream.status], *fields, b"\r\n", data[end:]])
        self.started = True
        self._client.transport.write(data)

    def body_came(self, data: bytes) -> None:
        """Let a piece of the body through."""
        if not self._turned_away:
            self._sent += len(data)
            self._client.transport.write(data)

    def answer_ended(self, upstream: Upstream) -> None:
        """The replica has answered; its connection can take another request."""
        self._upstream = None
        if self._paused:
            upstream.resume()
        replica = self._replica
        if self._ended and replica is not None:
            self._relay.pool.put(replica.socket, upstream)
        else:
            upstream.close()  # it answered before it had read all: the rest of the body has no reader
        if self._turned_away:
            self._turned_away = False
            self._release(refused=True)
            if self._kept:
                self._client.loop.call_later(FULL_BACKOFF_S, self._again)
            else:
                self._refuse(503, "the replica has no room", b"retry-after: 1\r\n")
            return
        self._release()
        self._finish()

    def failed(self, error: UpstreamError) -> None:
        """The replica's connection broke: send the request to another one, or give it up."""
        self._upstream = None
        replica = self._replica
        if replica is not None:
            self._relay.pool.drop(replica.socket)
            if error.reached:
                self._failed |= {replica.replica_id}
                self._attempts += 1
        self._release()
        if self.started:
            self._cut()
        elif self._kept and self._attempts < ATTEMPTS and (not error.reached or self._head.method in _IDEMPOTENT):
            self._acquire()
        else:
            self._refuse(502 if error.reached else 503, str(error), b"retry-after: 1\r\n")

    # -- answers of our own -------------------------------------------------------------------------------------------

    def _answer_ourselves(self) -> bool:
        """Answer what is asked of the proxy itself."""
        match self._head.path:
            case "/-/healthz":
                self._respond(200, b"success", b"content-type: text/plain; charset=utf-8\r\n")
            case "/-/routes":
                routes = {route.prefix: route.app for route in self._relay.table.routes}
                self._respond(200, json.dumps(routes).encode(), b"content-type: application/json\r\n")
            case _:
                return False
        return True

    def _time_is_over(self, limit: float) -> None:
        self._limit = None
        self._let_go()
        if self.started:
            self._cut()
        else:
            self._refuse(504, f"no answer within {limit:g} s")

    def _refuse(self, status: int, text: str, fields: bytes = b"") -> None:
        """Answer with an error."""
        request_id = b"x-request-id: %b\r\n" % self._head.request_id.encode("latin-1")
        self._respond(
            status, f"{text}\n".encode(), b"content-type: text/plain; charset=utf-8\r\n" + request_id + fields
        )

    def _respond(self, status: int, body: bytes, fields: bytes) -> None:
        client = self._client
        parts = [STATUS_LINE[status], client.default_head, fields, b"content-length: %d\r\n" % len(body)]
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", b"" if self._head.method == b"HEAD" else body)
        self._status, self._sent, self.started = status, len(body), True
        client.transport.write(b"".join(parts))
        self._finish()

    def _cut(self) -> None:
        """End an answer that cannot be made whole, so that the client sees that it is not."""
        self.keep_alive = False
        self._client.transport.abort()
        self._finish()

    # -- the end ------------------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Take the request back from wherever it is."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._relay.router.leave(ticket)  # served already: `_arrive` releases it
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.leave()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._release()

    def _finish(self) -> None:
        self.complete = True
        self._pieces.clear()
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._tell()
        if self._status != CLIENT_LEFT:
            self._client.answered(self)

    def _tell(self) -> None:
        observer, head, route = self._relay.observer, self._head, self._route
        if observer is None:
            return
        if route is not None:
            seconds = time.perf_counter() - self._began
            scope = self._client.observed_scope(head)
            observer.answered(
                scope,
                route.app,
                route.prefix,
                head.request_id,
                self._status,
                self._sent,
                seconds,
                replica=self._answerer,
            )
        elif self._status == 404:  # the proxy's own pages are no requests
            observer.turned_away(self._client.observed_scope(head), "", "", head.request_id, 404, self._sent)


class Shadow(Exchange):
    """A copy of a request, whose answer nobody gets and nobody counts.

    Args:
        relay: what all share.
        loop: the event loop.
        head: the request's.
        encoded: the same as it goes to replicas.
        pieces: all of the body.
    """

    def __init__(
        self, relay: Relay, loop: asyncio.AbstractEventLoop, head: RequestHead, encoded: bytes, pieces: list[bytes]
    ) -> None:
        super().__init__(relay, Nobody(loop), head, "", keep_alive=True, expects=False)
        self._encoded = encoded
        self._pieces = pieces
        self._ended = True

    def send(self, split: Split) -> None:
        """Send it to a revision, if that has a replica free: a copy waits for nobody, so copies do not pile up."""
        wish = Wish(split.ingress, split.version, self._head.model_id)
        try:
            replica = self._relay.router.try_acquire(wish)
        except DeploymentUnavailableError:
            return
        if replica is not None:
            self._go(replica)

    def _acquire(self) -> None:
        """Give up: a copy is sent once."""
        self._finish()

    def _tell(self) -> None:
        """It is no client's request."""
