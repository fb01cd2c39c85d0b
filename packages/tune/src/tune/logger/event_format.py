"""TensorBoard's event files, as far as scalars and hyperparameters need: records, checksums, three protobuf messages.

A file is a sequence of records: length (8 bytes), checksum of the length, data, checksum of the data; the data is an
``Event`` message. Libraries that write it take 0.05 to 0.1 ms a scalar, most of it for a checksum in Python and a
message object per value. A sweep logs tens of thousands of scalars a second, so here a trial's `ScalarLayout` is made
once: every event of the same names has the same bytes but for time, step and values. A batch of events is then one
array, and its checksums are one table look-up per byte, for all events together.

The checksum is CRC-32C (Castagnoli). A CRC without its initial value and final complement is linear: that of a message
is the exclusive or of what each byte contributes on its own at its distance from the end. `_contributions` has them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_RECORD_HEAD = 12
_RECORD_FOOT = 4
#: bytes of a step written at full length: an unsigned 63-bit number
_STEP_BYTES = 9
#: bytes of an event; of longer ones (hundreds of names) the checksum is made byte by byte, the table would be too large
_LONGEST_TABLE = 16_384


# protobuf, as much as is needed


def varint(number: int) -> bytes:
    """Encode an unsigned number in the variable-length way."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def field(number: int, value: bytes | str | float) -> bytes:
    """Encode one field: text and messages with their length, integers as varint, floats as double."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 1) + struct.pack("<d", value)


# records


def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)  # noqa: PLW2901 - a shift register
        table.append(byte)
    return table


_TABLE = _byte_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return a checksum as records store it."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _record_head(length: int) -> bytes:
    size = struct.pack("<Q", length)
    return size + struct.pack("<I", masked(crc32c(size)))


def record(data: bytes) -> bytes:
    """Return one record; for the few that are not scalars."""
    return _record_head(len(data)) + data + struct.pack("<I", masked(crc32c(data)))


def record_ends(data: bytes) -> list[int]:
    """Return where each complete record of a file ends."""
    ends = []
    position = 0
    while position + _RECORD_HEAD <= len(data):
        head = data[position : position + _RECORD_HEAD]
        (length,) = struct.unpack("<Q", head[:8])
        position += _RECORD_HEAD + length + _RECORD_FOOT
        if head != _record_head(length) or position > len(data):
            break
        ends.append(position)
    return ends


# events


def version_event(wall_time: float) -> bytes:
    """Return the event that each file begins with."""
    return field(1, wall_time) + field(3, "brain.Event:2")


def summary_event(wall_time: float, values: Sequence[bytes]) -> bytes:
    """Return an event at step 0 with encoded ``Summary.Value`` messages."""
    return field(1, wall_time) + field(5, b"".join(field(1, value) for value in values))


def hparams_value(hparams: dict[str, Any], start: float) -> bytes:
    """Return the ``Summary.Value`` by which TensorBoard's HPARAMS tab learns a run's hyperparameters."""
    entries = b"".join(field(1, field(1, name) + field(2, _json_value(value))) for name, value in hparams.items())
    session = entries + field(5, float(start))
    plugin = field(1, "hparams") + field(2, field(3, session))
    return field(1, "_hparams_/session_start_info") + field(9, field(1, plugin))


def _json_value(value: object) -> bytes:
    """Encode a ``google.protobuf.Value``: a number, a truth, or else a text."""
    if isinstance(value, bool):
        return field(4, int(value))
    if isinstance(value, int | float):
        return field(2, float(value))
    return field(3, str(value))


class ScalarLayout:
    """The bytes of every event that holds scalars of these names, but for what differs."""

    def __init__(self, names: Sequence[str]) -> None:
        import numpy as np  # noqa: PLC0415 - 0.1 s, only in processes that log

        summary = bytearray()
        offsets = []
        for name in names:
            value = field(1, name) + b"\x15\0\0\0\0"
            summary += b"\x0a" + varint(len(value)) + value
            offsets.append(len(summary) - 4)
        head = b"\x09" + bytes(8) + b"\x10" + bytes(_STEP_BYTES) + b"\x2a" + varint(len(summary))
        data = head + bytes(summary)
        template = _record_head(len(data)) + data + bytes(_RECORD_FOOT)
        self._template = np.frombuffer(template, np.uint8)
        self._body = slice(_RECORD_HEAD, _RECORD_HEAD + len(data))
        self._time = _RECORD_HEAD + 1
        self._step = _RECORD_HEAD + 10
        self._values = np.array([_RECORD_HEAD + len(head) + offset for offset in offsets], np.intp)

    def records(self, wall_times: Sequence[float], steps: Sequence[int], values: Sequence[Sequence[float]]) -> bytes:
        """Return a record for each wall time, step and row of values, one value for each name."""
        import numpy as np  # noqa: PLC0415 - as above

        count = len(steps)
        events = np.tile(self._template, (count, 1))
        events[:, self._time : self._time + 8] = np.array(wall_times, "<f8").view(np.uint8).reshape(count, 8)
        shifts = np.arange(0, 7 * _STEP_BYTES, 7, dtype=np.uint64)
        digits = (np.array(steps, np.uint64)[:, None] >> shifts & np.uint64(0x7F)).astype(np.uint8)
        digits[:, :-1] |= 0x80  # a varint at full length: "more follows" in all digits but the last
        events[:, self._step : self._step + _STEP_BYTES] = digits
        with np.errstate(over="ignore"):  # beyond a float's range is infinite, as in every writer
            scalars = np.array(values, "<f8").astype("<f4").view(np.uint8).reshape(count, -1, 4)
        for byte in range(4):
            events[:, self._values + byte] = scalars[:, :, byte]
        sums = _crc32c_of_rows(events[:, self._body])
        rotated = (sums >> np.uint32(15) | sums << np.uint32(17)) + np.uint32(0xA282EAD8)
        events[:, -_RECORD_FOOT:] = rotated.astype("<u4").view(np.uint8).reshape(count, 4)
        return events.tobytes()


def _crc32c_of_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the CRC-32C of each row."""
    import numpy as np  # noqa: PLC0415 - as above

    length = rows.shape[1]
    if length > _LONGEST_TABLE:
        return np.array([crc32c(row.tobytes()) for row in rows], np.uint32)
    table = _contributions(-(-length // 256) * 256)[:length][::-1]
    sums = np.zeros(len(rows), np.uint32)
    # rows in groups, so that the look-up's result stays small whatever the batch
    for first in range(0, len(rows), 64):
        group = rows[first : first + 64]
        found = table[np.arange(length), group]
        sums[first : first + 64] = np.bitwise_xor.reduce(found, axis=1)
    start = np.uint32(crc32c(bytes(length)))  # what initial value and complement alone make of that length
    return sums ^ start


@cache
def _contributions(length: int) -> NDArray[np.uint32]:
    """Return what a byte contributes to the checksum, by its distance from the end and its value."""
    import numpy as np  # noqa: PLC0415 - as above

    table = np.array(_TABLE, np.uint32)
    rows = [table]
    for _ in range(length - 1):
        last = rows[-1]
        rows.append(last >> np.uint32(8) ^ table[last & np.uint32(0xFF)])
    return np.stack(rows)
