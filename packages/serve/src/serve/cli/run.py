"""``serve run``: applications in the foreground, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve.cli.options import AppDir
from serve.cli.reporting import reporting


@reporting
def run(
    target: Annotated[str, typer.Argument(help="module:attribute, or a config file (.yaml, .yml, .json).")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs for an attribute that is a function.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for a free one. Default: 8000.")] = None,
    name: Annotated[str, typer.Option(help="Name of the application.")] = "default",
    route_prefix: Annotated[str, typer.Option(help="Prefix of its addresses.")] = "/",
    app_dir: AppDir = Path(),
    reload: Annotated[bool, typer.Option("--reload", help="Deploy anew whenever a source file changes.")] = False,
    admin_port: Annotated[
        int | None,
        typer.Option(help="Port of status page and REST API; 0 for a free one. Default: 8265, if it is free."),
    ] = None,
) -> None:
    """Run an application, or all of a config file, in the foreground until Ctrl-C."""
    http = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    args = _pairs(arguments or [])
    from serve.cli import foreground  # noqa: PLC0415 - all of Serve, which other commands do without

    foreground.run(foreground.Order(target, args, name, route_prefix, app_dir.absolute(), http, reload, admin_port))


def _pairs(arguments: list[str]) -> dict[str, str]:
    pairs = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"expected key=value, not {text!r}")
        pairs[key] = value
    return pairs
