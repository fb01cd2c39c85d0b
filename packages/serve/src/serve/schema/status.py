"""What ``serve.status()`` returns. Ray Serve's names."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve.state.application import ApplicationStatus
from serve.state.deployment import DeploymentStatus


@dataclass(frozen=True)
class DeploymentStatusOverview:
    """How a deployment is."""

    status: DeploymentStatus
    #: why it is not healthy, with the user's traceback if his code raised
    message: str
    #: number of replicas by state
    replica_states: dict[str, int] = field(default_factory=dict)
    #: replicas it is to have
    target_num_replicas: int = 0


@dataclass(frozen=True)
class TrafficOverview:
    """One of two revisions that share an application's requests."""

    revision: int
    #: share of the requests that no rule decides, 0 to 1; the new one gets nothing before it runs
    weight: float
    #: name and value of a header field that leads to it whatever the weights
    header: tuple[str, str] | None = None
    #: it gets copies of all requests, and its answers are thrown away
    shadow: bool = False
    #: deployments of its own; the others it shares
    deployments: dict[str, DeploymentStatusOverview] = field(default_factory=dict)


@dataclass(frozen=True)
class ApplicationStatusOverview:
    """How an application is."""

    status: ApplicationStatus
    #: why it is not running, or what was rolled back
    message: str
    deployments: dict[str, DeploymentStatusOverview] = field(default_factory=dict)
    route_prefix: str | None = None
    #: counts the deploys of this name
    revision: int = 1
    #: the revisions that share the requests, the one that runs first; empty if there is only that
    traffic: tuple[TrafficOverview, ...] = ()


@dataclass(frozen=True)
class ServeStatus:
    """How everything is."""

    #: states of the proxies by name; empty while replicas accept clients themselves
    proxies: dict[str, str] = field(default_factory=dict)
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
