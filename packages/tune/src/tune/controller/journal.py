"""The journal: append-only files of checked records, the primary record of a sweep.

``journal/000001.log``, ``000002.log``, ...: each driver begins a new segment, and a segment that has grown large is
followed by another. A record is a frame: length, CRC-32, index of the trial it is about (-1: none), payload. The writer
hands a round's frames to the kernel in one write, so a killed driver leaves whole frames and at most one torn one, at
the end of its segment; the reader ignores that one. Only the end of a segment can be torn: a bad frame with more behind
it is damage, and reported.

Data is forced to the disk when a segment ends and when a snapshot is taken: a crash of the machine itself, not of the
driver, may cost what came since.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tune.errors import JournalError

_FRAME = struct.Struct("<IIi")
_MAGIC = b"tunejrn1"
#: bytes after which a new segment is begun
SEGMENT_SIZE = 64 * 1024 * 1024
#: no record is longer: what claims to be is garbage
_LONGEST = 1 << 31


class Position(msgspec.Struct, frozen=True, order=True):
    """A place between two records."""

    segment: int = 0
    offset: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One record as read."""

    #: index of the trial it is about; -1: none
    index: int
    payload: memoryview
    #: where the record begins, and where the next one does
    start: Position
    end: Position


def segments(directory: Path) -> list[int]:
    """Return the numbers of the segments there are, in order."""
    return sorted(int(path.stem) for path in (directory / "journal").glob("[0-9]*.log"))


def segment_path(directory: Path, number: int) -> Path:
    """Return the path of a segment."""
    return directory / "journal" / f"{number:06d}.log"


def read(directory: Path, start: Position = Position()) -> Iterator[Entry]:  # noqa: B008 - a constant
    """Yield the records after a position, in order.

    Args:
        directory: of the experiment.
        start: where to begin; the beginning by default.

    Raises:
        JournalError: a segment is damaged before its end, or not one of ours.
    """
    for number in segments(directory):
        if number >= start.segment:
            yield from _read_segment(directory, number, start.offset if number == start.segment else 0)


def _read_segment(directory: Path, number: int, offset: int) -> Iterator[Entry]:
    path = segment_path(directory, number)
    data = memoryview(path.read_bytes())
    size = len(data)
    if data[: len(_MAGIC)] != _MAGIC:
        if size < len(_MAGIC) and _MAGIC.startswith(bytes(data)):
            return
        raise JournalError(f"{path} is not a journal of tune, or of another version")
    at = max(offset, len(_MAGIC))
    while at + _FRAME.size <= size:
        length, checksum, index = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if end > size or length > _LONGEST:
            return
        payload = data[at + _FRAME.size : end]
        if zlib.crc32(payload) != checksum:
            if end < size:
                raise JournalError(f"{path} is damaged at byte {at}, {size - at} bytes before its end")
            return
        yield Entry(index, payload, Position(number, at), Position(number, end))
        at = end


def read_entry(directory: Path, start: Position) -> Entry:
    """Return the record that begins at a position.

    Raises:
        JournalError: none does.
    """
    with segment_path(directory, start.segment).open("rb") as file:
        file.seek(start.offset)
        length, checksum, index = _FRAME.unpack(file.read(_FRAME.size))
        payload = file.read(length)
    if zlib.crc32(payload) != checksum:
        raise JournalError(f"no record begins at byte {start.offset} of segment {start.segment}")
    end = Position(start.segment, start.offset + _FRAME.size + length)
    return Entry(index, memoryview(payload), start, end)


class JournalWriter:
    """Appends records; one thread's.

    Args:
        directory: of the experiment; must exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "journal").mkdir(exist_ok=True)
        existing = segments(directory)
        self._number = existing[-1] if existing else 0
        self._file = -1
        self._offset = 0
        self._buffer: list[bytes] = []
        self._begin_segment()

    @property
    def position(self) -> Position:
        """Where the next record will begin, once everything appended is written."""
        return Position(self._number, self._offset)

    def append(self, payload: bytes, index: int = -1) -> None:
        """Add a record to the round's write."""
        self._buffer.append(_FRAME.pack(len(payload), zlib.crc32(payload), index))
        self._buffer.append(payload)

    def write(self) -> None:
        """Hand everything appended to the kernel: from here on it survives the driver."""
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._write_all(data)
        if self._offset >= SEGMENT_SIZE:
            self.sync()
            os.close(self._file)
            self._begin_segment()

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Write what is left and close the file. Idempotent."""
        if self._file >= 0:
            self.write()
            self.sync()
            os.close(self._file)
            self._file = -1

    def _begin_segment(self) -> None:
        self._number += 1
        path = segment_path(self._directory, self._number)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._offset = 0
        self._write_all(_MAGIC)

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            self._offset += written
            rest = rest[written:]
