"""Put together what the REST API tells of a running Serve."""

from __future__ import annotations

from serve.admin.desk import Desk
from serve.schema.details import (
    ApplicationDetails,
    DeploymentDetails,
    ProxyDetails,
    ReplicaDetails,
    ServeInstanceDetails,
    TrafficShare,
)
from serve.schema.status import ApplicationStatusOverview, DeploymentStatusOverview
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec, ReplicaState, Targets

#: options that hold secrets
_SECRET = {"ssl_keyfile_password"}


async def details(desk: Desk) -> ServeInstanceDetails:
    """Return everything."""
    status = await desk.status()
    targets = await desk.targets()
    options = await desk.http_options()
    applications = {}
    for name, overview in status.applications.items():
        history = await desk.revisions(name)
        spec = next((each for each in history if each.revision == overview.revision), None)
        applications[name] = _application(name, overview, spec, targets)
    return ServeInstanceDetails(
        http_options=options.model_dump(exclude=_SECRET),
        proxies={name: ProxyDetails(name=name, status=state) for name, state in status.proxies.items()},
        applications=applications,
    )


def _application(
    name: str, overview: ApplicationStatusOverview, spec: ApplicationSpec | None, targets: Targets
) -> ApplicationDetails:
    specs = {each.id.name: each for each in spec.deployments} if spec is not None else {}
    declared = spec.declared if spec is not None else None
    return ApplicationDetails(
        name=name,
        route_prefix=overview.route_prefix,
        docs_path=spec.docs_path if spec is not None else None,
        status=overview.status,
        message=overview.message,
        last_deployed_time_s=spec.deployed_at if spec is not None else 0.0,
        deployed_app_config=declared,
        source="imperative" if declared is None else "declarative",
        revision=overview.revision,
        traffic=shares(overview),
        deployments={
            key: _deployment(DeploymentID(key, name), each, specs.get(key), targets)
            for key, each in overview.deployments.items()
        },
    )


def shares(overview: ApplicationStatusOverview) -> list[TrafficShare]:
    """Return the revisions that share an application's requests; none if there is only one."""
    return [
        TrafficShare(revision=each.revision, weight=each.weight, header=each.header, shadow=each.shadow)
        for each in overview.traffic
    ]


def _deployment(
    deployment: DeploymentID, overview: DeploymentStatusOverview, spec: DeploymentSpec | None, targets: Targets
) -> DeploymentDetails:
    return DeploymentDetails(
        name=deployment.name,
        status=overview.status,
        message=overview.message,
        deployment_config={"name": deployment.name, **(spec.config if spec is not None else {})},
        target_num_replicas=overview.target_num_replicas,
        replica_states=overview.replica_states,
        replicas=[
            ReplicaDetails(
                replica_id=each.replica_id,
                state=ReplicaState.RUNNING,
                pid=each.pid,
                node_id=each.node_id,
                actor_name=each.actor_name,
            )
            for each in targets.replicas.get(str(deployment), ())
        ],
    )
