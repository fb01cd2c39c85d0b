"""The command ``serve``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run the command."""
    if sys.argv[1:2] == ["run"] and "--help" not in sys.argv:
        _start_session(sys.argv[2:])
    from serve.cli.main import app  # noqa: PLC0415 - processes of this room that are no command need no typer

    app(prog_name="serve")


def _start_session(arguments: list[str]) -> None:
    """Let the session start while this process imports the rest and the application; that halves the time to serve."""
    from serve import session  # noqa: PLC0415 - as above

    directory = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--app-dir":
            directory = following
        elif argument.startswith("--app-dir="):
            directory = argument.partition("=")[2]
    sys.path.insert(0, str(Path(directory).absolute()))  # workers search where the driver does
    session.ensure()


__all__ = ["main"]
