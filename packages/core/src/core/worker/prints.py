"""A worker's stdout and stderr: they tell the node daemon which task's lines follow.

Between lines, where another task writes than did last, comes a line that only the daemon sees. What C code prints past
these streams counts as the last one's.
"""

from __future__ import annotations

import contextlib
import io
import sys

from core.protocol.records import PRINTED_BY
from core.worker.running import current

#: Longer names are cut: the mark must fit into one line.
_MAX_NAME = 200


class TaskOutput(io.TextIOWrapper):
    """A text stream that marks whose lines follow.

    Args:
        fd: descriptor of the pipe to the node daemon.
    """

    #: whether the process runs tasks; an actor's lines are all the actor's
    of_tasks = True

    def __init__(self, fd: int) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
        )
        self._named = ""
        self._between_lines = True

    def write(self, text: str, /) -> int:
        """Write a text, after a mark if need be."""
        if self._between_lines:
            running = current.get() if self.of_tasks else None
            name = "" if running is None else running.short_name[:_MAX_NAME]
            if name != self._named:
                self._named = name
                super().write(PRINTED_BY + " ".join(name.split()) + "\n")
        if text:
            self._between_lines = text[-1:] == "\n"
        return super().write(text)


def install() -> None:
    """Put such streams in the place of this process's own."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    sys.stdout, sys.stderr = TaskOutput(1), TaskOutput(2)
