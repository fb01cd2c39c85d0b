"""The operators' entrance to a controller. FastAPI and the rest are loaded when the first of them comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.util import kv
from serve.admin.desk import Desk
from serve.http.limits import RequestLimits

if TYPE_CHECKING:
    from serve.admin.deployer import Deployer, Outcome
    from serve.http.server import HTTPServer
    from serve.schema.deploy import ServeDeploySchema

#: Ray's
DEFAULT_PORT = 8265
#: put in the control store when an operator ends Serve; who started it waits for that
END_KEY = "serve/end"
#: there is the id of the process that started Serve, and ends with it
HOLDER_KEY = "serve/holder"


class Administration:
    """Carries out config files, and serves the REST API. All methods run on the controller's event loop.

    Args:
        desk: the controller.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._deployer: Deployer | None = None
        self._host = ""
        self._socket: socket.socket | None = None
        self._server: HTTPServer | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def deployer(self) -> Deployer:
        """Where config files are handed in, one at a time."""
        if self._deployer is None:
            from serve.admin.deployer import Deployer  # noqa: PLC0415 - who deploys without config files needs none

            self._deployer = Deployer(self._desk)
        return self._deployer

    async def deploy(self, config: ServeDeploySchema, *, dry_run: bool = False, canary: float | None = None) -> Outcome:
        """See `serve.admin.deployer.Deployer.deploy`."""
        return await self.deployer.deploy(config, dry_run=dry_run, canary=canary)

    def open(self, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> str:
        """Listen, unless it does already, and return the address: ``http://127.0.0.1:8265``.

        Args:
            host: address to listen on.
            port: 0 for a free one.

        Raises:
            OSError: the port is taken.
        """
        if self._socket is None:
            self._socket = _listen(host, port)
            self._host = host
            asyncio.get_running_loop().add_reader(self._socket, self._called, self._socket)
        shown = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{shown}:{self._socket.getsockname()[1]}"

    def _called(self, listening: socket.socket) -> None:
        """Take notice of the first who waits in the socket's queue."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._starting = loop.create_task(self._start(listening))

    async def _start(self, listening: socket.socket) -> None:
        make = await asyncio.get_running_loop().run_in_executor(None, _load)
        server = make(self, self._desk, self._host)
        await server.start([listening])
        self._server = server

    def end_serve(self) -> None:
        """Tell whoever started Serve that it is to end."""
        kv.put(END_KEY, b"")

    async def close(self) -> None:
        """Stop listening; requests that are being answered get a second."""
        if self._socket is None:
            return
        if self._starting is None:
            asyncio.get_running_loop().remove_reader(self._socket)
        else:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._server is not None:
            await self._server.close(1)
        self._socket.close()
        self._socket = None


def _load() -> Callable[[Administration, Desk, str], HTTPServer]:
    from serve.admin.app import create_app  # noqa: PLC0415 - FastAPI: a third of a second that nobody may need
    from serve.http.server import HTTPServer  # noqa: PLC0415 - uvicorn, likewise

    return lambda office, desk, host: HTTPServer(create_app(office, desk, host), limits=RequestLimits())


def _listen(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port} for the REST API: {error.strerror}") from None
    return sock
