"""How commands fail: one clear message, and an exit status that is not 0."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from serve.cli.output import complain

P = ParamSpec("P")
R = TypeVar("R")


def reporting(command: Callable[P, R]) -> Callable[P, R]:
    """Print the errors that a user can do something about as their message, and exit with 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
            complain(f"serve {command.__name__}: {error}")
            raise typer.Exit(1) from error

    return wrapped
