"""What the REST API tells of a running Serve. Ray Serve's names, and its addresses' answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from serve.specs import ReplicaState
from serve.state.application import ApplicationStatus
from serve.state.deployment import DeploymentStatus


class ReplicaDetails(BaseModel):
    """A replica that requests go to."""

    replica_id: str
    state: ReplicaState
    pid: int
    node_id: str
    actor_name: str


class DeploymentDetails(BaseModel):
    """A deployment."""

    name: str
    status: DeploymentStatus
    #: why it is not healthy
    message: str
    #: all of its options, those in the config file and those in the code
    deployment_config: dict[str, Any]
    target_num_replicas: int
    #: number of replicas by state
    replica_states: dict[str, int]
    #: those that requests go to
    replicas: list[ReplicaDetails]


class TrafficShare(BaseModel):
    """One of two revisions that share an application's requests."""

    revision: int
    #: share of the requests that no rule decides, 0 to 1
    weight: float
    #: name and value of a header field that leads to it whatever the shares
    header: tuple[str, str] | None = None
    #: it gets copies of all requests, and its answers are thrown away
    shadow: bool = False


class ApplicationDetails(BaseModel):
    """An application."""

    name: str
    route_prefix: str | None
    docs_path: str | None
    status: ApplicationStatus
    #: why it does not run, or what was rolled back
    message: str
    #: seconds since the epoch; 0 if it is not known
    last_deployed_time_s: float
    #: what the config file says; null for those that no config file has deployed
    deployed_app_config: dict[str, Any] | None
    #: from a config file, or by ``serve.run``
    source: Literal["declarative", "imperative"]
    revision: int
    #: the revisions that share the requests, the one that runs first; empty if there is only that
    traffic: list[TrafficShare]
    deployments: dict[str, DeploymentDetails]


class ProxyDetails(BaseModel):
    """A proxy."""

    name: str
    status: str


class ServeInstanceDetails(BaseModel):
    """Everything."""

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] = "EveryNode"
    http_options: dict[str, Any]
    #: empty while replicas accept clients themselves
    proxies: dict[str, ProxyDetails]
    applications: dict[str, ApplicationDetails]
    #: always null: deployments have their number of replicas
    target_capacity: float | None = Field(default=None)
