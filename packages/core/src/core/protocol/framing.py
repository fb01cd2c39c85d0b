"""Frames: a 4-byte little-endian length, then a MessagePack array of messages.

Several messages share one frame, so one system call carries a whole batch. Decoding validates every field against the
receiver's message types; anything else raises :class:`ProtocolError`, and the connection it came from is closed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

M = TypeVar("M")

HEADER_BYTES = 4
#: Larger payloads travel through the object store; a longer frame is refused before it is buffered.
MAX_FRAME_BYTES = 512 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_encode_into = _encoder.encode_into


class ProtocolError(Exception):
    """A peer sent bytes that are no frame of the expected messages."""


@functools.cache
def _decoding(message_type: Any) -> Callable[[Any], list[Any]]:
    return msgspec.msgpack.Decoder(list[message_type]).decode


def prepare(*message_types: Any) -> None:
    """Build the decoders of these unions now: 1 to 2 ms each, which else the first connection of a process takes."""
    for message_type in message_types:
        _decoding(message_type)


def encode(messages: list[Any]) -> bytearray:
    """Return one frame that carries ``messages``."""
    frame = bytearray(HEADER_BYTES)
    _encode_into(messages, frame, HEADER_BYTES)
    frame[:HEADER_BYTES] = (len(frame) - HEADER_BYTES).to_bytes(4, "little")
    return frame


class Decoder(Generic[M]):
    """Incremental decoder of one connection's incoming bytes.

    Args:
        message_type: the union of message structs the receiver accepts.
        max_first: longest accepted frame, in bytes, until the first message: by that the other side says who it is.
            It must come in a frame of its own, because what follows in the same piece of the stream may be long.
    """

    __slots__ = ("_buffer", "_decode", "_max_frame")

    def __init__(self, message_type: Any, max_first: int = MAX_FRAME_BYTES) -> None:
        self._decode = _decoding(message_type)
        #: bytes received and not yet decoded: the head of one incomplete frame.
        self._buffer = bytearray()
        self._max_frame = max_first

    def feed(self, data: bytes | bytearray | memoryview) -> list[M]:
        """Return the messages completed by ``data``, in order.

        Raises:
            ProtocolError: the bytes are not frames of the accepted messages, or a frame is too long.
        """
        if self._buffer:
            self._buffer += data
            data = self._buffer
        end = len(data)
        # The common case: exactly one whole frame in hand.
        if end > HEADER_BYTES:
            size = int.from_bytes(data[:HEADER_BYTES], "little")
            if size == end - HEADER_BYTES:
                messages = self._decode_body(memoryview(data)[HEADER_BYTES:])
                if self._buffer:
                    self._buffer = bytearray()
                return messages
        start = 0
        out: list[M] = []
        view = memoryview(data)
        while end - start >= HEADER_BYTES:
            size = int.from_bytes(view[start : start + HEADER_BYTES], "little")
            if size > self._max_frame:
                raise ProtocolError(f"frame of {size} bytes; at most {self._max_frame} are accepted")
            stop = start + HEADER_BYTES + size
            if stop > end:
                break
            out += self._decode_body(view[start + HEADER_BYTES : stop])
            start = stop
        if start or data is not self._buffer:  # else the head of a long frame, which is not copied for every piece
            self._buffer = bytearray(view[start:])
        return out

    def _decode_body(self, body: memoryview) -> list[M]:
        try:
            messages: list[M] = self._decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise ProtocolError(f"not a frame of the expected messages: {error}") from error
        if messages:
            self._max_frame = MAX_FRAME_BYTES
        return messages
