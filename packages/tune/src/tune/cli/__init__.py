"""The command ``tune``: look at experiments, find the best, go on with them."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from tune.cli.app import app  # noqa: PLC0415 - typer, for those who call the command

    app()
