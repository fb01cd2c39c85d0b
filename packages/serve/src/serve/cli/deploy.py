"""``serve start``: Serve in the background. ``serve deploy``: make it run what a config file says."""

from __future__ import annotations

import difflib
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.cli import background
from serve.cli.options import Address, AppDir
from serve.cli.output import as_yaml, complain, print_diff, say
from serve.cli.reporting import reporting
from serve.cli.rest import Remote, Unreachable
from serve.cli.waiting import wait_until_running


@reporting
def start(
    http_host: Annotated[str, typer.Option(help="Address that HTTP is served on.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="Port of HTTP; 0 for a free one.")] = 8000,
    admin_host: Annotated[
        str, typer.Option(help="Address of the REST API. Who can reach it can run code here.")
    ] = "127.0.0.1",
    admin_port: Annotated[int, typer.Option(help="Port of the REST API; 0 for a free one.")] = 8265,
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC.")] = 9000,
    grpc_servicer_functions: Annotated[
        list[str] | None, typer.Option(help="Import path of an add_...Servicer_to_server; gRPC is served if given.")
    ] = None,
    proxy_location: Annotated[str, typer.Option(help="Accepted; there is one machine.")] = "EveryNode",
) -> None:
    """Start Serve in the background; serve shutdown ends it."""
    if proxy_location not in {"Disabled", "HeadOnly", "EveryNode"}:
        raise ValueError(f"--proxy-location is Disabled, HeadOnly or EveryNode, not {proxy_location!r}")
    running = Remote(f"http://{admin_host}:{admin_port}")
    if admin_port and _answers(running):
        say(f"Serve runs already at {running.address}.")
        return
    grpc = {"port": grpc_port, "grpc_servicer_functions": grpc_servicer_functions} if grpc_servicer_functions else None
    _launch(admin_host, admin_port, {"http_options": {"host": http_host, "port": http_port}, "grpc_options": grpc})


def _answers(remote: Remote) -> bool:
    try:
        remote.get("/api/ray/version")
    except Unreachable:
        return False
    return True


def _launch(host: str, port: int, config: dict[str, Any]) -> None:
    options = (config.get("http_options") or {}, config.get("grpc_options"), config.get("logging_config"))
    started = background.launch(host, port, *options)
    say(f"Serve runs in the background (process {started.pid}): REST API at {started.address}, log in {started.log}.")


@reporting
def deploy(
    file: Annotated[Path, typer.Argument(help="The config file.", dir_okay=False, exists=True)],
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when all of it runs; exit with 1 if it never will.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to --wait.")] = 600.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show how the config differs from what runs.")] = False,
    canary: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of the requests for new revisions, beside those that run; then: promote."
        ),
    ] = None,
    app_dir: AppDir = Path(),
    address: Address = None,
) -> None:
    """Make the applications that come from config files exactly those of this file.

    They are imported first; if one cannot be, nothing changes. What cannot start is rolled back. If nothing runs at the
    address, Serve is started in the background.
    """
    from serve.schema.text import read_file  # noqa: PLC0415 - other commands need no YAML

    found = read_file(file)
    for warning in found.warnings:
        complain(warning)
    config = found.checkup.config
    for app in config.applications:
        if app.runtime_env.working_dir is None and app.app_dir is None:
            app.app_dir = str(app_dir.absolute())
    body = config.as_written()
    remote = Remote(address)
    if dry_run and not _answers(remote):
        _show_first_deploy(config, body, diff=diff, remote=remote)
        return
    if not _answers(remote):
        if not remote.is_local:
            raise Unreachable(f"Serve does not run at {remote.address}, and is started only on this machine")
        _launch(remote.host, remote.port, body)
    if diff:
        applications = remote.get("/api/serve/applications/")["applications"].values()
        print_diff(_difference([app["deployed_app_config"] for app in applications], body["applications"]))
    query = {"dry_run": "true" if dry_run else None, "canary": canary}
    given = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
    answer = remote.request("PUT", f"/api/serve/applications/?{given}", body)
    for warning in answer["warnings"]:
        complain(warning)
    _show(answer["changes"], dry_run=dry_run)
    if wait and not dry_run:
        wait_until_running(remote, answer["revisions"], timeout)


def _show_first_deploy(config: Any, body: dict[str, Any], *, diff: bool, remote: Remote) -> None:
    """Say what a deploy would do where nothing runs; the applications are imported to find that out."""
    from serve.api import client  # noqa: PLC0415 - only this needs a session of its own

    say(f"Nothing runs at {remote.address}; serve deploy would start it.")
    if diff:
        print_diff(_difference([], body["applications"]))
    try:
        outcome = client.controller().call("apply", config, dry_run=True)
    finally:
        client.shutdown()
    _show({name: change.model_dump(mode="json") for name, change in outcome.changes.items()}, dry_run=True)


def _difference(before: list[dict[str, Any] | None], after: list[dict[str, Any]]) -> list[str]:
    def text(applications: list[Any]) -> list[str]:
        declared = [app for app in applications if app is not None]
        ordered = sorted(declared, key=lambda app: app.get("name", "default"))
        return as_yaml({"applications": ordered}).splitlines() if ordered else []

    return list(difflib.unified_diff(text(before), text(after), "running", "config", lineterm=""))


def _show(changes: dict[str, Any], *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for name, app in changes.items():
        say(f"Application {name}: {'' if app['change'] == 'unchanged' else would}{app['change']}")
        for deployment, each in app["deployments"].items():
            if app["change"] != "unchanged" or each["change"] != "unchanged":
                options = f" ({', '.join(each['options'])})" if each["options"] else ""
                say(f"  {deployment}: {'' if each['change'] == 'unchanged' else would}{each['change']}{options}")
