"""What the commands print: colours and tables on a terminal, plain text in a pipe, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any


def say(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print a line to the standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    say(json.dumps(value, indent=2))


def as_yaml(value: Any) -> str:
    """Return a value as YAML, in the order of its keys, texts of several lines as blocks."""
    import yaml  # noqa: PLC0415 - serve run needs none

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
        pass

    def text(dumper: Any, content: str) -> Any:
        lines = "\n".join(line.rstrip() for line in content.splitlines())  # blocks may not end lines with blanks
        style = "|" if "\n" in content else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", lines if style else content, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100))


def print_yaml(value: Any) -> None:
    """Print a value as YAML."""
    text = as_yaml(value)
    if not sys.stdout.isatty():
        say(text.rstrip())
        return
    from rich.console import Console  # noqa: PLC0415 - for terminals
    from rich.syntax import Syntax  # noqa: PLC0415 - for terminals

    Console().print(Syntax(text.rstrip(), "yaml", background_color="default", word_wrap=True))


def print_diff(lines: Iterable[str]) -> None:
    """Print the lines of a unified diff."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    styles = {"+": "32", "-": "31", "@": "36"}
    for line in lines:
        style = styles.get(line[:1]) if colour else None
        say(f"\x1b[{style}m{line}\x1b[0m" if style else line)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; in a pipe, columns of text that no terminal's width cuts."""
    if not sys.stdout.isatty():
        lines = [list(columns), *map(list, rows)]
        widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
        for line in lines:
            say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        return
    import rich.box  # noqa: PLC0415 - for terminals
    from rich.console import Console  # noqa: PLC0415 - for terminals
    from rich.table import Table  # noqa: PLC0415 - for terminals
    from rich.text import Text  # noqa: PLC0415 - for terminals

    table = Table(*columns, box=rich.box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def moment(seconds: float) -> str:
    """Return a time since the epoch for people; nothing for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
