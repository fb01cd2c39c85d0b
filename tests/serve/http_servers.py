"""A guarded server, bare and behind the relay, in a thread of the test's process: real sockets, real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from serve.handle.router import Router
from serve.http.limits import RequestLimits
from serve.http.server import HTTPServer, bind, bind_unix
from serve.metrics.observer import Observer
from serve.proxy.protocol import RelayProtocol
from serve.proxy.relay import Relay
from serve.specs import DeploymentID, ReplicaInfo, Route, Split, Targets

# libuv keeps a pipe for the life of the process from the first loop on; made here, it is no leak of a module's
uvloop.new_event_loop().close()

D = DeploymentID("echo")


def targets(*sockets: str, version: int = 1, **config: Any) -> Targets:
    replicas = tuple(
        ReplicaInfo(f"r{path}", D, "v1", "", "", 0, path, config.get("max_ongoing_requests", 100)) for path in sockets
    )
    route = Route("/", "default", (Split(1, D, "v1", 1.0),))
    return Targets(version, (route,), {str(D): replicas}, {str(D): config})


@contextlib.contextmanager
def loop_thread() -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """An event loop in a thread; yields what runs a coroutine there and returns its result."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(awaitable: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(_await(awaitable), loop).result(30)

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@contextlib.contextmanager
def direct(app: Any, limits: RequestLimits, keep_alive_timeout_s: float = 90) -> Iterator[int]:
    """Serve an application on a free port; yields the port."""
    with loop_thread() as run:
        sock = bind("127.0.0.1", 0, shared=False)
        port = sock.getsockname()[1]
        server = HTTPServer(app, limits=limits, keep_alive_timeout_s=keep_alive_timeout_s)
        run(server.start([sock]))
        try:
            yield port
        finally:
            run(server.close(1))


@contextlib.contextmanager
def relayed(app: Any, limits: RequestLimits, directory: Path, keep_alive_timeout_s: float = 90) -> Iterator[int]:
    """Serve an application behind a relay; yields the relay's port."""
    with loop_thread() as run, loop_thread() as run_replica:
        path = str(directory / "r.sock")
        replica = HTTPServer(app, limits=RequestLimits())
        run_replica(replica.start([bind_unix(path)]))
        router = Router()
        relay = Relay(router, Observer())
        router.update(targets(path))
        relay.update(targets(path))
        sock = bind("127.0.0.1", 0, shared=False)
        port = sock.getsockname()[1]
        server = HTTPServer(relay, limits=limits, protocol=RelayProtocol, keep_alive_timeout_s=keep_alive_timeout_s)
        run(server.start([sock]))
        try:
            yield port
        finally:
            run(server.close(1))
            relay.pool.close()
            run_replica(replica.close(1))
