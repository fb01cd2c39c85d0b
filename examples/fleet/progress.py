"""Progress of the fleet: a live bar on a terminal, a line now and then elsewhere, nothing when asked for quiet."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Progress(Protocol):
    """Shows how many fits are done. ``close`` may be called at any time and leaves the terminal clean."""

    def update(self, done: int, leader: str) -> None:
        """Show that ``done`` fits have ended and who leads at the moment."""

    def close(self) -> None:
        """Stop drawing."""


class Silent:
    """Shows nothing."""

    def update(self, done: int, leader: str) -> None:
        """Ignore the news."""

    def close(self) -> None:
        """Have nothing to clean up."""


class Lines:
    """Prints a line each time another tenth is done: for logs and pipes."""

    def __init__(self, total: int, unit: str) -> None:
        self._total = total
        self._unit = unit
        self._started = time.perf_counter()
        self._next_tenth = 1

    def update(self, done: int, leader: str) -> None:
        if done * 10 < self._next_tenth * self._total:
            return
        self._next_tenth = done * 10 // self._total + 1
        rate = done / max(time.perf_counter() - self._started, 1e-9)
        print(f"  {done:>6,} of {self._total:,} {self._unit}   {rate:7.1f}/s   {leader}", flush=True)

    def close(self) -> None:
        """Have nothing to clean up."""


class Bar:
    """A live bar with rate and time left."""

    def __init__(self, total: int, unit: str) -> None:
        # Only a terminal pays for this import.
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[leader]}"),
        )
        self._started = time.perf_counter()
        self._task = self._bar.add_task(unit, total=total, rate="", leader="")
        self._bar.start()

    def update(self, done: int, leader: str) -> None:
        rate = done / max(time.perf_counter() - self._started, 1e-9)
        self._bar.update(self._task, completed=done, rate=f"{rate:.0f}/s", leader=leader)

    def close(self) -> None:
        self._bar.stop()


def progress(total: int, unit: str, *, quiet: bool) -> Progress:
    """Return the kind of progress that suits where standard output goes."""
    if quiet:
        return Silent()
    return Bar(total, unit) if sys.stdout.isatty() else Lines(total, unit)
