"""A trial's process and what it started, seen from the driver."""

from __future__ import annotations

import contextlib

import psutil


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants; 0 if it is gone."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def kill_descendants(pid: int) -> None:
    """End what a process started, but not itself."""
    for process in _tree(pid)[1:]:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill(pid: int) -> None:
    """End a process and what it started."""
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
