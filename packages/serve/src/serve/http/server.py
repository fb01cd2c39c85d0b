"""A uvicorn server inside a process that has an event loop already: an actor's, or the driver's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from serve.config import HTTPOptions
from serve.http.limits import RequestLimits
from serve.http.protocol import GuardedProtocol
from serve.metrics.observer import Observer


class _Server(uvicorn.Server):
    """uvicorn's server on sockets that are bound, in a process that is not its own.

    It leaves signals alone, and a start-up that fails is an exception here instead of the end of the process.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the application's start-up (lifespan) failed; its log tells why")
        loop = asyncio.get_running_loop()
        self.servers = []
        for sock in sockets or []:
            listen = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
            self.servers.append(await listen(self._connection, sock=sock, ssl=self.config.ssl))
        self.started = True
        self.ready.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # makes the date field anew; uvicorn looks ten times a second
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)

    def end(self) -> None:
        """Leave the main loop."""
        self.should_exit = True
        self._ending.set()

    def _connection(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


class HTTPServer:
    """Serves one ASGI application on sockets that are bound already.

    Args:
        app: the application. Its lifespan runs in `start` and `close`.
        limits: what clients may ask for.
        keep_alive_timeout_s: seconds an idle connection is kept.
        root_path: prefix that a proxy in front has taken off.
        protocol: class of a connection, a `GuardedProtocol`.
        observer: is told of what is refused before it is a request.
        ssl_keyfile: key for TLS; None for plain HTTP.
        ssl_certfile: certificate for TLS.
        ssl_keyfile_password: password of the key.
        ssl_ca_certs: certificates that clients are checked by.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        limits: RequestLimits,
        keep_alive_timeout_s: float = 90.0,
        root_path: str = "",
        protocol: type[GuardedProtocol] = GuardedProtocol,
        observer: Observer | None = None,
        ssl_keyfile: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile_password: str | None = None,
        ssl_ca_certs: str | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=functools.partial(protocol, limits=limits, observer=observer),  # type: ignore[arg-type]  # called like the class
            ws="websockets-sansio",
            lifespan="auto",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            root_path=root_path,
            timeout_keep_alive=int(keep_alive_timeout_s),
            ssl_keyfile=ssl_keyfile,
            ssl_certfile=ssl_certfile,
            ssl_keyfile_password=ssl_keyfile_password,
            ssl_ca_certs=ssl_ca_certs,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Run the application's start-up and begin to accept.

        Raises:
            RuntimeError: the application's start-up failed; what it raised is in the log of ``uvicorn.error``.
        """
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(self._server.serve(sockets))
        ready = loop.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self._serving.result()

    @property
    def requests_in_progress(self) -> int:
        """The number of requests that are not answered whole."""
        connections = self._server.server_state.connections
        return sum(connection.in_line for connection in connections if isinstance(connection, GuardedProtocol))

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._server.server_state.connections)

    def stop_accepting(self) -> None:
        """Take no new connections; those there are get one more answer, which says that they end."""
        for listener in self._server.servers:
            listener.close()
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, GuardedProtocol):
                connection.drain()

    async def drained(self) -> None:
        """Wait until the last connection is closed, by its client or with its last answer."""
        while self._server.server_state.connections:  # noqa: ASYNC110 - uvicorn's set tells nobody when it is empty
            await asyncio.sleep(0.02)

    async def close(self, grace_s: float | None = None) -> None:
        """Stop accepting, let requests finish, and run the application's shutdown.

        Args:
            grace_s: seconds that requests in progress have; None for as long as they take.
        """
        if self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = None if grace_s is None else max(1, round(grace_s))
        self._server.end()
        await self._serving
        self._serving = None


def public_server(
    app: Callable[..., Any],
    options: HTTPOptions,
    protocol: type[GuardedProtocol],
    observer: Observer | None = None,
) -> HTTPServer:
    """Return a server for clients, as the options say.

    Args:
        app: the application.
        options: limits, times and TLS.
        protocol: class of a connection.
        observer: is told of what is refused before it is a request.
    """
    return HTTPServer(
        app,
        limits=RequestLimits(body_bytes=options.max_body_bytes),
        keep_alive_timeout_s=options.keep_alive_timeout_s,
        root_path=options.root_path,
        protocol=protocol,
        observer=observer,
        ssl_keyfile=options.ssl_keyfile,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile_password=options.ssl_keyfile_password,
        ssl_ca_certs=options.ssl_ca_certs,
    )


def bind(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a listening TCP socket.

    Args:
        host: address to bind to.
        port: port; 0 for a free one.
        shared: whether several processes bind the same port and the kernel spreads connections among them.

    Raises:
        OSError: the port is taken; the message says by what address and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno,
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port: --port of the commands, or "
            'serve.start(http_options={"port": ...}), where 0 is any free one',
        ) from error
    sock.setblocking(False)
    sock.listen(2048)
    return sock


def bind_unix(path: str) -> socket.socket:
    """Return a listening Unix socket that only this user may connect to."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.setblocking(False)
    sock.listen(2048)
    return sock
