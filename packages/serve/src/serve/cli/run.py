"""``serve run``: applications in the foreground, until Ctrl-C."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.api import client
from serve.api import run as api
from serve.api.importing import load
from serve.cli.ending import watch_for_the_end
from serve.cli.options import AppDir
from serve.cli.output import complain, say
from serve.cli.reporting import reporting

#: deploys, waits until it runs, and returns the routes by name of the application
Deploy = Callable[[], dict[str, str | None]]

_ADMIN_PORT = 8265


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
    directory = app_dir.absolute()
    sys.path.insert(0, str(directory))
    http = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    args = _pairs(arguments or [])
    deploy: Deploy
    if Path(target).suffix in {".yaml", ".yml", ".json"}:
        if args:
            raise ValueError("a config file takes no key=value arguments; write them under args: in it")
        deploy = functools.partial(_deploy_file, Path(target), directory, http)
    elif reload:
        deploy = functools.partial(_deploy_anew, target, args, name, route_prefix, directory, http)
    else:
        deploy = functools.partial(_deploy_imported, target, args, name, route_prefix, http)
    ended = threading.Event()
    try:
        with _ended_by_sigterm(ended):
            if reload:
                _reload(deploy, [directory, Path(target)], admin_port, ended)
            else:
                _announce(target, deploy(), admin_port)
                with watch_for_the_end(ended):
                    ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        client.shutdown()


def _pairs(arguments: list[str]) -> dict[str, str]:
    pairs = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"expected key=value, not {text!r}")
        pairs[key] = value
    return pairs


@contextlib.contextmanager
def _ended_by_sigterm(ended: threading.Event) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- ways to deploy ---------------------------------------------------------------------------------------------------


def _deploy_imported(
    target: str, args: dict[str, Any], name: str, route_prefix: str, http: dict[str, Any]
) -> dict[str, str | None]:
    """Import in this process: the fastest way."""
    application = load(target, args)
    client.start(http)
    api.run(application, name=name, route_prefix=route_prefix)
    return {name: route_prefix}


def _deploy_anew(
    target: str, args: dict[str, Any], name: str, route_prefix: str, directory: Path, http: dict[str, Any]
) -> dict[str, str | None]:
    """Import in a process of its own, each time from the files as they are."""
    from serve.schema.deploy import ServeApplicationSchema, ServeDeploySchema  # noqa: PLC0415 - start time

    app = {"name": name, "route_prefix": route_prefix, "import_path": target, "args": args, "app_dir": str(directory)}
    config = ServeDeploySchema(applications=[ServeApplicationSchema.of("serve run", app)])
    client.start(http)
    return _apply(config)


def _deploy_file(file: Path, directory: Path, http: dict[str, Any]) -> dict[str, str | None]:
    from serve.schema.text import read_file  # noqa: PLC0415 - start time

    found = read_file(file)
    for warning in found.warnings:
        complain(warning)
    config = found.checkup.config
    for app in config.applications:
        if app.runtime_env.working_dir is None and app.app_dir is None:
            app.app_dir = str(directory)
    options = config.http_options
    grpc = config.grpc_options if "grpc_options" in config.model_fields_set else None
    client.start({**options.model_dump(include=options.model_fields_set), **http}, grpc)
    return _apply(config)


def _apply(config: Any) -> dict[str, str | None]:
    controller = client.running_controller()
    outcome = controller.call("apply", config)
    for name, revision in outcome.revisions.items():
        controller.call("wait_for", name, revision)
    return {app.name: app.route_prefix for app in config.applications}


# -- what follows -----------------------------------------------------------------------------------------------------


def _announce(target: str, routes: dict[str, str | None], admin_port: int | None) -> None:
    controller = client.running_controller()
    options = controller.call("http_options")
    for name, route in routes.items():
        what = target if len(routes) == 1 else name
        where = (
            "reached by handles alone" if route is None else f"served at http://{options.host}:{options.port}{route}"
        )
        say(f"{what} is {where} - Ctrl-C ends it")
    try:
        address = controller.call("open_admin", "127.0.0.1", _ADMIN_PORT if admin_port is None else admin_port)
        say(f"Status page and REST API: {address}")
    except OSError as error:
        if admin_port is not None:
            raise
        complain(f"no status page and REST API: {error}; --admin-port chooses another port")


def _reload(deploy: Deploy, watched: list[Path], admin_port: int | None, ended: threading.Event) -> None:
    """Deploy whenever a source file changes; what cannot be deployed is reported, and the last that could goes on."""
    try:
        import watchfiles  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImportError("--reload needs watchfiles: pip install 'skate-serve[reload]'") from None

    sources = watchfiles.PythonFilter(extra_extensions=(".yaml", ".yml", ".json", ".toml"))
    paths = [path for path in watched if path.exists()]
    stream = watchfiles.watch(*paths, watch_filter=sources, rust_timeout=100, yield_on_timeout=True)
    next(stream)  # from here on no change is missed
    announced = False
    with contextlib.ExitStack() as stack:
        changed = {"the start"}
        while not ended.is_set():
            if changed:
                try:
                    routes = deploy()
                except (ValueError, RuntimeError, OSError) as error:
                    complain(f"serve run: {error}\nFix it, and it is deployed again.")
                else:
                    if announced:
                        say(f"Deployed again: {', '.join(sorted(changed))} changed.")
                    else:
                        _announce(" ".join(routes), routes, admin_port)
                        stack.enter_context(watch_for_the_end(ended))
                        announced = True
            changed = {Path(path).name for _, path in next(stream)}
