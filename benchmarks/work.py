"""The tasks of the rows that run on every system. A small module, because workers import it."""

from __future__ import annotations

import time
from pathlib import Path


def trivial() -> bytes:
    """The smallest task."""
    return b"ok"


def sleep(seconds: float) -> None:
    """Take ``seconds`` without using the CPU; 0 does not even give the CPU away."""
    if seconds:
        time.sleep(seconds)


def spin(seconds: float) -> None:
    """Use ``seconds`` of CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def tiny_work(x: int) -> int:
    """The article's tiny task."""
    time.sleep(0.0001)
    return x


def spin_100_us(_: int) -> None:
    """Use 100 us of CPU time."""
    spin(1e-4)


def increment(x: int) -> int:
    """A link of a chain."""
    return x + 1


def add(x: int, y: int) -> int:
    """A node of a tree."""
    return x + y


def count(*values: object) -> int:
    """Take any number of arguments and say how many."""
    return len(values)


def hold(started: Path, gate: Path) -> None:
    """Occupy a worker: create the file ``started``, return when the file ``gate`` exists."""
    started.touch()
    wait_for(gate)


def wait_for(path: Path) -> None:
    """Return when a file exists."""
    while not path.exists():
        time.sleep(0.005)
