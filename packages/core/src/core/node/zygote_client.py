"""The daemon's side of the zygote: ask it for workers, hear of their deaths."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from core.node.loop import Loop
from core.protocol import framing
from core.protocol.zygote import Exited, Forked, ForkFailed, FromZygote

logger = logging.getLogger(__name__)

_MAX_FDS = 32


class ZygoteClient:
    """The connection to the zygote.

    Args:
        sock: the daemon's end of the socketpair.
        pid: the zygote's process id; a child of this process.
    """

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self.pid = pid
        self._sock = sock
        self._sock.setblocking(False)
        self._decoder: framing.Decoder[FromZygote] = framing.Decoder(FromZygote)
        self._fds: deque[int] = deque()
        self._output = bytearray()
        self._loop: Loop | None = None
        self._on_forked: Callable[[Forked, int, int], None]
        self._on_failed: Callable[[ForkFailed], None]
        self._on_exited: Callable[[Exited], None]
        self._on_lost: Callable[[], None]

    def attach(
        self,
        loop: Loop,
        on_forked: Callable[[Forked, int, int], None],
        on_failed: Callable[[ForkFailed], None],
        on_exited: Callable[[Exited], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Start listening.

        ``on_forked`` gets the read ends of the worker's stdout and stderr and owns them; -1 twice if this process could
        not take them.
        """
        self._loop = loop
        self._on_forked, self._on_failed, self._on_exited, self._on_lost = on_forked, on_failed, on_exited, on_lost
        loop.watch(self._sock.fileno(), selectors.EVENT_READ, self._ready)

    def send(self, message: Any) -> None:
        """Send a message; never blocks."""
        self._output += framing.encode([message])
        self._flush()

    def _flush(self) -> None:
        assert self._loop is not None
        try:
            while self._output:
                sent = self._sock.send(self._output)
                del self._output[:sent]
        except BlockingIOError:
            pass
        except OSError:
            # Its end is seen when it is read from.
            self._output.clear()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._output else 0)
        self._loop.watch(self._sock.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._sock, 65536, _MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds, flags = b"", [], 0
        if not data:
            assert self._loop is not None
            self._loop.unwatch(self._sock.fileno())
            self._on_lost()
            return
        if flags & socket.MSG_CTRUNC:
            # This process had no room for all of them, which are those of one worker: it has to do without either.
            for fd in fds:
                os.close(fd)
            fds = [-1, -1]
        else:
            for fd in fds:
                os.set_inheritable(fd, False)
        self._fds.extend(fds)
        for message in self._decoder.feed(data):
            if isinstance(message, Forked):
                self._on_forked(message, self._fds.popleft(), self._fds.popleft())
            elif isinstance(message, ForkFailed):
                logger.warning("%s", message.reason)
                self._on_failed(message)
            else:
                self._on_exited(message)

    def kill(self) -> None:
        """End the zygote at once; its workers end with it (PDEATHSIG)."""
        os.kill(self.pid, signal.SIGKILL)
