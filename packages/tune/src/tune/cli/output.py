"""What the commands print: tables for people on a terminal, plain columns in a pipe, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that JSON has not become null, what else it has not becomes text."""
    say(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return _plain(value.item()) if hasattr(value, "item") else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; in a pipe, columns of text that no terminal's width cuts."""
    cells = [[cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        _print_columns([list(columns), *cells])
        return
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(rich.text.Text(text) for text in row))
    rich.console.Console().print(table)


def _print_columns(lines: list[list[str]]) -> None:
    widths = [max(len(line[number]) for line in lines) for number in range(len(lines[0]))]
    for line in lines:
        say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(value: Any) -> str:
    """Return a value as short text in one line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).replace("\n", " ")


def duration(seconds: float | None) -> str:
    """Return seconds as people say them: ``1h 02m``, ``3m 04s``, ``5.6s``."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {int(rest):02d}s" if minutes else f"{rest:.1f}s"
