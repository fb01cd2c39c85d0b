"""The actor of a proxy: accepts clients on the shared port and relays to replicas."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec

import core
from serve.config import HTTPOptions
from serve.gateway.marks import TABLE
from serve.handle import local_router
from serve.http.listener import HeldListener
from serve.http.server import public_server
from serve.logs.lines import Origin
from serve.logs.setup import Log
from serve.metrics import requests
from serve.metrics.observer import Observer
from serve.metrics.process import report
from serve.metrics.report import Family
from serve.proxy.protocol import RelayProtocol
from serve.proxy.relay import Relay
from serve.specs import Targets

#: seconds that connected clients have to send one more request, which is answered, when the proxy stops
IDLE_S = 2.0


class Proxy:
    """See the module's docstring.

    Args:
        listener: where the listening socket is handed out.
        options: of HTTP.
    """

    def __init__(self, listener: str, options: HTTPOptions) -> None:
        self._listener = listener
        self._log = Log(Origin("proxy", str(os.getpid())), options.logging_config)
        self._observer = Observer(self._log if self._log.accesses else None)
        table = str(Path(core.get_runtime_context().get_temp_dir(), TABLE))
        self._relay = Relay(local_router.router(), self._observer, options.request_timeout_s, table)
        self._server = public_server(self._relay, options, RelayProtocol, self._observer)
        self._held: HeldListener | None = None
        self._started: asyncio.Future[None] | None = None

    async def start(self, targets: bytes) -> None:
        """Begin to accept, once; whoever calls again (a controller that was restarted) only tells what is published."""
        self.publish(targets)
        if self._started is None:
            self._started = asyncio.ensure_future(self._accept())
        await asyncio.shield(self._started)

    async def _accept(self) -> None:
        self._held = await asyncio.to_thread(HeldListener, self._listener)
        await self._server.start([self._held.sock])

    def lend_listener(self, path: str) -> None:
        """Hand the listening socket to a controller that waits for it at a path.

        Raises:
            OSError: this proxy does not have it (any more).
        """
        if self._held is None:
            raise OSError("this proxy accepts no clients")
        self._held.lend(path)

    async def outlive(self) -> None:
        """Never return: a call whose failure tells the controller of this process's death at once."""
        await asyncio.Event().wait()

    def publish(self, targets: bytes) -> None:
        """Take over what the controller published."""
        published = msgspec.msgpack.decode(targets, type=Targets)
        local_router.update(published)
        self._relay.update(published)

    def report(self) -> bytes:
        """Return what this proxy has counted (`serve.metrics.report.Report`), for the collector."""
        ongoing = self._server.requests_in_progress
        clients = Family("gauge", "serve_num_ongoing_http_requests", "HTTP requests that proxies are relaying.")
        clients.values[()] = ongoing
        families = [clients, *requests.of_clients(self._observer.requests, self._observer.refusals)]
        return msgspec.msgpack.encode(
            report(ongoing=ongoing, queued=local_router.router().queued(), families=families, log=str(self._log.path))
        )

    async def stop(self, grace_s: float) -> bytes:
        """Finish what is in progress, for so many seconds at most, and report a last time."""
        self._server.stop_accepting()
        if self._held is not None:
            self._held.close()
            self._held = None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.drained(), min(grace_s, IDLE_S))
        await self._server.close(grace_s)
        self._relay.pool.close()
        self._log.close()
        return self.report()
