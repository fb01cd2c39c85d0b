"""What workers print, shown in the driver: prefixed with who printed it, repeated lines folded.

The first of several equal lines is shown at once; those that other processes print within the window are counted and
reported in one line. (Ray takes lines for equal that differ in numbers only; here the whole text counts.)
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import OrderedDict
from typing import TextIO

from core.protocol import from_node
from core.protocol.records import LogLine

#: Seconds within which equal lines of other processes are folded.
WINDOW = 5.0
#: Most different lines remembered at a time.
MEMORY = 1000


class _Seen:
    __slots__ = ("count", "first_pid", "last", "since")

    def __init__(self, line: LogLine, now: float) -> None:
        self.first_pid = line.pid
        self.since = now
        self.count = 0
        self.last = line


class LogPrinter:
    """Prints workers' lines and the node's notices.

    Args:
        deduplicate: fold equal lines (``SKATE_DEDUP_LOGS=0`` switches it off).
    """

    def __init__(self, deduplicate: bool | None = None) -> None:
        if deduplicate is None:
            deduplicate = os.environ.get("SKATE_DEDUP_LOGS", "1") != "0"
        self._deduplicate = deduplicate
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def show(self, message: from_node.Log | from_node.Notice, now: float) -> None:
        """Print what one message carries."""
        if isinstance(message, from_node.Notice):
            _print(sys.stderr, f"(skate) {message.level.upper()}: {message.text}\n")
            return
        self.expire(now)
        for line in message.lines:
            self._line(line, now)

    def _line(self, line: LogLine, now: float) -> None:
        if self._deduplicate and line.text.strip():
            seen = self._seen.get(line.text)
            if seen is not None and seen.first_pid != line.pid:
                seen.count += 1
                seen.last = line
                return
            if seen is None:
                self._seen[line.text] = _Seen(line, now)
                if len(self._seen) > MEMORY:
                    _, oldest = self._seen.popitem(last=False)
                    self._report(oldest)
        self._write(line, "")

    def expire(self, now: float) -> None:
        """Report the repetitions of lines whose window is over."""
        while self._seen:
            text, seen = next(iter(self._seen.items()))
            if now - seen.since < WINDOW:
                return
            del self._seen[text]
            self._report(seen)

    def close(self) -> None:
        """Report all repetitions not reported yet."""
        self.expire(float("inf"))

    def _report(self, seen: _Seen) -> None:
        if seen.count:
            self._write(seen.last, f" [repeated {seen.count}x by other processes]")

    @staticmethod
    def _write(line: LogLine, suffix: str) -> None:
        name = f"{line.name} pid={line.pid}" if line.name else f"pid={line.pid}"
        _print(sys.stderr if line.stream == 2 else sys.stdout, f"({name}) {line.text}{suffix}\n")


def _print(stream: TextIO | None, text: str) -> None:
    """Write to a stream of the driver, unless it is closed or was so from the start: nobody could read it."""
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()
