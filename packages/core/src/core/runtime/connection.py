"""One socket to another process: frames out (batched), frames in (decoded)."""

from __future__ import annotations

import socket
from typing import Any

from core.protocol import framing


class Connection:
    """A non-blocking stream of messages.

    Sending only queues: :meth:`flush` puts all queued messages into one frame. The reactor calls :meth:`receive` when
    the socket is readable. All methods but :meth:`receive` are called under the runtime's lock.

    Args:
        sock: connected stream socket; made non-blocking here.
        message_type: union of the messages accepted from the other side.
        max_first: longest accepted frame in bytes until the first message.
    """

    __slots__ = (
        "_decoder",
        "address",
        "client",
        "closed",
        "defined",
        "exhausted",
        "flushed_at",
        "functions",
        "inflight",
        "lease",
        "out",
        "pending",
        "pid",
        "pool",
        "sock",
    )

    def __init__(self, sock: socket.socket, message_type: Any, max_first: int = framing.MAX_FRAME_BYTES) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._decoder: framing.Decoder[Any] = framing.Decoder(message_type, max_first)
        #: messages not yet encoded
        self.out: list[Any] = []
        #: encoded bytes the kernel did not take yet
        self.pending = bytearray()
        #: address of the process at the other end, once known
        self.address = b""
        self.pid = 0
        self.closed = False
        #: the last read found nothing
        self.exhausted = False
        #: monotonic time of the last flush
        self.flushed_at = 0.0
        #: as caller: numbers of our functions that the other side knows already
        self.functions: dict[int, Any] = {}
        #: as executor: the other side's functions
        self.defined: dict[int, Any] = {}
        #: as caller: tasks and calls sent and not finished, oldest first
        self.inflight: dict[bytes, Any] = {}
        #: as caller: the lease (and its pool) or the actor client this connection serves
        self.lease: Any = None
        self.pool: Any = None
        self.client: Any = None

    def flush(self) -> bool:
        """Send what is queued; return whether the kernel took all of it.

        Raises:
            OSError: the connection is broken.
        """
        if self.out:
            messages = self.out
            self.out = []
            frame = framing.encode(messages)
            if self.pending:
                self.pending += frame
            else:
                try:
                    sent = self.sock.send(frame)
                except BlockingIOError:
                    sent = 0
                if sent == len(frame):
                    return True
                self.pending = frame[sent:]
        while self.pending:
            try:
                sent = self.sock.send(self.pending)
            except BlockingIOError:
                return False
            del self.pending[:sent]
        return True

    def receive(self, buffer: bytearray) -> list[Any] | None:
        """Read once, through ``buffer``; return the messages completed, or None at end of stream.

        Raises:
            OSError: the connection is broken.
            ProtocolError: the other side sent something else than messages.
        """
        try:
            size = self.sock.recv_into(buffer)
        except BlockingIOError:
            self.exhausted = True
            return []
        if not size:
            return None
        return self._decoder.feed(memoryview(buffer)[:size])

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self.sock.close()
