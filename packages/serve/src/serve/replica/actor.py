"""The actor of a replica: the user's code, called by handles as actor calls and by HTTP on a Unix socket of its own.

Everything runs on the actor's event loop, so that a lock, a batch or a model is shared by all requests whichever way
they came. Made, watched and ended by the controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

import core
from serve.config import HTTPOptions, LoggingConfig
from serve.context import RequestContext, reset_request_context, set_request_context
from serve.errors import RayServeException
from serve.handle import local_router
from serve.http.limits import RequestLimits
from serve.http.listener import HeldListener
from serve.http.server import HTTPServer, bind_unix, public_server
from serve.logs.lines import Origin
from serve.logs.setup import Log
from serve.multiplex.cache import loaded_model_ids, unload_all_models
from serve.replica.asgi import application
from serve.replica.gate import Gate, GatedApp
from serve.replica.guard import ageing_s, guard
from serve.replica.numbers import Numbers
from serve.replica.protocol import ReplicaProtocol
from serve.replica.stall import StallWatch
from serve.replica.user_code import UserCode
from serve.specs import DeploymentSpec, Full, HandleMarker, RequestMeta, Targets

#: of proxies, which keep to tighter limits themselves, and close connections themselves, so that no request meets that
FROM_PROXIES = RequestLimits(
    target_bytes=64 * 1024, header_bytes=256 * 1024, headers=1024, body_timeout_s=86400.0, idle_timeout_s=86400.0
)


class Direct(msgspec.Struct, frozen=True):
    """How a replica accepts clients itself."""

    #: where the listening socket is handed out (`serve.http.listener`)
    listener: str
    #: `serve.config.HTTPOptions`
    options: HTTPOptions
    #: prefix of the application's route
    route: str = ""


class Ready(msgspec.Struct, frozen=True):
    """What the controller learns of a replica that has started."""

    pid: int
    node_id: str
    #: path of its Unix socket; empty if it serves no HTTP
    socket: str
    #: it was told to stop, by a controller that is gone maybe
    stopping: bool = False


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
        self._gated: list[GatedApp] = []
        self._numbers = Numbers(self._spec.id, replica_id, self._gate)
        #: loads and unloads models by order; None if the class has no loader
        self._models: Any = None
        self._log: Log | None = None
        self._stalls: StallWatch | None = None
        #: of proxies and of clients
        self._servers: list[HTTPServer] = []
        self._public: HTTPServer | None = None
        self._listener: HeldListener | None = None
        self._socket = ""
        #: what the first call began, whoever calls again: a controller that was restarted
        self._started: asyncio.Future[Ready] | None = None
        self._stopped: asyncio.Future[bytes] | None = None

    async def start(self) -> Ready:
        """Make the user's instance and begin to serve; whatever its constructor raises goes to the controller."""
        if self._started is None:
            self._started = asyncio.ensure_future(self._start())
        ready = await asyncio.shield(self._started)
        return msgspec.structs.replace(ready, stopping=self._stopped is not None)

    async def _start(self) -> Ready:
        self._log_as(self._spec.config["logging_config"])
        await self._code.make()
        if "serve.multiplex.decorator" in sys.modules:  # else the user's class can have no loader
            from serve.model_control.keeper import keep  # noqa: PLC0415 - see above

            self._models = keep(self._spec.id, self._code.instance)
        await self._begin_well()
        self._stalls = StallWatch(self._id)
        if self._serve_http:
            app = application(self._code)
            directory = Path(_session_directory())
            self._socket = str(directory / f"serve-{self._id.rpartition('#')[2]}.sock")
            behind_proxy = GatedApp(app, self._gate, self._spec.id.app, observer=self._numbers.relayed)
            self._gated.append(behind_proxy)
            self._guard()
            server = HTTPServer(
                behind_proxy,
                limits=FROM_PROXIES,
                keep_alive_timeout_s=FROM_PROXIES.idle_timeout_s,
                protocol=ReplicaProtocol,
            )
            await server.start([bind_unix(self._socket)])
            self._servers.append(server)
            if self._direct is not None:
                await self._accept_directly(app, self._direct)
        return Ready(os.getpid(), core.get_runtime_context().get_node_id(), self._socket)

    def _log_as(self, config: dict[str, Any]) -> None:
        """Begin to log, or go on in another way."""
        if self._log is not None:
            self._log.close()
        origin = Origin("replica", self._id, self._spec.id.app, self._spec.id.name)
        self._log = Log(origin, LoggingConfig.model_validate(config))
        self._numbers.log_to(self._log)

    def _guard(self) -> None:
        """Put before the application what the options ask for."""
        config = self._spec.config
        gateway = guard(config, self._spec.id.app, _session_directory())
        for gated in self._gated:
            gated.guard(gateway)
        ageing = ageing_s(config)
        if ageing is not None:
            self._gate.order(ageing)

    async def _begin_well(self) -> None:
        """Ask for the user's health once: a version that is never well is no better than one that cannot start."""
        seconds = float(self._spec.config["health_check_timeout_s"])
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await self._code.check_health()
        except TimeoutError:
            if not limit.expired():
                raise
            raise RayServeException(f"the first check_health() did not return within {seconds:g} s") from None

    async def _accept_directly(self, app: Callable[..., Any], direct: Direct) -> None:
        observer = self._numbers.direct
        gated = GatedApp(
            app,
            self._gate,
            self._spec.id.app,
            root_path=direct.route,
            direct=True,
            observer=observer,
            request_timeout_s=self._spec.config.get("request_timeout_s") or direct.options.request_timeout_s,
        )
        self._gated.append(gated)
        self._guard()
        self._public = public_server(gated, direct.options, ReplicaProtocol, observer)
        self._servers.append(self._public)
        self._listener = await asyncio.to_thread(HeldListener, direct.listener)
        await self._public.start([self._listener.sock])

    # -- calls through handles -----------------------------------------------------------------------------------------

    async def handle(self, meta: RequestMeta, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method and return its result, or `Full`."""
        if self._gate.full:
            return Full(self._id)
        self._gate.enter()
        token = set_request_context(_context(meta))
        began, error = time.perf_counter(), None
        try:
            async with _until(meta.deadline):
                if not meta.grpc:
                    return await self._code.call(meta.method, args, kwargs)
                answer = await _grpc().answer(self._code, meta.method, *args)
                error = answer.error
                return answer
        except Exception as raised:
            error = raised
            raise
        finally:
            self._numbers.called(meta, began, error)
            reset_request_context(token)
            self._gate.leave()

    async def handle_stream(self, meta: RequestMeta, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Call a generator method and yield what it yields; `Full` alone if there is no room."""
        if self._gate.full:
            yield Full(self._id)
            return
        self._gate.enter()
        token = set_request_context(_context(meta))
        began, error = time.perf_counter(), None
        try:
            code = self._code
            items = _grpc().stream(code, meta.method, *args) if meta.grpc else code.stream(meta.method, args, kwargs)
            async for item in items:
                yield item
        except Exception as raised:
            error = raised
            raise
        finally:
            self._numbers.called(meta, began, error)
            with contextlib.suppress(ValueError):  # closed from another context than it was begun in
                reset_request_context(token)
            self._gate.leave()

    # -- the controller ------------------------------------------------------------------------------------------------

    async def outlive(self) -> None:
        """Never return: a call whose failure tells the controller of this process's death at once."""
        await asyncio.Event().wait()

    def publish(self, targets: bytes) -> None:
        """Take over what the controller published, for the handles in this process."""
        local_router.update(msgspec.msgpack.decode(targets, type=Targets))

    def model_standings(self) -> Any:
        """Return where each model stands here, by its id; None if the class has no loader."""
        return None if self._models is None else self._models.standings()

    async def model_settled(self, model_id: str, order: int) -> Any:
        """Wait until an order to load a model is carried out; returns the loader's traceback, if it raised."""
        return await self._models.settled(model_id, order)

    async def model_gone(self, model_id: str) -> None:
        """Wait until a model that is wanted no more is unloaded."""
        await self._models.gone(model_id)

    async def leave_clients_to_proxies(self) -> None:
        """Accept no clients any more; those that are connected get one more answer each."""
        if self._public is not None:
            self._public.stop_accepting()
        self._let_go()

    def lend_listener(self, path: str) -> None:
        """Hand the listening socket to a controller that waits for it at a path.

        Raises:
            OSError: this replica does not have it (any more).
        """
        if self._listener is None:
            raise OSError("this replica accepts no clients itself")
        self._listener.lend(path)

    def _let_go(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Take over options whose change needs no restart."""
        backpressure = config["backpressure_config"]
        self._gate.configure(
            config["max_ongoing_requests"],
            config["max_queued_requests"],
            backpressure["retry_after_s"],
            backpressure["status_code"],
        )
        self._code.limit(config["max_ongoing_requests"])
        if config["logging_config"] != self._spec.config["logging_config"]:
            self._log_as(config["logging_config"])
        changed = config.get("user_config") != self._spec.config.get("user_config")
        guarded = config.get("gateway") != self._spec.config.get("gateway")
        self._spec = msgspec.structs.replace(self._spec, config=config)
        if guarded:
            self._guard()
        if changed and config.get("user_config") is not None:
            await self._code.reconfigure(config["user_config"])

    async def check_health(self) -> Stats:
        """Ask the user's ``check_health`` and return how busy this replica is."""
        await self._code.check_health()
        return self.stats()

    def stats(self) -> Stats:
        """Return how busy this replica is."""
        gate = self._gate
        peak, gate.peak = gate.peak, gate.ongoing
        return Stats(gate.ongoing, gate.queued, gate.total, peak, loaded_model_ids())

    async def report(self) -> bytes:
        """Return what this replica has counted (`serve.metrics.report.Report`), for the collector."""
        return self._numbers.report(await self._code.autoscaling_stats())

    async def stop(self, grace_s: float) -> bytes:
        """Finish what is in progress, for so many seconds at most, let the user's object go, and report a last time."""
        if self._stopped is None:
            self._stopped = asyncio.ensure_future(self._stop(grace_s))
        return await asyncio.shield(self._stopped)

    async def _stop(self, grace_s: float) -> bytes:
        for server in self._servers:
            server.stop_accepting()
        self._let_go()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.gather(self._gate.empty(), self._code.drain())
                await _at_most(
                    float(self._spec.config["graceful_shutdown_wait_loop_s"]),
                    asyncio.gather(*(server.drained() for server in self._servers)),
                )
                await self._gate.empty()
        await asyncio.gather(*(server.close(1) for server in self._servers))
        if self._socket:
            Path(self._socket).unlink(missing_ok=True)  # noqa: ASYNC240 - takes no time
        if self._stalls is not None:
            self._stalls.close()
        if self._models is not None:
            self._models.close()
        await unload_all_models()
        last = self._numbers.report()
        await self._code.end()
        if self._log is not None:
            self._log.close()
        return last

    def _make_handle(self, marker: HandleMarker) -> Any:
        from serve.handle.deployment_handle import DeploymentHandle  # noqa: PLC0415 - only graphs need it

        return DeploymentHandle(marker.deployment.name, marker.deployment.app)


async def _at_most(seconds: float, waiting: asyncio.Future[Any]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waiting, seconds)


def _grpc() -> Any:
    from serve.grpc_calls import serving  # noqa: PLC0415 - only gRPC needs it

    return serving


def _session_directory() -> str:
    return str(core.get_runtime_context().get_temp_dir())


def _context(meta: RequestMeta) -> RequestContext:
    return RequestContext(
        meta.request_id, meta.route, meta.app, meta.multiplexed_model_id, meta.deadline, meta.revision
    )


def _until(deadline: float | None) -> asyncio.Timeout:
    return asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time()))
