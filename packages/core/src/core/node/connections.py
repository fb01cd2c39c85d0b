"""Connections of drivers and workers: accepting, who they are, reading, writing without blocking.

Nothing a peer sends is believed before its user id (``SO_PEERCRED``) is ours and its first message is a ``Hello``
within :data:`HELLO_SECONDS`. Bytes that are no messages close the connection, with one log line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from core.node.loop import Loop
from core.protocol import framing
from core.protocol.to_node import Hello, ToNode
from core.specs import LeaseSpec

logger = logging.getLogger(__name__)

#: Seconds a fresh connection has for its ``Hello``.
HELLO_SECONDS = 5.0
#: Connections that have not said ``Hello``; more are closed at once.
MAX_UNKNOWN = 256
#: A peer that does not read this many bytes is dropped.
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
#: Longest frame accepted before ``Hello``.
MAX_HELLO_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
_UCRED = struct.Struct("3i")


class Connection:
    """One peer. ``address`` is empty until its ``Hello`` is accepted.

    Messages given to :meth:`send` leave together at the end of the loop's batch.
    """

    def __init__(self, sock: socket.socket, server: Server, pid: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        #: by ``SO_PEERCRED``; 0 where unknown
        self.pid = pid
        self.address = b""
        self.kind = ""
        self.job_id = b""
        #: scheduling classes the peer has named: number -> (spec, display name)
        self.specs: dict[int, tuple[LeaseSpec, str]] = {}
        self.accepted_at = time.monotonic()
        self.closed = False
        self._server = server
        self._decoder: framing.Decoder[ToNode] = framing.Decoder(ToNode, MAX_HELLO_BYTES)
        #: messages to encode at the end of the batch
        self._messages: list[Any] = []
        #: encoded bytes the kernel did not take yet
        self._output = bytearray()

    def welcomed(self, address: bytes, kind: str, job_id: bytes) -> None:
        """Note who the peer is."""
        self.address, self.kind, self.job_id = address, kind, job_id
        self._server.known(self)

    def send(self, message: Any) -> None:
        """Queue a message."""
        if not self._messages:
            self._server.dirty(self)
        self._messages.append(message)

    def send_with_fd(self, message: Any, fd: int) -> None:
        """Send a message and a descriptor at once; only as the first message of a connection."""
        frame = framing.encode([message])
        try:
            sent = socket.send_fds(self.sock, [frame], [fd])
        except OSError as error:
            self._server.close(self, f"cannot be welcomed: {error}")
            return
        self._output += frame[sent:]

    @property
    def backlog(self) -> int:
        """Bytes the peer has not taken yet."""
        return len(self._output)

    def flush(self) -> None:
        """Encode what was queued and write as much as the kernel takes."""
        if self._messages:
            self._output += framing.encode(self._messages)
            self._messages = []
        try:
            while self._output:
                sent = self.sock.send(self._output)
                del self._output[:sent]
        except BlockingIOError:
            if len(self._output) > MAX_OUTPUT_BYTES:
                self._server.close(self, f"does not read: {len(self._output)} bytes wait for it")
                return
        except OSError:
            # Its death shows when it is read from; what was for it is of no use any more.
            self._output.clear()
        self._server.watch(self, bool(self._output))

    def finish(self, patience: float) -> None:
        """Write all that is queued, waiting for the peer to take it, at most ``patience`` seconds per write."""
        self.flush()
        if self._output and not self.closed:
            self.sock.settimeout(patience)
            with contextlib.suppress(OSError):
                self.sock.sendall(self._output)
            self._output.clear()

    def read(self, at_most: int = _READ_BYTES) -> list[ToNode] | None:
        """Return the messages that arrived; None when the peer is gone.

        Raises:
            ProtocolError: it sent something else.
        """
        try:
            data = self.sock.recv(at_most)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        return self._decoder.feed(data)


class Server:
    """All connections to the daemon's socket.

    Args:
        loop: where readiness is waited for.
        listener: the listening socket.
        on_message: called with each message, the first of a connection being its ``Hello``.
        on_gone: called when a connection that was welcomed has ended.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        on_message: Callable[[Connection, ToNode], None],
        on_gone: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._on_message = on_message
        self._on_gone = on_gone
        self._unknown: dict[int, Connection] = {}
        self.by_address: dict[bytes, Connection] = {}
        self._dirty: list[Connection] = []
        #: why a process could not be taken in, and when
        self._refused, self._refused_at = "", 0.0
        #: given up for a moment to hang up on somebody when there is no other descriptor left
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        listener.setblocking(False)
        loop.watch(listener.fileno(), selectors.EVENT_READ, self._accept)

    def send(self, address: bytes, message: Any) -> None:
        """Queue a message to a process; dropped when it is gone."""
        connection = self.by_address.get(address)
        if connection is not None:
            connection.send(message)

    def flush(self) -> None:
        """Write what the last batch queued."""
        while self._dirty:
            connection = self._dirty.pop()
            if not connection.closed:
                connection.flush()

    def drain(self, connection: Connection) -> None:
        """Handle all that a dead process sent before it died, then close."""
        while not connection.closed:
            self._readable(connection, final=True)

    def close(self, connection: Connection, why: str = "") -> None:
        """Close a connection; ``why`` is logged."""
        if connection.closed:
            return
        connection.closed = True
        if why:
            logger.warning("connection of pid %d closed: %s", connection.pid, why)
        self._loop.unwatch(connection.fd)
        connection.sock.close()
        self._unknown.pop(connection.fd, None)
        if self.by_address.get(connection.address) is connection:
            del self.by_address[connection.address]
            self._on_gone(connection)

    def expire(self, now: float) -> None:
        """Close connections that did not say ``Hello`` in time."""
        for connection in list(self._unknown.values()):
            if now - connection.accepted_at >= HELLO_SECONDS:
                self.close(connection, f"no Hello within {HELLO_SECONDS:g} s")

    @property
    def next_expiry(self) -> float | None:
        """When :meth:`expire` has something to do."""
        for connection in self._unknown.values():
            return connection.accepted_at + HELLO_SECONDS
        return None

    @property
    def refusal(self) -> str:
        """Why a process could not be taken in lately; "" if none was refused."""
        return self._refused if time.monotonic() - self._refused_at < HELLO_SECONDS else ""

    def known(self, connection: Connection) -> None:
        """Called by a connection whose peer is known now."""
        self._unknown.pop(connection.fd, None)
        self.by_address[connection.address] = connection

    def dirty(self, connection: Connection) -> None:
        """Called by a connection that has something to write."""
        self._dirty.append(connection)

    def watch(self, connection: Connection, writing: bool) -> None:
        """Called by a connection: whether it waits for room to write."""
        if connection.closed:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        self._loop.watch(connection.fd, events, lambda ready: self._ready(connection, ready))

    def _accept(self, events: int) -> None:
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._refused = f"the node daemon needs three files for each worker: {error.strerror} (`ulimit -n`)"
                self._refused_at = time.monotonic()
                logger.warning("cannot accept a connection: %s", error)
                self._refuse_one()
                return
            pid, uid = _peer(sock)
            if uid != os.getuid():
                logger.warning("connection of pid %d refused: user %d is not ours", pid, uid)
                sock.close()
            elif len(self._unknown) >= MAX_UNKNOWN:
                sock.close()
            else:
                sock.setblocking(False)
                connection = Connection(sock, self, pid)
                self._unknown[connection.fd] = connection
                self.watch(connection, False)

    def _refuse_one(self) -> None:
        """Hang up on who waits: left waiting, the listener would stay readable and the loop would never rest."""
        if self._spare >= 0:
            os.close(self._spare)
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # the thread that writes to disk was faster
            self._spare = -1

    def _ready(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._readable(connection)
        if events & selectors.EVENT_WRITE and not connection.closed:
            connection.flush()

    def _readable(self, connection: Connection, final: bool = False) -> None:
        try:
            messages = connection.read()
        except framing.ProtocolError as error:
            self.close(connection, str(error)[:200])
            return
        if messages is None or (final and not messages):
            self.close(connection)
            return
        for message in messages:
            if connection.closed:
                return
            if isinstance(message, Hello) == bool(connection.address):
                self.close(connection, f"{type(message).__name__} out of order")
                return
            self._on_message(connection, message)


def listen(path: str) -> socket.socket:
    """Return a socket that listens at ``path``, usable by this user only."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    sock.listen(1024)
    return sock


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Return process and user id of the peer. Where the kernel does not tell, the directory's mode must protect."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, os.getuid()
    try:
        pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError:
        return 0, -1
    return pid, uid
