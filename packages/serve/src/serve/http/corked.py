"""A transport that sends what is written within one turn of the event loop in one piece.

uvicorn writes an answer's head and its body one after the other, and uvloop sends each at once: two system calls and
two packets where one would do. On a loopback connection a system call is a third of the cost of a small answer.
"""

from __future__ import annotations

import asyncio
from typing import Any


class CorkedTransport(asyncio.Transport):
    """Wraps the transport of a connection; everything but writing is passed on.

    Args:
        transport: the connection's own.
        loop: the connection's event loop.
    """

    __slots__ = ("_inner", "_loop", "_pieces")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._inner = transport
        self._loop = loop
        self._pieces: list[bytes | bytearray | memoryview[Any]] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send at the end of this turn."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def _flush(self) -> None:
        pieces = self._pieces
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        if not self._inner.is_closing():
            self._inner.write(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._inner.close()

    def abort(self) -> None:
        """Close at once."""
        self._pieces = []
        self._inner.abort()

    def is_closing(self) -> bool:
        """Tell whether the connection is closed or about to be."""
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the connection's own transport knows."""
        return self._inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._inner.resume_reading()

    def is_reading(self) -> bool:
        """Tell whether it is reading."""
        return self._inner.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._flush()
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that has the connection."""
        return self._inner.get_protocol()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to stop writing."""
        self._inner.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the bytes that are not sent yet."""
        return self._inner.get_write_buffer_size() + sum(len(piece) for piece in self._pieces)
