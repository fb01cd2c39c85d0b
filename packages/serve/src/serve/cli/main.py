"""``serve run module:app``: an application in the foreground, until Ctrl-C."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.api import client, run
from serve.api.deployment import Application, Deployment

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Serve models and other Python code over HTTP.")


@app.callback()
def _commands() -> None:
    """Serve models and other Python code over HTTP."""


@app.command(name="run")
def run_command(
    import_path: Annotated[str, typer.Argument(help="Where the application is: module:attribute.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs for an attribute that is a function of a dictionary.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="Name of the application.")] = "default",
    route_prefix: Annotated[str, typer.Option(help="Prefix of its addresses.")] = "/",
    app_dir: Annotated[Path, typer.Option(help="Directory to import from.")] = Path(),
) -> None:
    """Run an application in the foreground until Ctrl-C."""
    sys.path.insert(0, str(app_dir.absolute()))
    try:
        application = load(import_path, arguments or [])
        client.start({"host": host, "port": port})
        run.run(application, name=name, route_prefix=route_prefix)
    except (ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
        typer.echo(f"serve run: {error}", err=True)
        client.shutdown()
        raise typer.Exit(1) from error
    options = client.running_controller().call("http_options")
    typer.echo(f"{import_path} is served at http://{options.host}:{options.port}{route_prefix} - Ctrl-C ends it")
    run.wait_for_the_end()
    client.shutdown()


def load(import_path: str, arguments: list[str]) -> Application:
    """Return the application at an import path.

    Args:
        import_path: ``module:attribute``; the attribute is an application, a deployment that needs no arguments, or a
            function that takes a dictionary and returns an application.
        arguments: ``key=value`` texts that become the dictionary.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such attribute.
        TypeError: the attribute is none of the above.
        ValueError: the path or an argument is not of the form.
    """
    module_name, colon, attribute = import_path.partition(":")
    if not colon or not module_name or not attribute:
        raise ValueError(f"expected module:attribute, such as app:app, not {import_path!r}")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    if isinstance(found, Deployment):
        return found.bind()
    if callable(found) and not isinstance(found, Application):
        return _built(found(_pairs(arguments)), import_path)
    if arguments:
        raise ValueError(f"{import_path} is no function, so it takes no arguments: {' '.join(arguments)}")
    return _built(found, import_path)


def _built(found: Any, import_path: str) -> Application:
    if not isinstance(found, Application):
        raise TypeError(f"{import_path} gives {found!r}, which is no application; make one with MyDeployment.bind(...)")
    return found


def _pairs(arguments: list[str]) -> dict[str, str]:
    pairs = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"expected key=value, not {text!r}")
        pairs[key] = value
    return pairs


def main() -> None:
    """Run the command."""
    app(prog_name="serve")
