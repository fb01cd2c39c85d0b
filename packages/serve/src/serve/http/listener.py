"""A listening socket that the controller made and replicas and proxies accept from.

All of them hold the same socket, so a replica that goes takes no waiting connection with it, and while none is there
clients wait in the kernel's queue instead of being refused. A controller that was restarted gets it back from any of
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

#: seconds that handing the socket over may take
LEND_S = 5.0


class SharedListener:
    """The controller's end: hands a socket to whoever asks for it on a Unix socket.

    Args:
        sock: the listening socket.
        path: of the Unix socket; only this user can connect to it.
    """

    def __init__(self, sock: socket.socket, path: str) -> None:
        self._sock = sock
        self.path = path
        Path(path).unlink(missing_ok=True)  # left behind by a controller that was killed
        self._door = _door(path)
        self._door.setblocking(False)
        self._giving = asyncio.get_running_loop().create_task(self._give())

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        port: int = self._sock.getsockname()[1]
        return port

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asking, _ = await loop.sock_accept(self._door)
            with asking, contextlib.suppress(OSError):  # it has gone away
                socket.send_fds(asking, [b"s"], [self._sock.fileno()])

    def close(self) -> None:
        """Close both ends; who has the socket keeps it."""
        self._giving.cancel()
        self._door.close()
        self._sock.close()
        Path(self.path).unlink(missing_ok=True)


class HeldListener:
    """The end of a replica or proxy.

    Args:
        path: where the socket is handed out.

    Raises:
        OSError: nobody hands one out there.
    """

    def __init__(self, path: str) -> None:
        #: for a server, which closes it when it stops to accept
        self.sock = receive(path)
        self._kept = self.sock.dup()

    def lend(self, path: str) -> None:
        """Hand the socket to a controller that waits at a path."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as giving:
            giving.settimeout(LEND_S)
            giving.connect(path)
            socket.send_fds(giving, [b"s"], [self._kept.fileno()])

    def close(self) -> None:
        """Let go of the socket."""
        self._kept.close()


async def borrow(lend: Callable[[str], Awaitable[None]], path: str) -> socket.socket:
    """Return the socket that somebody holds.

    Args:
        lend: has the holder call `HeldListener.lend`.
        path: of a Unix socket that is made for it.

    Raises:
        OSError: it was not handed over.
    """
    Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - takes no time
    with _door(path) as door:
        try:
            await lend(path)
            door.settimeout(LEND_S)  # it has been sent, so nobody waits here
            giving, _ = door.accept()
            with giving:
                giving.settimeout(LEND_S)
                return _received(giving)
        finally:
            Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - likewise


def receive(path: str) -> socket.socket:
    """Return the listening socket that is handed out at a path.

    Raises:
        OSError: nobody hands one out there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(10)
        asking.connect(path)
        return _received(asking)


def _received(connection: socket.socket) -> socket.socket:
    _, fds, _, _ = socket.recv_fds(connection, 1, 1)
    if not fds:
        raise OSError("the listening socket was not handed over")
    sock = socket.socket(fileno=fds[0])
    sock.setblocking(False)
    return sock


def _door(path: str) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(path)
    door.listen(64)
    return door
