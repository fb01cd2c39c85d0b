"""Commands that look: ``serve status``, ``serve config``, ``serve history``."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any

import typer

from serve.cli.options import Address, Json, Name
from serve.cli.output import moment, print_json, print_table, print_yaml, say
from serve.cli.reporting import reporting
from serve.cli.rest import Remote

OneName = Annotated[str | None, typer.Option("--name", "-n", help="Only this application.")]


@reporting
def status(name: OneName = None, address: Address = None, as_json: Json = False) -> None:
    """Show how proxies, applications and deployments are, with the traceback of what failed."""
    remote = Remote(address)
    found = remote.get("/api/serve/applications/")
    applications = _chosen(found["applications"], name)
    shown = {key: _status(app) for key, app in applications.items()}
    proxies = {key: proxy["status"] for key, proxy in found["proxies"].items()}
    whole = {"proxies": proxies, "applications": shown}
    if as_json:
        print_json(shown[name] if name is not None else whole)
    else:
        print_yaml(shown[name] if name is not None else whole)


def _status(app: dict[str, Any]) -> dict[str, Any]:
    deployments = {
        name: {key: each[key] for key in ("status", "message", "replica_states")}
        for name, each in app["deployments"].items()
    }
    shown = {
        "status": app["status"],
        "message": app["message"],
        "route_prefix": app["route_prefix"],
        "revision": app["revision"],
        "last_deployed": moment(app["last_deployed_time_s"]),
    }
    if app["traffic"]:
        shown["traffic"] = app["traffic"]
    return {**shown, "deployments": deployments}


@reporting
def config(name: OneName = None, address: Address = None) -> None:
    """Show the config that applications were deployed from."""
    applications = _chosen(Remote(address).get("/api/serve/applications/")["applications"], name)
    declared = [app["deployed_app_config"] for app in applications.values() if app["deployed_app_config"] is not None]
    if name is not None and not declared:
        raise ValueError(f"application {name!r} was not deployed from a config")
    if not declared:
        say("No application was deployed from a config.")
    elif name is not None:
        print_yaml(declared[0])
    else:
        print_yaml({"applications": declared})


@reporting
def history(name: Name, address: Address = None, as_json: Json = False) -> None:
    """Show what was deployed under a name, newest first: what serve rollback can bring back."""
    revisions = Remote(address).get(f"/api/v1/applications/{urllib.parse.quote(name, safe='')}/revisions")
    if as_json:
        print_json(revisions)
        return
    rows = [
        (
            f"{each['revision']}",
            "yes" if each["current"] else "",
            moment(each["deployed_at"]),
            each["import_path"] or "serve.run",
            ", ".join(each["deployments"]),
        )
        for each in revisions
    ]
    print_table(("revision", "current", "deployed", "from", "deployments"), rows)


def _chosen(applications: dict[str, Any], name: str | None) -> dict[str, Any]:
    if name is None:
        return applications
    if name not in applications:
        known = ", ".join(sorted(applications)) or "none"
        raise ValueError(f"there is no application {name!r}; running: {known}")
    return {name: applications[name]}
