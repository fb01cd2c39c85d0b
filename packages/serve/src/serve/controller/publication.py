"""What routers and proxies are told: put together from the machines and the replicas that run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from core.util import kv
from serve.controller.replicas import RunningReplica
from serve.specs import TARGETS_KEY, DeploymentID, ReplicaInfo, Route, Split, Targets
from serve.state.application import Application

#: seconds that processes have to take a publication in
TAKEN_S = 5.0


def build_targets(apps: Mapping[str, Application], replicas: Mapping[str, RunningReplica], version: int) -> Targets:
    """Return what everybody has to know now.

    Args:
        apps: the applications by name.
        replicas: by id.
        version: of the publication.
    """
    infos: dict[str, tuple[ReplicaInfo, ...]] = {}
    configs: dict[str, dict[str, Any]] = {}
    splits = {name: app.splits for name, app in apps.items() if app.splits}
    for app in apps.values():
        for deployment in app.serving():
            if deployment.spec is None:
                continue
            key = str(deployment.id)
            running = (replicas.get(replica.replica_id) for replica in deployment.running)
            found = tuple(each.info for each in running if each is not None and each.info is not None)
            infos[key] = infos.get(key, ()) + found
            config = configs.setdefault(key, _router_config(deployment.spec.config))
            if deployment.failed and not deployment.running:
                config["unavailable"] = f"deployment {deployment.id} cannot start; the status tells why"
    routes = [route for name, app in apps.items() if (route := _route(app, splits.get(name, ()))) is not None]
    ingresses = {name: app.spec.ingress for name, app in apps.items() if app.reachable}
    return Targets(version, tuple(routes), infos, configs, splits, ingresses)


async def announce(targets: bytes) -> None:
    """Put a publication where all processes with handles watch for it, and wait until they have taken it in."""
    version = kv.put(TARGETS_KEY, targets)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.wrap_future(kv.when_taken(TARGETS_KEY, version)), TAKEN_S)


def _route(app: Application, shares: tuple[Split, ...]) -> Route | None:
    """Return where an application's prefix leads; None if it has none, or nobody could answer."""
    prefix = app.spec.route_prefix
    if prefix is None or not app.reachable:
        return None
    ingress = DeploymentID(app.spec.ingress, app.spec.name)
    spec = app.deployments[app.spec.ingress].spec
    seconds = spec.config.get("request_timeout_s") if spec is not None else None
    gateway = spec.config.get("gateway") if spec is not None else None
    return Route(prefix, app.spec.name, shares or (Split(app.spec.revision, ingress, None, 1.0),), seconds, gateway)


def _router_config(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "max_queued_requests": config["max_queued_requests"],
        "retry_after_s": config["backpressure_config"]["retry_after_s"],
        "status_code": config["backpressure_config"]["status_code"],
        "request_timeout_s": config.get("request_timeout_s"),
        "gateway": config.get("gateway"),
        "scales": config.get("autoscaling_config") is not None,
        "ageing_s": ((config.get("gateway") or {}).get("priorities") or {}).get("ageing_s", 0.0),
    }
