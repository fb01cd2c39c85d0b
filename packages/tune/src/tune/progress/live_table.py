"""The live table: rich draws it in place, at the lower end of a terminal, and prints of others appear above it."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from tune.progress import wording
from tune.progress.summary import Summary
from tune.progress.tables import Table

_STYLES = {
    "RUNNING": "cyan",
    "PAUSED": "yellow",
    "PENDING": "dim",
    "TERMINATED": "green",
    "ERROR": "bold red",
    "TIMEOUT": "bold red",
    "OUT_OF_MEMORY": "bold red",
}
#: lines that are not rows of trials
_FRAME_LINES = 9


class LiveTable:
    """A table that is drawn over again; `stop` leaves its last state standing."""

    def __init__(self, file: TextIO) -> None:
        self._console = Console(file=file)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(
        self,
        summary: Summary,
        metric: str | None,
        sys_info: tuple[str, ...],
        trials: Table,
        errors: Table | None,
        done: bool,
    ) -> None:
        """Draw everything anew; only what fits the terminal, unless it is the last picture."""
        room = None if done else max(3, self._console.height - _FRAME_LINES - len(sys_info))
        error_room = None if room is None else max(2, room // 4)
        parts: list[RenderableType] = [_head(summary, done), *_lines(summary, metric, sys_info)]
        if errors is not None:
            parts += _drawn(errors, error_room)
            room = None if room is None or error_room is None else max(3, room - min(len(errors.rows), error_room) - 4)
        if trials.rows:
            parts += _drawn(trials, room)
        self._live.update(Group(*parts), refresh=True)

    def say(self, text: str) -> None:
        """Write a line above the table."""
        self._console.print(Text(text))

    def stop(self) -> None:
        """Leave the last picture standing and give the terminal back."""
        self._live.stop()


def _head(summary: Summary, done: bool) -> RenderableType:
    of = "" if summary.total is None else f"/{summary.total}"
    line = RichTable.grid(padding=(0, 1))
    bar = ProgressBar(
        total=summary.total or None,
        completed=summary.finished,
        width=24,
        pulse=summary.total is None and not done,
        complete_style="green",
    )
    timing = wording.duration(summary.elapsed_s)
    if summary.ended:
        timing += f" · {wording.rate(summary.rate)}"
    if summary.eta_s and not done:
        timing += f" · about {wording.duration(summary.eta_s)} left"
    line.add_row(Text("tune", style="bold magenta"), bar, Text(f"{summary.finished}{of} trials · {timing}"))
    return line


def _lines(summary: Summary, metric: str | None, sys_info: tuple[str, ...]) -> list[RenderableType]:
    counts = Text(", ").join(
        Text(f"{count} {status.value.lower().replace('_', ' ')}", style=_STYLES[status.value])
        for status, count in summary.counts.items()
    )
    lines: list[RenderableType] = [counts] if summary.counts else []
    if metric is not None and summary.best is not None:
        lines.append(Text.assemble(("best ", "bold"), wording.best(summary, metric, 24)))
    return [*lines, *(Text(line, style="dim") for line in sys_info if line)]


def _drawn(table: Table, room: int | None) -> list[RenderableType]:
    rows = table.rows if room is None else table.rows[:room]
    left = len(table.rows) - len(rows)
    note = table.note or (f"... {left} more rows than the terminal has room for" if left else "")
    drawn = RichTable(box=None, pad_edge=False)
    status = table.titles.index("status")
    for name in table.titles:
        drawn.add_column(Text(name), overflow="ellipsis", no_wrap=True, header_style="bold")
    for row in rows:
        drawn.add_row(
            *(Text(value, style=_STYLES[value] if column == status else "") for column, value in enumerate(row))
        )
    return [Text(), drawn, *([Text(note, style="dim")] if note else [])]
