"""How clients get in: the listening socket, and the proxies once replicas alone no longer do.

As long as one replica of one application is all that clients can ask for, it accepts from the socket itself. When more
is deployed, a proxy takes over on the same socket, so clients notice nothing; it stays from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import core
from core.exceptions import RayError
from serve.config import DeploymentConfig, HTTPOptions
from serve.controller.replicas import LOOP
from serve.http.listener import SharedListener
from serve.http.server import bind
from serve.proxy.actor import Proxy
from serve.replica.actor import Direct
from serve.specs import NAMESPACE, ApplicationSpec

#: seconds that requests have to end when a proxy stops
GRACE_S = 5.0


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
        self._proxies: list[Any] = []
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
            sock = bind(self.options.host, self.options.port, shared=False)
            self._listener = SharedListener(sock, str(Path(self._directory) / "serve-listener.sock"))

    @property
    def port(self) -> int | None:
        """The port that clients connect to; None before anything was served."""
        return None if self._listener is None else self._listener.port

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

    async def _start_proxy(self) -> None:
        assert self._listener is not None, "proxies accept on a socket that is open"
        proxy_class = core.remote(Proxy).options(namespace=NAMESPACE, num_cpus=0, runtime_env={"env_vars": LOOP})
        proxy = proxy_class.remote(self._listener.path, self.options)
        await proxy.start.remote(self._latest)
        self._proxies.append(proxy)
        task = asyncio.get_running_loop().create_task(self._replace(proxy))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _replace(self, proxy: Any) -> None:
        """Start another proxy when one dies; its clients wait in the socket's queue meanwhile."""
        with contextlib.suppress(RayError):
            await proxy.outlive.remote()
        if proxy in self._proxies:
            self._proxies.remove(proxy)
            with contextlib.suppress(RayError):
                await self._start_proxy()

    async def publish(self, targets: bytes) -> None:
        """Tell the proxies."""
        self._latest = targets
        answers = [proxy.publish.remote(targets).as_future() for proxy in self._proxies]
        await asyncio.gather(*answers, return_exceptions=True)

    @property
    def proxies(self) -> dict[str, Any]:
        """The proxies' actors by name."""
        return {f"proxy-{number}": proxy for number, proxy in enumerate(self._proxies)}

    @property
    def states(self) -> dict[str, str]:
        """The proxies' states by name."""
        return {f"proxy-{number}": "HEALTHY" for number, _ in enumerate(self._proxies)}

    async def close(self) -> None:
        """Stop the proxies and close the socket."""
        proxies, self._proxies = self._proxies, []
        for proxy in proxies:
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(proxy.stop.remote(GRACE_S).as_future(), GRACE_S + 2)
            core.kill(proxy)
        for task in list(self._watching):
            task.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _several(app: ApplicationSpec) -> bool:
    ingress = next(each for each in app.deployments if each.id.name == app.ingress)
    config = DeploymentConfig.model_validate(ingress.config)
    return config.autoscaling_config is not None or config.initial_replicas != 1
