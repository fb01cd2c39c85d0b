"""This process's connections to the other drivers and workers of the session, and what their ends mean.

A connection that ends says little: the process may have left on purpose, died, or been killed. The node knows and tells
every process (``ProcessDied``); until it does, the process at the other end is only a suspect.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import ids
from core.protocol import VERSION, framing, peer, socket_name
from core.protocol.framing import ProtocolError
from core.protocol.records import DeathCause
from core.runtime.connection import Connection

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

logger = logging.getLogger(__name__)
monotonic = time.monotonic

#: Seconds within which the node should have told why a peer's connection ended.
SUSPICION = 2.0
#: Dead processes remembered.
REMEMBERED = 1000
BACKLOG = 512
#: A process that dials has so many seconds and bytes for its ``PeerHello``; so many may be silent at a time.
HELLO_SECONDS = 5.0
MAX_HELLO_BYTES = 1 << 20
MAX_STRANGERS = 256


class Peers:
    """Connections by address. All methods but the constructor are called under the runtime's lock."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._connections: dict[bytes, Connection] = {}
        #: processes known to be dead, newest last
        self.dead: dict[bytes, DeathCause] = {}
        #: peers whose connection ended for a reason not told yet: when to give up waiting for it
        self._suspects: dict[bytes, float] = {}
        #: those who dialled and have not said who they are: when they are hung up on
        self._strangers: dict[Connection, float] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            self._listener.bind(self._path_of(runtime.address))
        finally:
            os.umask(old)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor of the listening socket."""
        return self._listener.fileno()

    def _path_of(self, address: bytes) -> str:
        return str(self._rt.session_dir / socket_name(address))

    def connect(self, address: bytes) -> Connection | None:
        """Return the connection to a process, dialling if need be; None if it is dead."""
        connection = self._connections.get(address)
        if connection is not None:
            return connection
        if address in self.dead or self._rt.closed:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path_of(address))
            # In a frame of its own: until the other side has it, it takes short frames only.
            sock.sendall(framing.encode([peer.PeerHello(VERSION, self._rt.address, os.getpid())]))
        except OSError:
            sock.close()
            self._suspect(address)
            return None
        connection = Connection(sock, peer.FromPeer)
        connection.address = address
        self._connections[address] = connection
        self._rt.reactor.add(connection)
        return connection

    def send(self, address: bytes, message: Any) -> bool:
        """Queue a message to a process; False if it is dead."""
        connection = self.connect(address)
        if connection is None:
            return False
        connection.out.append(message)
        self._rt.reactor.dirty.add(connection)
        self._rt.reactor.queued()
        return True

    def unsent(self, address: bytes, message: Any) -> bool:
        """Tell whether a message is the last of those queued for a process, so that it may still be added to."""
        connection = self._connections.get(address)
        return connection is not None and bool(connection.out) and connection.out[-1] is message

    def accept(self) -> None:
        """Take in everybody who dials and belongs to this user."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if not _same_user(sock) or len(self._strangers) >= MAX_STRANGERS:
                sock.close()
                continue
            connection = Connection(sock, peer.FromPeer, MAX_HELLO_BYTES)
            due = monotonic() + HELLO_SECONDS
            self._strangers[connection] = due
            self._rt.reactor.add(connection)
            self._rt.reactor.schedule(due)

    def hello(self, connection: Connection, message: peer.PeerHello) -> None:
        """The process at the other end says who it is.

        Raises:
            ProtocolError: it runs another version, has no proper address, or has said who it is before.
        """
        if connection.address or len(message.address) != ids.ADDRESS_BYTES:
            raise ProtocolError("not a proper PeerHello")
        if message.version != VERSION:
            raise ProtocolError(f"peer runs version {message.version}, this is {VERSION}")
        self._strangers.pop(connection, None)
        connection.address = message.address
        connection.pid = message.pid
        self._connections.setdefault(message.address, connection)

    def disconnected(self, connection: Connection, error: Exception | None) -> None:
        """A connection ended or broke."""
        self._strangers.pop(connection, None)
        if isinstance(error, ProtocolError):
            logger.warning("connection from %s closed: %s", connection.address.hex() or "a stranger", error)
        address = connection.address
        if address and self._connections.get(address) is connection:
            del self._connections[address]
            if connection.client is not None:
                self._rt.actors.disconnected(connection.client, connection)
            self._suspect(address)

    def _suspect(self, address: bytes) -> None:
        if address not in self.dead and not self._rt.closed:
            due = monotonic() + SUSPICION
            self._suspects.setdefault(address, due)
            self._rt.reactor.schedule(due)

    def tick(self, now: float) -> float | None:
        """Give up on suspects whose time is over; return when the next one's is."""
        due: float | None = None
        for address, deadline in list(self._suspects.items()):
            if now >= deadline:
                self.died(address, DeathCause("disconnected", detail="its connection broke"))
            else:
                due = deadline if due is None else min(due, deadline)
        for connection, deadline in list(self._strangers.items()):
            if now >= deadline:
                del self._strangers[connection]
                self._rt.reactor.remove(connection)
            else:
                due = deadline if due is None else min(due, deadline)
        return due

    def died(self, address: bytes, cause: DeathCause) -> None:
        """A process is gone: settle everything between it and us."""
        self._suspects.pop(address, None)
        if address in self.dead:
            return
        self.dead[address] = cause
        if len(self.dead) > REMEMBERED:
            del self.dead[next(iter(self.dead))]
        rt = self._rt
        connection = self._connections.pop(address, None)
        if connection is not None:
            rt.reactor.drain_connection(connection)
        rt.tasks.worker_gone(address, cause)
        if connection is not None:
            if connection.client is not None:
                rt.actors.disconnected(connection.client, connection)
            rt.reactor.remove(connection)
        rt.borrowing.process_gone(address)
        rt.table.borrower_gone(address)
        rt.settling.caller_gone(address)
        rt.exchange.owner_died(address, cause)
        rt.inbox.process_died(address)

    def abandon(self) -> None:
        """Close what a forked child inherited, without a word to anybody."""
        for connection in self._connections.values():
            connection.sock.close()
        self._listener.close()

    def close(self) -> None:
        """Take nobody in any more."""
        self._listener.close()
        with contextlib.suppress(OSError):
            Path(self._path_of(self._rt.address)).unlink()


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return process and user id of the other end; where the kernel does not tell, 0 and this user's.

    The directory's mode keeps others out there.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, os.getuid()
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def _same_user(sock: socket.socket) -> bool:
    """Tell whether the process at the other end belongs to this user (or root)."""
    return peer_of(sock)[1] in (0, os.getuid())
