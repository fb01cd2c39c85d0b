"""What ``serve.status()`` tells of each application."""

from __future__ import annotations

from serve.schema import ApplicationStatusOverview, DeploymentStatusOverview, TrafficOverview
from serve.state.application import Application
from serve.state.deployment import Deployment


def status_of(app: Application) -> ApplicationStatusOverview:
    """Return how an application is."""
    return ApplicationStatusOverview(
        app.status,
        app.message,
        {key: _deployment(deployment) for key, deployment in app.deployments.items()},
        app.spec.route_prefix,
        app.spec.revision,
        _traffic(app),
    )


def _deployment(deployment: Deployment) -> DeploymentStatusOverview:
    return DeploymentStatusOverview(deployment.status, deployment.message, deployment.states(), deployment.wanted)


def _traffic(app: Application) -> tuple[TrafficOverview, ...]:
    beside = app.candidate
    if beside is None:
        return ()
    shared = {each.revision: each for each in app.splits}
    return tuple(
        TrafficOverview(
            spec.revision,
            shared[spec.revision].weight if shared else float(spec is app.spec),
            None if spec is app.spec else beside.traffic.header,
            spec is not app.spec and beside.traffic.shadow,
            {name: _deployment(machine) for name, machine in machines.items()},
        )
        for spec, machines in ((app.spec, {}), (beside.spec, beside.deployments))
    )
