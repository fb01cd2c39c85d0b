"""Commands that change what runs: delete, scale, rollback, traffic, promote, shutdown."""

from __future__ import annotations

import sys
import urllib.parse
from typing import Annotated, Any

import typer

from serve.cli.options import Address, Name
from serve.cli.output import say
from serve.cli.reporting import reporting
from serve.cli.rest import Remote
from serve.cli.waiting import wait_until_running

Wait = Annotated[bool, typer.Option("--wait", help="Return when it runs; exit with 1 if it never will.")]


@reporting
def delete(name: Name, address: Address = None) -> None:
    """Delete an application; requests it has are finished."""
    Remote(address).request("DELETE", _path(name))
    say(f"Application {name} is gone.")


@reporting
def scale(
    name: Name,
    deployment: Annotated[str, typer.Argument(help="Name of its deployment.")],
    replicas: Annotated[int, typer.Argument(help="How many replicas there are to be.")],
    address: Address = None,
) -> None:
    """Change how many replicas a deployment has, until it is deployed anew."""
    path = f"{_path(name)}/deployments/{urllib.parse.quote(deployment, safe='')}/scale"
    Remote(address).request("POST", path, {"target_num_replicas": replicas})
    say(f"Deployment {deployment} of {name} is to have {replicas} replicas.")


@reporting
def rollback(
    name: Name,
    revision: Annotated[int | None, typer.Option(help="Which; default: the one before. See serve history.")] = None,
    wait: Wait = False,
    address: Address = None,
) -> None:
    """Deploy an earlier revision of an application again, with the code it had."""
    remote = Remote(address)
    answer = remote.request("POST", f"{_path(name)}/rollback", {"revision": revision})
    say(f"Application {name} goes back: revision {answer['revision']}.")
    if wait:
        wait_until_running(remote, {name: answer["revision"]})


@reporting
def traffic(
    name: Name,
    weights: Annotated[
        list[str] | None, typer.Argument(help="Shares by revision, such as 1=90 2=10; 1=1 alone ends the sharing.")
    ] = None,
    header: Annotated[
        str | None, typer.Option(help="NAME=VALUE of a header field that leads to the second whatever the shares.")
    ] = None,
    shadow: Annotated[
        int | None, typer.Option(help="Revision that gets copies of all requests; its answers are thrown away.")
    ] = None,
    address: Address = None,
) -> None:
    """Share an application's requests between the revision that runs and another one."""
    order: dict[str, Any] = {"weights": _weights(weights or []), "shadow": shadow}
    if header is not None:
        field, equals, value = header.partition("=")
        if not equals or not field:
            raise ValueError(f"expected --header NAME=VALUE, not {header!r}")
        order["header"] = [field, value]
    Remote(address).request("PUT", f"{_path(name)}/traffic", order)
    say(f"The requests of {name} are shared; serve status tells how, serve promote or serve rollback ends it.")


def _weights(texts: list[str]) -> dict[str, float]:
    weights = {}
    for text in texts:
        revision, _, weight = text.partition("=")
        try:
            weights[str(int(revision))] = float(weight.removesuffix("%"))
        except ValueError:
            raise ValueError(f"expected REVISION=SHARE, such as 2=10, not {text!r}") from None
    return weights


@reporting
def promote(name: Name, address: Address = None) -> None:
    """Give all requests to the second of two revisions."""
    answer = Remote(address).request("POST", f"{_path(name)}/promote")
    say(f"Application {name} is revision {answer['revision']} alone.")


@reporting
def shutdown(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, address: Address = None
) -> None:
    """Delete all applications and end Serve."""
    remote = Remote(address)
    running = remote.get("/api/ray/version")
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError("this deletes all applications and ends Serve; confirm with --yes")
        typer.confirm(f"Delete all applications and end Serve at {remote.address}?", abort=True)
    remote.request("DELETE", "/api/serve/applications/")
    remote.wait_until_gone(running["pid"])
    say("Serve has ended.")


def _path(name: str) -> str:
    return f"/api/v1/applications/{urllib.parse.quote(name, safe='')}"
