"""The command ``serve``."""

from __future__ import annotations


def main() -> None:
    """Run the command."""
    from serve.cli.main import app  # noqa: PLC0415 - processes of this room that are no command need no typer

    app(prog_name="serve")


__all__ = ["main"]
