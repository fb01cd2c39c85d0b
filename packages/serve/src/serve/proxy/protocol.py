"""A client's connection to a proxy: tells the relay when the client goes, and turns into a tunnel for WebSockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import httptools

from serve.errors import BackPressureError, DeploymentUnavailableError
from serve.handle.router import Wish
from serve.http.headers import CLIENT, OURS, ROOT_PATH
from serve.http.limits import Refused
from serve.http.protocol import GuardedProtocol
from serve.proxy.relay import Relay
from serve.proxy.upstream import Tunnel
from serve.specs import ReplicaInfo


class RelayProtocol(GuardedProtocol):
    """One connection of a client to a proxy whose application is a `Relay`."""

    #: called once when the client goes away in the middle of a request
    on_lost: Callable[[], None] | None = None

    @property
    def _relay(self) -> Relay:
        return cast("Relay", self.app)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.on_lost = None
        cast("dict[str, Any]", self.scope)["serve.connection"] = self

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a request in progress learns of it."""
        cycle: Any = self.cycle  # None before the first request
        if self.on_lost is not None and cycle is not None and not cycle.response_complete:
            self.on_lost()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave HTTP: from here on bytes go both ways as they come, handshake included."""
        self.connections.discard(self)
        self.transport.pause_reading()
        task = self.loop.create_task(self._tunnel())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _tunnel(self) -> None:
        relay = self._relay
        path = httptools.parse_url(self.url).path.decode("ascii")
        route = relay.table.match(path)
        if route is None:
            self._refuse(Refused(404, f"no application is served at {path!r}"))
            return
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
        split = relay.split(route, fields)
        wish = Wish(split.ingress, split.version, session_id=fields.get("x-session-id", ""))
        try:
            replica = await relay.router.acquire(wish)
        except (BackPressureError, DeploymentUnavailableError) as error:
            self._refuse(Refused(503, str(error)))
            return
        try:
            await self._connect(replica, relay.table.root_path(route))
        except OSError as error:
            relay.router.lost(replica)
            relay.router.release(replica)
            self._refuse(Refused(503, f"the replica does not accept connections: {error.strerror}"))

    async def _connect(self, replica: ReplicaInfo, root_path: str) -> None:
        """Join the client's connection and a new one to the replica."""
        client = self.transport
        released = False

        def closed() -> None:
            nonlocal released
            if not released:
                released = True
                self._relay.router.release(replica)

        upstream, _ = await self.loop.create_unix_connection(lambda: Tunnel(client, closed), replica.socket)
        downstream = Tunnel(upstream, closed)
        downstream.connection_made(client)
        client.set_protocol(downstream)
        upstream.write(self._upgrade_head(root_path))
        if client.is_closing():
            upstream.close()
            closed()
        else:
            client.resume_reading()

    def _upgrade_head(self, root_path: str) -> bytes:
        parts = [b"GET ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in OURS:
                parts += (name, b": ", value, b"\r\n")
        if self.client is not None:
            parts += (CLIENT, b": ", f"{self.client[0]} {self.client[1]} {self.scheme}".encode(), b"\r\n")
        if root_path:
            parts += (ROOT_PATH, b": ", root_path.encode(), b"\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)
