"""How clients get in: the listening socket, and the proxies once replicas alone no longer do.

As long as one replica of one application is all that clients can ask for, it accepts from the socket itself. When more
is deployed, a proxy takes over on the same socket, so clients notice nothing; it stays from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

import core
from core.exceptions import RayError
from core.util import kv
from serve.config import DeploymentConfig, HTTPOptions
from serve.controller.replicas import LOOP, find_actor
from serve.http.listener import LEND_S, SharedListener, borrow
from serve.http.server import bind
from serve.proxy.actor import Proxy
from serve.replica.actor import Direct
from serve.specs import INGRESS_KEY, NAMESPACE, ApplicationSpec

#: seconds that requests have to end when a proxy stops
GRACE_S = 5.0


class IngressRecord(msgspec.Struct, frozen=True):
    """What a restarted controller has to know of all this; kept under `INGRESS_KEY`."""

    #: that clients connect to
    port: int
    proxied: bool
    #: names of the proxies' actors
    proxies: tuple[str, ...]
    #: proxies that were ever started
    count: int


class Ingress:
    """See the module's docstring.

    Args:
        options: of HTTP.
        directory: for Unix sockets.
    """

    def __init__(self, options: HTTPOptions, directory: str) -> None:
        self.options = options
        self._directory = directory
        self._listener: SharedListener | None = None
        #: the proxies' actors by name
        self.proxies: dict[str, Any] = {}
        self._count = 0
        self._watching: set[asyncio.Task[None]] = set()
        self._latest = b""
        #: proxies accept: from now on replicas do not
        self.proxied = False

    def open(self) -> None:
        """Begin to listen, once.

        Raises:
            OSError: the port is taken.
        """
        if self._listener is None:
            self._listen(bind(self.options.host, self.options.port, shared=False))
            self._save()

    def _listen(self, sock: socket.socket) -> None:
        self._listener = SharedListener(sock, str(Path(self._directory) / "serve-listener.sock"))

    def _save(self, *starting: str) -> None:
        """Note how things are, and which proxies are about to be started."""
        record = IngressRecord(self.port or 0, self.proxied, (*self.proxies, *starting), self._count)
        kv.put(INGRESS_KEY, msgspec.msgpack.encode(record))

    @property
    def port(self) -> int | None:
        """The port that clients connect to; None before anything was served."""
        return None if self._listener is None else self._listener.port

    async def restore(self, replicas: Iterable[Any], targets: bytes) -> None:
        """Take over from a controller that is gone, whose socket replicas and proxies hold.

        Args:
            replicas: actors of replicas that accept clients themselves.
            targets: what is published.
        """
        entry = kv.get(INGRESS_KEY)
        if entry is None:
            return
        record = msgspec.msgpack.decode(entry.value, type=IngressRecord)
        self._latest, self._count, self.proxied = targets, record.count, record.proxied
        found = {name: actor for name in record.proxies if (actor := find_actor(name)) is not None}
        sock = await self._borrow([*found.values(), *replicas])
        self._listen(sock or bind(self.options.host, record.port, shared=False))
        for name, proxy in found.items():
            await self._begin(name, proxy)
        for _ in range(len(record.proxies) - len(self.proxies) if record.proxied else 0):
            await self._start_proxy()
        self._save()

    async def _borrow(self, holders: Iterable[Any]) -> socket.socket | None:
        for holder in holders:
            with contextlib.suppress(RayError, OSError, TimeoutError):
                return await borrow(functools.partial(_lend, holder), str(Path(self._directory) / "serve-lend.sock"))
        return None

    def wants_proxies(self, routed: Iterable[ApplicationSpec]) -> bool:
        """Tell whether replicas alone cannot serve these applications."""
        if self.proxied:
            return True
        if self.options.num_proxies is not None:
            return self.options.num_proxies > 0
        apps = list(routed)
        return len(apps) > 1 or any(_several(app) for app in apps)

    def refuse(self, routed: Iterable[ApplicationSpec]) -> None:
        """Refuse what cannot be served without proxies.

        Raises:
            ValueError: several applications with ``num_proxies=0``.
        """
        names = [app.name for app in routed]
        if self.options.num_proxies == 0 and len(names) > 1:
            raise ValueError(
                f"num_proxies=0 lets replicas accept clients themselves, which only one application with a route can; "
                f"there would be {', '.join(map(repr, names))}. Start Serve with num_proxies=1"
            )

    def direct(self, app: ApplicationSpec) -> Direct | None:
        """Return how a new replica of an application's ingress accepts clients; None if proxies do that."""
        if self.proxied or self._listener is None or app.route_prefix is None:
            return None
        return Direct(self._listener.path, self.options, app.route_prefix.rstrip("/"))

    async def start_proxies(self, targets: bytes) -> None:
        """Start the proxies, once."""
        self._latest = targets
        for _ in range(max(1, self.options.num_proxies or 1)):
            await self._start_proxy()
        self.proxied = True
        self._save()

    async def _start_proxy(self) -> None:
        assert self._listener is not None, "proxies accept on a socket that is open"
        self._count += 1
        name = f"proxy-{self._count}"
        self._save(name)  # a controller that takes over must find it
        proxy_class = core.remote(Proxy).options(
            name=name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, runtime_env={"env_vars": LOOP}
        )
        await self._begin(name, proxy_class.remote(self._listener.path, self.options))

    async def _begin(self, name: str, proxy: Any) -> None:
        """Have a proxy accept, unless it does already, and watch it."""
        self.proxies[name] = proxy
        self._save()
        try:
            await proxy.start.remote(self._latest)
        except RayError:
            del self.proxies[name]
            core.kill(proxy)
            raise
        task = asyncio.get_running_loop().create_task(self._replace(name, proxy))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _replace(self, name: str, proxy: Any) -> None:
        """Start another proxy when one dies; its clients wait in the socket's queue meanwhile."""
        with contextlib.suppress(RayError):
            await proxy.outlive.remote()
        if self.proxies.pop(name, None) is not None:
            with contextlib.suppress(RayError):
                await self._start_proxy()

    async def publish(self, targets: bytes) -> None:
        """Tell the proxies."""
        self._latest = targets
        answers = [proxy.publish.remote(targets).as_future() for proxy in self.proxies.values()]
        await asyncio.gather(*answers, return_exceptions=True)

    @property
    def states(self) -> dict[str, str]:
        """The proxies' states by name."""
        return dict.fromkeys(self.proxies, "HEALTHY")

    def rest(self) -> None:
        """Stop to listen while nothing has a route: clients are refused instead of waiting. The port is kept."""
        if self._listener is not None and not self.proxied:
            self.options = self.options.model_copy(update={"port": self._listener.port})
            self._listener.close()
            self._listener = None
            kv.delete(INGRESS_KEY)

    async def close(self) -> None:
        """Stop the proxies and close the socket."""
        proxies, self.proxies = self.proxies, {}
        for proxy in proxies.values():
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(proxy.stop.remote(GRACE_S).as_future(), GRACE_S + 2)
            core.kill(proxy)
        for task in list(self._watching):
            task.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            kv.delete(INGRESS_KEY)

    def abandon(self) -> None:
        """Close the socket, without a session to talk to."""
        for task in list(self._watching):
            task.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


async def _lend(holder: Any, path: str) -> None:
    await asyncio.wait_for(holder.lend_listener.remote(path).as_future(), LEND_S)


def _several(app: ApplicationSpec) -> bool:
    ingress = next(each for each in app.deployments if each.id.name == app.ingress)
    config = DeploymentConfig.model_validate(ingress.config)
    return config.autoscaling_config is not None or config.initial_replicas != 1
