"""A listening socket that the controller made and replicas and proxies accept from.

All of them hold the same socket, so a replica that goes takes no waiting connection with it, and while none is there
clients wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path


class SharedListener:
    """The controller's end: hands a socket to whoever asks for it on a Unix socket.

    Args:
        sock: the listening socket.
        path: of the Unix socket; only this user can connect to it.
    """

    def __init__(self, sock: socket.socket, path: str) -> None:
        self._sock = sock
        self.path = path
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(path)
        self._door.listen(64)
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
            with asking:
                socket.send_fds(asking, [b"s"], [self._sock.fileno()])

    def close(self) -> None:
        """Close both ends; who has the socket keeps it."""
        self._giving.cancel()
        self._door.close()
        self._sock.close()
        Path(self.path).unlink(missing_ok=True)


def receive(path: str) -> socket.socket:
    """Return the listening socket that is handed out at a path.

    Raises:
        OSError: nobody hands one out there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(10)
        asking.connect(path)
        _, fds, _, _ = socket.recv_fds(asking, 1, 1)
    sock = socket.socket(fileno=fds[0])
    sock.setblocking(False)
    return sock
