"""The last lines of a log file, however large it is."""

from __future__ import annotations

import os
from pathlib import Path

#: bytes that are looked at from the end
MAX_BYTES = 256 * 1024


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines; fewer if they are very long or the file has fewer, none if it does not exist.

    Args:
        path: of the file.
        lines: how many.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - MAX_BYTES)
            file.seek(start)
            data = file.read(MAX_BYTES)
    except FileNotFoundError:
        return []
    found = data.decode("utf-8", "backslashreplace").split("\n")
    if start:
        del found[0]  # the middle of a line
    if found and not found[-1]:
        found.pop()
    return found[-lines:] if lines > 0 else []
