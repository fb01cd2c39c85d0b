"""Applications in the foreground, until Ctrl-C: the work of ``serve run``."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.api import client
from serve.api import run as api
from serve.api.importing import load_or_explain
from serve.cli.ending import watch_for_the_end
from serve.cli.output import complain, say

#: deploys, waits until it runs, and returns the routes by name of the application
Deploy = Callable[[], dict[str, str | None]]

_ADMIN_PORT = 8265


@dataclass(frozen=True)
class Order:
    """What is to run, and where."""

    #: import path, or a config file
    target: str
    args: dict[str, Any]
    name: str
    route_prefix: str
    #: to import from
    directory: Path
    #: options of HTTP that were given
    http: dict[str, Any]
    reload: bool
    #: None: the default, if it is free
    admin_port: int | None


def run(order: Order) -> None:
    """Deploy, and stay until interrupted, terminated or ended by an operator."""
    sys.path.insert(0, str(order.directory))
    deploy: Deploy
    if Path(order.target).suffix in {".yaml", ".yml", ".json"}:
        if order.args:
            raise ValueError("a config file takes no key=value arguments; write them under args: in it")
        deploy = functools.partial(_deploy_file, order)
    else:
        deploy = functools.partial(_deploy_anew if order.reload else _deploy_imported, order)
    ended = threading.Event()
    try:
        with _ended_by_sigterm(ended):
            if order.reload:
                _reload(order, deploy, ended)
            else:
                _announce(order, deploy())
                with watch_for_the_end(ended):
                    ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        client.shutdown()


@contextlib.contextmanager
def _ended_by_sigterm(ended: threading.Event) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- ways to deploy ---------------------------------------------------------------------------------------------------


def _deploy_imported(order: Order) -> dict[str, str | None]:
    """Import in this process: the fastest way."""
    application = load_or_explain(order.target, order.args)
    client.start(order.http)
    api.run(application, name=order.name, route_prefix=order.route_prefix)
    return {order.name: order.route_prefix}


def _deploy_anew(order: Order) -> dict[str, str | None]:
    """Import in a process of its own, each time from the files as they are."""
    from serve.schema.deploy import ServeApplicationSchema, ServeDeploySchema  # noqa: PLC0415 - start time

    app = {
        "name": order.name,
        "route_prefix": order.route_prefix,
        "import_path": order.target,
        "args": order.args,
        "app_dir": str(order.directory),
    }
    config = ServeDeploySchema(applications=[ServeApplicationSchema.of("serve run", app)])
    client.start(order.http)
    return _apply(config)


def _deploy_file(order: Order) -> dict[str, str | None]:
    from serve.schema.text import read_file  # noqa: PLC0415 - start time

    found = read_file(Path(order.target))
    for warning in found.warnings:
        complain(warning)
    config = found.checkup.config
    for app in config.applications:
        if app.runtime_env.working_dir is None and app.app_dir is None:
            app.app_dir = str(order.directory)
    options = config.http_options
    grpc = config.grpc_options if "grpc_options" in config.model_fields_set else None
    client.start({**options.model_dump(include=options.model_fields_set), **order.http}, grpc, config.logging_config)
    return _apply(config)


def _apply(config: Any) -> dict[str, str | None]:
    controller = client.running_controller()
    outcome = controller.call("apply", config)
    for name, revision in outcome.revisions.items():
        controller.call("wait_for", name, revision)
    return {app.name: app.route_prefix for app in config.applications}


# -- what follows -----------------------------------------------------------------------------------------------------


def _announce(order: Order, routes: dict[str, str | None]) -> None:
    controller = client.running_controller()
    options = controller.call("http_options")
    for name, route in routes.items():
        what = order.target if len(routes) == 1 else name
        where = (
            "reached by handles alone" if route is None else f"served at http://{options.host}:{options.port}{route}"
        )
        say(f"{what} is {where} - Ctrl-C ends it")
    try:
        port = _ADMIN_PORT if order.admin_port is None else order.admin_port
        say(f"Status page and REST API: {controller.call('open_admin', '127.0.0.1', port)}")
    except OSError as error:
        if order.admin_port is not None:
            raise
        complain(f"no status page and REST API: {error}; --admin-port chooses another port")


def _reload(order: Order, deploy: Deploy, ended: threading.Event) -> None:
    """Deploy whenever a source file changes; what cannot be deployed is reported, and the last that could goes on."""
    try:
        import watchfiles  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImportError("--reload needs watchfiles: pip install 'skate-serve[reload]'") from None

    sources = watchfiles.PythonFilter(extra_extensions=(".yaml", ".yml", ".json", ".toml"))
    paths = [path for path in (order.directory, Path(order.target)) if path.exists()]
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
                        _announce(order, routes)
                        stack.enter_context(watch_for_the_end(ended))
                        announced = True
            changed = {Path(path).name for _, path in next(stream)}
