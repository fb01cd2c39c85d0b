"""The gRPC proxy: started with the first application, told of every publication, replaced when it dies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import core
from core.exceptions import RayError, RayTaskError
from core.util import kv
from serve.config import GRPCOptions
from serve.controller.replicas import find_actor
from serve.specs import NAMESPACE

#: seconds that calls have to end when the proxy stops
GRACE_S = 5.0
#: calls of the proxy's actor at a time: each client that streams may have its replica wait in one
MAX_CALLS = 10_000
ACTOR_NAME = "SERVE_GRPC_PROXY"
#: in the control store: the port, once it is served
PORT_KEY = "serve/grpc-port"


class GRPCFront:
    """See the module's docstring.

    Args:
        options: of gRPC; None serves none.
    """

    def __init__(self, options: GRPCOptions | None) -> None:
        self.options = options
        #: the port that clients connect to; None before anything was served
        self.port: int | None = None
        self._proxy: Any = None
        self._latest = b""
        self._opening = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    async def open(self, targets: bytes) -> None:
        """Begin to take calls, once.

        Args:
            targets: what is published.

        Raises:
            OSError: the port is taken.
            ValueError: a servicer function cannot be imported.
            ImportError: the extra ``grpc`` is not installed.
        """
        if self.options is None:
            return
        async with self._opening:
            if self._proxy is None:
                self._latest = self._latest or targets
                await self._start(self.options)

    async def _start(self, options: GRPCOptions) -> None:
        from serve.grpc_ingress.actor import GRPCProxy  # noqa: PLC0415 - most serve no gRPC

        name = ACTOR_NAME
        proxy_class = core.remote(GRPCProxy).options(
            name=name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_concurrency=MAX_CALLS
        )
        proxy = proxy_class.remote(name, options, options.host)
        try:
            self.port = await proxy.start.remote(self._latest, self.port or options.port)
        except RayTaskError as error:
            core.kill(proxy)
            raise (error.cause or error) from None
        except RayError as error:
            raise OSError(f"the gRPC proxy cannot be started: {error}") from error
        kv.put(PORT_KEY, str(self.port).encode())
        self._watch(proxy, options)

    def _watch(self, proxy: Any, options: GRPCOptions) -> None:
        self._proxy = proxy
        self._watching = asyncio.get_running_loop().create_task(self._replace(proxy, options))

    async def restore(self, targets: bytes) -> None:
        """Take over from a controller that is gone."""
        entry = kv.get(PORT_KEY)
        proxy = find_actor(ACTOR_NAME)
        if self.options is None or (entry is None and proxy is None):
            return
        self._latest = targets
        if entry is not None:
            self.port = int(entry.value)
            if proxy is not None:
                self._watch(proxy, self.options)
                await self.publish(targets)
                return
        if proxy is not None:  # nobody knows how far its start has come
            core.kill(proxy)
        self._watching = asyncio.get_running_loop().create_task(self._again(self.options, None))

    async def _replace(self, proxy: Any, options: GRPCOptions) -> None:
        """Start another proxy, at the same port, when this one dies; clients connect anew by themselves."""
        with contextlib.suppress(RayError):
            await proxy.outlive.remote()
        await self._again(options, proxy)

    async def _again(self, options: GRPCOptions, proxy: Any) -> None:
        while self._proxy is proxy:
            try:
                await self._start(options)
            except (RayError, OSError, ValueError):  # the port, or the name, is not free yet
                await asyncio.sleep(0.1)

    async def publish(self, targets: bytes) -> None:
        """Tell the proxy."""
        self._latest = targets
        if self._proxy is not None:
            with contextlib.suppress(RayError):
                await self._proxy.publish.remote(targets)

    @property
    def proxies(self) -> dict[str, Any]:
        """The proxy's actor by name."""
        return {} if self._proxy is None else {"grpc-proxy": self._proxy}

    @property
    def states(self) -> dict[str, str]:
        """The proxy's state by name."""
        return {} if self._proxy is None else {"grpc-proxy": "HEALTHY"}

    async def close(self) -> None:
        """Stop the proxy."""
        proxy, self._proxy = self._proxy, None
        if self._watching is not None:
            self._watching.cancel()
        if proxy is not None:
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(proxy.stop.remote(GRACE_S).as_future(), GRACE_S + 2)
            core.kill(proxy)
            kv.delete(PORT_KEY)
