"""What a trial prints, in files of its own: also what its libraries and child processes print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def redirected(directory: Path, names: tuple[str, str] | None) -> Iterator[None]:
    """Append standard output and error to files in `directory`; None leaves them alone.

    The descriptors themselves are redirected, so nothing escapes, and the last words of a crash are in the file.
    """
    if names is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    _flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        for descriptor, name in zip((1, 2), names, strict=True):
            file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(file, descriptor)
            os.close(file)
        yield
    finally:
        _flush()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
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
