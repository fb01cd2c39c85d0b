"""What a trial prints, in files of its own: also what its libraries and child processes print."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextlib.contextmanager
def redirected(directory: Path, names: tuple[str, str] | None) -> Iterator[None]:
    """Append standard output and error to files in `directory`; None leaves them alone.

    The descriptors themselves are redirected, so nothing escapes, and the last words of a crash are in the file. What
    Python prints goes on to where it went before, too.
    """
    if names is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    streams = sys.stdout, sys.stderr
    _flush(*streams)
    before = [os.dup(1), os.dup(2)]
    both = [_Both(descriptor, copy) for descriptor, copy in zip((1, 2), before, strict=True)]
    ours = [io.TextIOWrapper(io.BufferedWriter(one), "utf-8", "backslashreplace", line_buffering=True) for one in both]
    try:
        for descriptor, name in zip((1, 2), names, strict=True):
            file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(file, descriptor)
            os.close(file)
        sys.stdout, sys.stderr = ours
        yield
    finally:
        _flush(sys.stdout, sys.stderr, *ours, *streams)
        sys.stdout, sys.stderr = streams
        for one in both:
            one.leave()
        for descriptor, copy in zip((1, 2), before, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


class _Both(io.RawIOBase):
    """Writes to a descriptor, and the same to where it led before."""

    def __init__(self, descriptor: int, before: int) -> None:
        self._descriptor = descriptor
        self._before: int | None = before

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: ReadableBuffer, /) -> int:
        written = os.write(self._descriptor, data)
        if self._before is not None:
            # Nobody may be reading there any more; the file is what was asked for.
            with contextlib.suppress(OSError):
                os.write(self._before, memoryview(data)[:written])
        return written

    def leave(self) -> None:
        """Write to the descriptor alone, which leads where it led before: somebody may have kept the stream."""
        self._before = None


def _flush(*streams: TextIO) -> None:
    for stream in streams:
        # The trial may have closed it, and a disk may be full.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def tail(file: Path, lines: int = 40, limit: int = 16 * 1024) -> str:
    """Return the last lines of a file, empty if there is none."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - limit))
            text = stream.read().decode("utf-8", "backslashreplace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
