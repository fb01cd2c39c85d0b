"""``serve.run`` and what goes with it: deploy, look, ask for handles, delete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from serve.api import client, rollouts
from serve.api.build import build
from serve.api.deployment import Application
from serve.config import HTTPOptions
from serve.errors import RayServeException
from serve.handle import in_process
from serve.handle.deployment_handle import DeploymentHandle
from serve.schema import ServeStatus
from serve.specs import DeploymentID

T = TypeVar("T")
DEFAULT_APP = "default"


def run(
    target: Application[T],
    blocking: bool = False,
    name: str = DEFAULT_APP,
    route_prefix: str | None = "/",
    *,
    canary: float | None = None,
    canary_header: tuple[str, str] | None = None,
    shadow: bool = False,
    local_testing_mode: bool = False,
    _local_testing_mode: bool = False,
) -> DeploymentHandle[T]:
    """Deploy an application, wait until it runs, and return a handle to its ingress.

    If an application of this name runs, it is replaced without a gap: new replicas start first, old ones finish what
    they have. If the new one cannot start, the old one goes on.

    Args:
        target: the ingress, bound: ``MyDeployment.bind(...)``.
        blocking: do not return until interrupted (Ctrl-C) or terminated, then shut Serve down.
        name: of the application.
        route_prefix: where it is served; None for handles alone.
        canary: share of the requests, 0 to 1, that it gets beside the revision that runs, which goes on with the rest;
            `serve.promote` or `serve.rollback` decide, `serve.set_traffic` changes the share.
        canary_header: name and value of a header field that leads to it whatever its share.
        shadow: it gets copies of all requests, and its answers are thrown away; the revision that runs goes on.
        local_testing_mode: run it in this process, without servers and ports, for tests and debuggers: see
            `serve.testing`. (``_local_testing_mode`` is Ray's name of it.)

    Raises:
        TypeError: ``target`` is no application.
        ValueError: the route belongs to another application.
        OSError: the port is taken.
        RuntimeError: it cannot start; the text has the user's traceback.
    """
    if local_testing_mode or _local_testing_mode:
        from serve.api.local import start_locally  # noqa: PLC0415 - only tests need it

        return start_locally(target, name, route_prefix).handle
    spec = build(target, name, route_prefix)
    if canary is not None or canary_header is not None or shadow:
        rollouts.stage(spec, canary, canary_header, shadow=shadow)
    else:
        controller = client.controller()
        revisions = controller.call("deploy", [spec])
        controller.call("wait_for", name, revisions[name])
    if blocking:
        wait_for_the_end()
        client.shutdown()
    return DeploymentHandle(spec.ingress, name)


@dataclass(frozen=True)
class RunTarget:
    """One of the applications of `run_many`."""

    #: the ingress, bound
    target: Application[Any]
    #: of the application
    name: str = DEFAULT_APP
    #: where it is served; None for handles alone
    route_prefix: str | None = "/"


def run_many(targets: Sequence[RunTarget], blocking: bool = False) -> list[DeploymentHandle[Any]]:
    """Deploy several applications at a time, wait until all run, and return handles to their ingresses.

    All are taken over, or none, if one cannot be: two with one name or one route, say. One that cannot start leaves the
    others alone.

    Args:
        targets: the applications.
        blocking: do not return until interrupted (Ctrl-C) or terminated, then shut Serve down.

    Raises:
        TypeError: a target is no application.
        ValueError: two have one name or one route, or a route belongs to another application.
        OSError: the port is taken.
        RuntimeError: one or several cannot start; the text has the user's tracebacks.
    """
    specs = [build(each.target, each.name, each.route_prefix) for each in targets]
    controller = client.controller()
    revisions = controller.call("deploy", specs)
    failures: list[str] = []
    for name, revision in revisions.items():
        try:
            controller.call("wait_for", name, revision)
        except RuntimeError as error:
            failures.append(str(error))
    if failures:
        raise RuntimeError("\n".join(failures))
    if blocking:
        wait_for_the_end()
        client.shutdown()
    return [DeploymentHandle(spec.ingress, spec.name) for spec in specs]


def delete(name: str) -> None:
    """Delete an application and wait until it is gone. Requests it has are finished."""
    if name in in_process.applications:
        in_process.applications[name].close()
        return
    client.running_controller().call("delete", name)


def status() -> ServeStatus:
    """Return the state of all applications, deployments and replicas."""
    status: ServeStatus = client.running_controller().call("status")
    return status


def get_http_port() -> int:
    """Return the port that clients connect to: the one that was asked for, or the free one that was found for 0.

    A free one is found when the first application with a route is deployed.
    """
    options: HTTPOptions = client.running_controller().call("http_options")
    return options.port


def get_grpc_port() -> int:
    """Return the port of gRPC: the one that was asked for, or the free one that was found for 0.

    It is there from the first application on.

    Raises:
        RayServeException: no gRPC is served: ``serve.start(grpc_options=...)`` was not called, or nothing is deployed.
    """
    port = client.running_controller().call("grpc_port")
    if port is None:
        raise RayServeException("no gRPC is served: call serve.start(grpc_options={...}) first, and deploy something")
    return int(port)


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """Return a handle to an application's ingress.

    Raises:
        RayServeException: there is no such application.
    """
    if name in in_process.applications:
        return in_process.applications[name].handle
    ingress = client.running_controller().call("ingress_of", name)
    if ingress is None:
        known = ", ".join(map(repr, sorted(status().applications))) or "none"
        raise RayServeException(f"there is no application {name!r}; there are: {known}")
    return DeploymentHandle(ingress.name, name)


def get_deployment_handle(deployment_name: str, app_name: str = DEFAULT_APP) -> DeploymentHandle[Any]:
    """Return a handle to a deployment; also in the code of deployments. Whether there is one shows at the first call.

    Args:
        deployment_name: of the deployment.
        app_name: of its application.
    """
    if app_name in in_process.applications:
        return in_process.applications[app_name].handle_of(deployment_name)
    identifier = DeploymentID(deployment_name, app_name)
    return DeploymentHandle(identifier.name, identifier.app)


def wait_for_the_end() -> None:
    """Return when this process is interrupted (Ctrl-C) or told to terminate."""
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
