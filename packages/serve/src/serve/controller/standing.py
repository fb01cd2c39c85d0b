"""What the controller itself has to show in ``/metrics``: how applications, deployments and replicas are."""

from __future__ import annotations

from collections.abc import Iterable

from serve.metrics.report import Family
from serve.specs import ReplicaState
from serve.state.application import Application, ApplicationStatus
from serve.state.deployment import DeploymentStatus

#: Ray's figures
_APPLICATION = {
    ApplicationStatus.DEPLOY_FAILED: 1,
    ApplicationStatus.UNHEALTHY: 2,
    ApplicationStatus.NOT_STARTED: 3,
    ApplicationStatus.DELETING: 4,
    ApplicationStatus.DEPLOYING: 5,
    ApplicationStatus.RUNNING: 6,
}
_DEPLOYMENT = {
    DeploymentStatus.DEPLOY_FAILED: 1,
    DeploymentStatus.UNHEALTHY: 2,
    DeploymentStatus.UPDATING: 3,
    DeploymentStatus.HEALTHY: 6,
}


def standing(applications: Iterable[Application]) -> list[Family]:
    """Return gauges of how everything is."""
    app_status = Family("gauge", "serve_application_status", f"{_legend(_APPLICATION)}.")
    status = Family("gauge", "serve_deployment_status", f"{_legend(_DEPLOYMENT)}.")
    target = Family("gauge", "serve_autoscaling_target_replicas", "Replicas that a deployment is to have.")
    healthy = Family("gauge", "serve_deployment_replica_healthy", "1 for a replica that answers its health checks.")
    for app in applications:
        app_status.values[("application", app.spec.name),] = _APPLICATION.get(app.status, 0)
        for deployment in app.deployments.values():
            tags = (("application", deployment.id.app), ("deployment", deployment.id.name))
            status.values[tags] = _DEPLOYMENT.get(deployment.status, 0)
            target.values[tags] = deployment.wanted
        for machine in app.machines():
            tags = (("application", machine.id.app), ("deployment", machine.id.name))
            for replica in machine.replicas.values():
                well = replica.state is ReplicaState.RUNNING and not replica.missed_checks
                healthy.values[(*tags, ("replica", replica.replica_id))] = float(well)
    return [app_status, status, target, healthy]


def _legend(figures: dict[ApplicationStatus, int] | dict[DeploymentStatus, int]) -> str:
    return ", ".join(f"{figure} {status}" for status, figure in figures.items())
