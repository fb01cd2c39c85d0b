"""How tests and the tasks they start wait for one another: files and polling with a deadline, never a bare sleep.

Nothing here uses the engine under test, so that a broken engine cannot make a test pass or wait in the wrong place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds until a wait of the suite gives up. Far beyond what any engine needs, also on a busy machine.
PATIENCE = 45.0
_POLL_INTERVAL = 0.005


def wait_until(predicate: Callable[[], object], timeout: float = PATIENCE, what: str = "") -> None:
    """Poll until the predicate holds; raise TimeoutError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still waiting after {timeout} s for {what or predicate}")
        time.sleep(_POLL_INTERVAL)


def process_is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has reaped yet counts as ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@dataclass(frozen=True)
class Gate:
    """A gate that opens once, for any number of processes; the file at ``path`` exists when it is open."""

    path: str

    def open(self) -> None:
        with open(self.path, "w", encoding="utf-8"):
            pass

    def is_open(self) -> bool:
        return os.path.exists(self.path)

    def wait(self, timeout: float = PATIENCE) -> None:
        """Wait in short steps of Python code, which every engine can interrupt."""
        wait_until(self.is_open, timeout, f"gate {os.path.basename(self.path)}")


@dataclass(frozen=True)
class Tally:
    """Lines that any number of processes append, to count what ran and in which order."""

    path: str

    def add(self, line: object = "") -> int:
        """Append one line; return how many there are now."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
        return self.count()

    def lines(self) -> list[str]:
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            return file.read().splitlines()

    def count(self) -> int:
        return len(self.lines())
