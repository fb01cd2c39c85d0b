"""A client's connection to a proxy: makes exchanges of its requests, and turns into a tunnel for WebSockets."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from urllib.parse import unquote

import httptools

from serve.errors import BackPressureError, DeploymentUnavailableError
from serve.handle.router import Wish
from serve.http.limits import Refused
from serve.http.protocol import GuardedProtocol
from serve.proxy.exchange import Exchange
from serve.proxy.relay import Relay
from serve.proxy.request import RequestHead, origin_line, revision_line, root_path_line
from serve.proxy.upstream import Tunnel
from serve.specs import ReplicaInfo, Route


class RelayProtocol(GuardedProtocol):
    """One connection of a client to a proxy whose application is a `Relay`."""

    @property
    def _relay(self) -> Relay:
        return cast("Relay", self.app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin."""
        super().connection_made(transport)
        #: tells replicas whom requests come from
        self.origin = origin_line(self.client, self.scheme)

    def _make_turn(self, method: bytes, target: Any, version: str, keep_alive: bool) -> Exchange:
        head = self._head(method, target, version)
        return Exchange(
            self._relay, self, head, self.root_path, keep_alive=keep_alive, expects=self.expect_100_continue
        )

    def _head(self, method: bytes, target: Any, version: str) -> RequestHead:
        path = target.path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        raw = target.path if target.query is None else b"%b?%b" % (target.path, target.query)
        return RequestHead(method, self.root_path.encode() + raw, path, version, self.headers)

    def pause_writing(self) -> None:
        """The client does not keep up with an answer."""
        super().pause_writing()
        if self._line:
            cast("Exchange", self._line[0]).pause()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._line:
            cast("Exchange", self._line[0]).resume()

    def observed_scope(self, head: RequestHead) -> dict[str, Any]:
        """Return what metrics and logs know of a request, as in ASGI."""
        raw_path, _, query = head.target.partition(b"?")
        return {
            "type": "http",
            "http_version": head.version,
            "method": head.method.decode("ascii"),
            "scheme": self.scheme,
            "client": self.client,
            "server": self.server,
            "root_path": self.root_path,
            "path": head.path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers,
        }

    # -- WebSockets ---------------------------------------------------------------------------------------------------

    def handle_websocket_upgrade(self) -> None:
        """Leave HTTP: from here on bytes go both ways as they come, handshake included."""
        self.connections.discard(self)
        self.transport.pause_reading()
        task = self.loop.create_task(self._tunnel())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _tunnel(self) -> None:
        relay = self._relay
        head = self._head(b"GET", httptools.parse_url(self.url), "1.1")
        route = relay.table.match(head.path)
        if route is None:
            self._refuse(Refused(404, f"no application is served at {head.path!r}"))
            return
        head.session_id = head.fields().get("x-session-id", "")
        split = relay.split(route, head)
        upgrade = head.encode_upgrade(self.origin)
        upgrade.append(root_path_line(self.root_path + relay.table.root_path(route)))
        upgrade += (revision_line(route, split), b"\r\n")
        wish = Wish(split.ingress, split.version, session_id=head.session_id)
        try:
            replica = await relay.router.acquire(wish)
        except (BackPressureError, DeploymentUnavailableError) as error:
            self._refuse(Refused(503, str(error)))
            return
        try:
            await self._connect(replica, b"".join(upgrade), head, route)
        except OSError as error:
            relay.router.lost(replica)
            relay.router.release(replica)
            self._refuse(Refused(503, f"the replica does not accept connections: {error.strerror}"))

    async def _connect(self, replica: ReplicaInfo, upgrade: bytes, head: RequestHead, route: Route) -> None:
        """Join the client's connection and a new one to the replica."""
        client = self.transport
        released = False
        began = time.perf_counter()

        def closed() -> None:
            nonlocal released
            if not released:
                released = True
                self._relay.router.release(replica)
                self._tell(answers, head, route, replica, time.perf_counter() - began)

        answers = Tunnel(client, closed)
        upstream, _ = await self.loop.create_unix_connection(lambda: answers, replica.socket)
        downstream = Tunnel(upstream, closed)
        downstream.connection_made(client)
        client.set_protocol(downstream)
        upstream.write(upgrade)
        if client.is_closing():
            upstream.close()
            closed()
        else:
            client.resume_reading()

    def _tell(self, answers: Tunnel, head: RequestHead, route: Route, replica: ReplicaInfo, seconds: float) -> None:
        observer = self._relay.observer
        if observer is None:
            return
        scope = {"type": "websocket", "client": self.client, "raw_path": head.target.partition(b"?")[0]}
        status = int(answers.first[9:12]) if answers.first[9:12].isdigit() else 502
        observer.answered(
            scope,
            route.app,
            route.prefix,
            head.request_id,
            status,
            answers.passed,
            seconds,
            replica=replica.replica_id,
        )
