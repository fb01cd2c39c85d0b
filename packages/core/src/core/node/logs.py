"""What workers print: read from their pipes, kept briefly for death causes, sent to the driver in batches.

Memory stays bounded: a line longer than :data:`MAX_LINE_BYTES` is passed on as several, and while the driver does not
keep up, the oldest lines are dropped and counted. A pipe is always read, so a worker never blocks on printing.
"""

from __future__ import annotations

import functools
import itertools
import os
import selectors
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from core.node.loop import Loop
from core.protocol.records import PRINTED_BY, LogLine

STDOUT, STDERR = 1, 2
#: Lines of stderr kept per worker.
TAIL_LINES = 40
MAX_LINE_BYTES = 16 * 1024
#: Lines, and characters in them, that wait for the driver; when there are more, the oldest are dropped and counted.
MAX_PENDING_LINES, MAX_PENDING_CHARACTERS = 10_000, 8 * 1024 * 1024
_READ_BYTES = 64 * 1024
_MARK = PRINTED_BY.encode()


class _Stream(Struct, eq=False):
    fd: int
    number: int
    partial: bytes = b""
    #: task whose lines they are, "" where that is not known
    printed_by: str = ""


class WorkerOutput:
    """The two pipes of one worker.

    Args:
        loop: where readiness is waited for.
        on_lines: called with the number of the stream, complete lines, and the name of the task that printed them.
    """

    def __init__(self, loop: Loop, stdout: int, stderr: int, on_lines: Callable[[int, list[str], str], None]) -> None:
        self._loop = loop
        self._on_lines = on_lines
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._streams = [_Stream(stdout, STDOUT), _Stream(stderr, STDERR)]
        for stream in self._streams:
            os.set_blocking(stream.fd, False)
            loop.watch(stream.fd, selectors.EVENT_READ, functools.partial(self._ready, stream))

    @property
    def tail(self) -> str:
        """The last lines of stderr."""
        return "\n".join(self._tail)

    def finish(self) -> None:
        """Read what a dead worker left in its pipes, then close them.

        A grandchild may hold the pipe open and print on; that is not waited for.
        """
        self.read()
        for stream in list(self._streams):
            self._close(stream)

    def read(self) -> None:
        """Read what is in the pipes now (a writer that never stops is not waited for)."""
        for stream in list(self._streams):
            for _ in range(64):
                if not self._read(stream):
                    break

    def _ready(self, stream: _Stream, events: int) -> None:
        self._read(stream)

    def _read(self, stream: _Stream) -> bool:
        try:
            data = os.read(stream.fd, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close(stream)
            return False
        *lines, rest = (stream.partial + data).split(b"\n")
        *more, stream.partial = _pieces(rest)
        self._emit(stream, [*lines, *more])
        return True

    def _close(self, stream: _Stream) -> None:
        if stream not in self._streams:
            return
        self._streams.remove(stream)
        self._loop.unwatch(stream.fd)
        os.close(stream.fd)
        if stream.partial:
            self._emit(stream, [stream.partial])

    def _emit(self, stream: _Stream, lines: list[bytes]) -> None:
        for marked, run in itertools.groupby(lines, lambda line: line.startswith(_MARK)):
            if not marked:
                self._emit_run(stream, run)
                continue
            for line in run:
                stream.printed_by = line[len(_MARK) :].decode("utf-8", "backslashreplace")

    def _emit_run(self, stream: _Stream, lines: Iterable[bytes]) -> None:
        pieces = (piece for line in lines for piece in _pieces(line))
        texts = [piece.decode("utf-8", "backslashreplace").rstrip("\r") for piece in pieces]
        if stream.number == STDERR:
            self._tail.extend(texts)
        self._on_lines(stream.number, texts, stream.printed_by)


def _pieces(line: bytes) -> Iterator[bytes]:
    """Yield a line in pieces that are not too long; none ends within a character."""
    while len(line) > MAX_LINE_BYTES:
        end = MAX_LINE_BYTES
        while end > MAX_LINE_BYTES - 4 and line[end] & 0xC0 == 0x80:
            end -= 1
        yield line[:end]
        line = line[end:]
    yield line


class LogBatch:
    """Lines for one driver that wait for the end of the loop's batch."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque()
        self._characters = 0
        self._dropped = 0

    def add(self, pid: int, name: str, stream: int, texts: list[str]) -> None:
        """Add lines; beyond the limit the oldest are dropped and counted."""
        self._lines.extend(LogLine(pid, name, stream, text) for text in texts)
        self._characters += sum(map(len, texts))
        while len(self._lines) > MAX_PENDING_LINES or self._characters > MAX_PENDING_CHARACTERS:
            self._characters -= len(self._lines.popleft().text)
            self._dropped += 1

    def take(self) -> list[LogLine]:
        """Return and forget what is there, after a line that tells how much was dropped."""
        lines = list(self._lines)
        self._lines.clear()
        self._characters = 0
        if self._dropped:
            lines.insert(0, LogLine(0, "", STDERR, f"... {self._dropped} lines were dropped: they came too fast"))
            self._dropped = 0
        return lines
