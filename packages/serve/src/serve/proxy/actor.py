"""The actor of a proxy: accepts clients on the shared port and relays to replicas."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from serve.config import HTTPOptions
from serve.handle import local_router
from serve.http.listener import receive
from serve.http.server import public_server
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
        self._relay = Relay(local_router.router(), request_timeout_s=options.request_timeout_s)
        self._server = public_server(self._relay, options, RelayProtocol)

    async def start(self, targets: bytes) -> None:
        """Begin to accept."""
        self.publish(targets)
        await self._server.start([await asyncio.to_thread(receive, self._listener)])

    async def outlive(self) -> None:
        """Never return: a call whose failure tells the controller of this process's death at once."""
        await asyncio.Event().wait()

    def publish(self, targets: bytes) -> None:
        """Take over what the controller published."""
        published = msgspec.msgpack.decode(targets, type=Targets)
        local_router.update(published)
        self._relay.update(published)

    async def stop(self, grace_s: float) -> None:
        """Finish what is in progress, for so many seconds at most."""
        self._server.stop_accepting()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.drained(), min(grace_s, IDLE_S))
        await self._server.close(grace_s)
        self._relay.pool.close()
