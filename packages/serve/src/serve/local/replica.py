"""A replica that shares the process with whoever calls it.

It has what a replica's process has: an event loop, threads for what is not ``async``, a gate, the request's context. It
has no server: the ASGI application is called as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from serve.context import (
    ReplicaContext,
    RequestContext,
    reset_request_context,
    set_replica_context_here,
    set_request_context,
)
from serve.local.asgi import Lifespan, across_loops
from serve.local.loop_thread import LoopThread
from serve.replica.asgi import application
from serve.replica.gate import Gate, GatedApp
from serve.replica.guard import guard
from serve.replica.user_code import UserCode
from serve.specs import DeploymentID, DeploymentSpec, HandleMarker, RequestMeta

#: seconds that requests in progress have to end when a replica is closed
CLOSE_S = 5.0

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """A deployment that is to run here."""

    id: DeploymentID
    target: Callable[..., Any]
    #: given what makes handles of bound deployments, returns the constructor's arguments
    arguments: Callable[[Callable[[HandleMarker], Any]], Arguments]
    #: the checked options, as `serve.config.DeploymentConfig` dumps them
    config: dict[str, Any]
    #: of the code and its arguments: as long as it stays, options can change without a new instance; empty if unknown
    version: str = ""


class _Code(UserCode):
    """The user's code as it is, not a copy: breakpoints, patches and closures keep their meaning."""

    def __init__(self, part: Part, replica_id: str, make_handle: Callable[[HandleMarker], Any]) -> None:
        super().__init__(DeploymentSpec(part.id, "", b"", part.config), replica_id, make_handle)
        self._part = part

    def _load(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        return (self._part.target, *self._part.arguments(self._make_handle))

    def _note(self, context: ReplicaContext | None) -> None:
        set_replica_context_here(context)


class LocalReplica:
    """See the module's docstring. Methods may be called in any thread, coroutines run on the replica's loop.

    Args:
        part: the deployment.
        make_handle: makes the handle that takes the place of a bound deployment.
    """

    def __init__(self, part: Part, make_handle: Callable[[HandleMarker], Any]) -> None:
        config, backpressure = part.config, part.config["backpressure_config"]
        self.id = part.id
        self.part = part
        self.replica_id = f"{part.id}#local"
        self.loop_thread = LoopThread(f"serve-{part.id}")
        self._gate = Gate(
            str(part.id),
            config["max_ongoing_requests"],
            config["max_queued_requests"],
            backpressure["retry_after_s"],
            backpressure["status_code"],
        )
        self._code = _Code(part, self.replica_id, make_handle)
        self._lifespan: Lifespan | None = None

    @property
    def instance(self) -> Any:
        """The user's object, or the user's function."""
        return self._code.instance

    def start(self) -> None:
        """Make the user's instance; whatever its constructor raises is raised here."""
        self.loop_thread.run(self._code.make())
        context = ReplicaContext(self.id, self.replica_id, self._code.instance)
        self.loop_thread.context.run(set_replica_context_here, context)

    def serve(self, route: str) -> Callable[..., Any]:
        """Return the ASGI application, after its lifespan began.

        Args:
            route: its prefix; empty for ``/``.
        """

        async def begin() -> Callable[..., Any]:
            app = application(self._code)
            lifespan = self._lifespan = Lifespan(app)
            await lifespan.begin()
            gateway = guard(self.part.config, self.id.app, None)
            gated = GatedApp(app, self._gate, self.id.app, root_path=route, direct=True, gateway=gateway)
            return across_loops(gated, self.loop_thread, lifespan.state)

        return self.loop_thread.run(begin())

    async def call(self, meta: RequestMeta, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method and return its result."""
        await self._enter()
        token = set_request_context(_context(meta))
        try:
            async with _until(meta.deadline):
                return await self._code.call(meta.method, args, kwargs)
        finally:
            reset_request_context(token)
            self._gate.leave()

    async def stream(self, meta: RequestMeta, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Call a generator method and yield what it yields."""
        await self._enter()
        token = set_request_context(_context(meta))
        try:
            async with contextlib.aclosing(self._code.stream(meta.method, args, kwargs)) as items:  # type: ignore[type-var]
                async for item in items:
                    yield item
        finally:
            reset_request_context(token)
            self._gate.leave()

    def reconfigure(self, part: Part) -> None:
        """Take over options whose change needs no new instance."""
        config, before = part.config, self.part.config
        self.part = part
        self._gate.max_ongoing = config["max_ongoing_requests"]
        self._gate.max_queued = config["max_queued_requests"]
        if config.get("user_config") != before.get("user_config"):
            self.loop_thread.run(self._code.reconfigure(config.get("user_config")))

    def close(self) -> None:
        """Let requests in progress end, then the lifespan, the user's object and the loop."""
        self.loop_thread.run(self._end())
        self.loop_thread.close()

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._gate.empty()
        if self._lifespan is not None:
            await self._lifespan.end()
        await self._code.end()

    async def _enter(self) -> None:
        if self._gate.full:
            await self._gate.wait()
        else:
            self._gate.enter()


def _context(meta: RequestMeta) -> RequestContext:
    return RequestContext(meta.request_id, meta.route, meta.app, meta.multiplexed_model_id, meta.deadline)


def _until(deadline: float | None) -> asyncio.Timeout:
    return asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time()))
