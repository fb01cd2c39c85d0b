"""The actor of a replica: the user's code, called by handles as actor calls and by HTTP on a Unix socket of its own.

Everything runs on the actor's event loop, so that a lock, a batch or a model is shared by all requests whichever way
they came. Made, watched and ended by the controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

import core
from serve.context import RequestContext, reset_request_context, set_request_context
from serve.http.limits import RequestLimits
from serve.http.server import HTTPServer, bind, bind_unix
from serve.replica.asgi import application
from serve.replica.gate import Gate, GatedApp
from serve.replica.protocol import ReplicaProtocol
from serve.replica.user_code import UserCode
from serve.specs import DeploymentSpec, HandleMarker, RequestMeta


class Full(msgspec.Struct, frozen=True):
    """The answer of a replica that has no room: ask another."""

    replica_id: str


class Direct(msgspec.Struct, frozen=True):
    """Where a replica accepts clients itself."""

    host: str
    port: int
    root_path: str = ""
    keep_alive_timeout_s: float = 90.0
    max_body_bytes: int | None = None


class Ready(msgspec.Struct, frozen=True):
    """What the controller learns of a replica that has started."""

    pid: int
    node_id: str
    #: path of its Unix socket; empty if it serves no HTTP
    socket: str
    #: port it accepts clients on; 0 if it does not
    port: int


class Stats(msgspec.Struct, frozen=True):
    """What a replica tells of itself."""

    ongoing: int
    queued: int
    #: requests since the start
    total: int
    #: the most at a time since the last look
    peak: int
    model_ids: tuple[str, ...] = ()


class Replica:
    """See the module's docstring.

    Args:
        spec: the deployment, as msgpack.
        replica_id: of this replica.
        serve_http: whether it is reached by HTTP: an application's ingress.
        direct: where it accepts clients itself, or None.
    """

    def __init__(self, spec: bytes, replica_id: str, *, serve_http: bool, direct: Direct | None = None) -> None:
        self._spec = msgspec.msgpack.decode(spec, type=DeploymentSpec)
        self._id = replica_id
        self._serve_http = serve_http
        self._direct = direct
        config = self._spec.config
        backpressure = config["backpressure_config"]
        self._gate = Gate(
            str(self._spec.id),
            config["max_ongoing_requests"],
            config["max_queued_requests"],
            backpressure["retry_after_s"],
            backpressure["status_code"],
        )
        self._code = UserCode(self._spec, replica_id, self._make_handle)
        self._servers: list[HTTPServer] = []
        self._socket = ""

    async def start(self) -> Ready:
        """Make the user's instance and begin to serve; whatever its constructor raises goes to the controller."""
        await self._code.make()
        port = 0
        if self._serve_http:
            app = application(self._code)
            directory = Path(_session_directory())
            self._socket = str(directory / f"serve-{self._id}.sock")
            behind_proxy = GatedApp(app, self._gate, self._spec.id.app)
            server = HTTPServer(behind_proxy, limits=RequestLimits(), server_header=False, protocol=ReplicaProtocol)
            await server.start([bind_unix(self._socket)])
            self._servers.append(server)
            if self._direct is not None:
                port = await self._accept_directly(app, self._direct)
        return Ready(os.getpid(), core.get_runtime_context().get_node_id(), self._socket, port)

    async def _accept_directly(self, app: Callable[..., Any], direct: Direct) -> int:
        gated = GatedApp(_without_lifespan(app), self._gate, self._spec.id.app, root_path=direct.root_path, direct=True)
        server = HTTPServer(
            gated,
            limits=RequestLimits(body_bytes=direct.max_body_bytes),
            keep_alive_timeout_s=direct.keep_alive_timeout_s,
            protocol=ReplicaProtocol,
        )
        sock = bind(direct.host, direct.port, shared=True)
        port: int = sock.getsockname()[1]
        await server.start([sock])
        self._servers.append(server)
        return port

    # -- calls through handles -----------------------------------------------------------------------------------------

    async def handle(self, meta: RequestMeta, *args: Any, **kwargs: Any) -> Any:
        """Call a method and return its result, or `Full`."""
        if self._gate.full:
            return Full(self._id)
        self._gate.enter()
        token = set_request_context(_context(meta))
        try:
            async with _until(meta.deadline):
                return await self._code.call(meta.method, args, kwargs)
        finally:
            reset_request_context(token)
            self._gate.leave()

    async def handle_stream(self, meta: RequestMeta, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Call a generator method and yield what it yields; `Full` alone if there is no room."""
        if self._gate.full:
            yield Full(self._id)
            return
        self._gate.enter()
        token = set_request_context(_context(meta))
        try:
            async for item in self._code.stream(meta.method, args, kwargs):
                yield item
        finally:
            with contextlib.suppress(ValueError):  # closed from another context than it was begun in
                reset_request_context(token)
            self._gate.leave()

    # -- the controller ------------------------------------------------------------------------------------------------

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Take over options whose change needs no restart."""
        self._gate.max_ongoing = config["max_ongoing_requests"]
        self._gate.max_queued = config["max_queued_requests"]
        changed = config.get("user_config") != self._spec.config.get("user_config")
        self._spec = msgspec.structs.replace(self._spec, config=config)
        if changed:
            await self._code.reconfigure(config.get("user_config"))

    async def check_health(self) -> Stats:
        """Ask the user's ``check_health`` and return how busy this replica is."""
        await self._code.check_health()
        return self.stats()

    def stats(self) -> Stats:
        """Return how busy this replica is."""
        gate = self._gate
        peak, gate.peak = gate.peak, gate.ongoing
        return Stats(gate.ongoing, gate.queued, gate.total, peak)

    async def stop(self, grace_s: float) -> None:
        """Finish what is in progress, for so many seconds at most, and let the user's object go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*(server.close(grace_s) for server in self._servers))
                await self._gate.empty()
        if self._socket:
            os.unlink(self._socket)
        await self._code.end()

    def _make_handle(self, marker: HandleMarker) -> Any:
        from serve.handle.deployment_handle import DeploymentHandle  # noqa: PLC0415 - only graphs need it

        return DeploymentHandle(marker.deployment.name, marker.deployment.app)


def _session_directory() -> str:
    return str(core.get_runtime_context().get_temp_dir())


def _context(meta: RequestMeta) -> RequestContext:
    return RequestContext(meta.request_id, meta.route, meta.app, meta.multiplexed_model_id, meta.deadline)


def _until(deadline: float | None) -> asyncio.Timeout:
    return asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time()))


def _without_lifespan(app: Callable[..., Any]) -> Callable[..., Any]:
    """The same application on a second server: its lifespan has run already."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    return served
