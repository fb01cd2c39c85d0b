"""What the processes of Serve tell each other about applications, as plain records. The lowest room.

Code travels as opaque cloudpickled blobs that only replicas open. The controller, the proxies and the routers read the
rest. Everything here encodes to msgpack (`msgspec`), because the control store keeps bytes.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class DeploymentID(msgspec.Struct, frozen=True, order=True):
    """A deployment of an application. Names are unique within their application."""

    name: str
    app: str = "default"

    def __str__(self) -> str:
        return f"{self.app}#{self.name}"


class DeploymentSpec(msgspec.Struct, frozen=True):
    """One deployment as it should be."""

    id: DeploymentID
    #: changes when replicas have to be replaced: hash of the code, its arguments and the options that need a restart
    version: str
    #: cloudpickled ``(callable, init_args, init_kwargs)``; bound deployments in the arguments are `HandleMarker` s
    blob: bytes
    #: the checked options, as `serve.config.DeploymentConfig` dumps them
    config: dict[str, Any]
    #: whether it speaks ASGI (``@serve.ingress``, an ASGI app) or is called with a request or plain arguments
    asgi: bool = False
    #: names of the deployments its arguments refer to
    uses: tuple[str, ...] = ()


class ApplicationSpec(msgspec.Struct, frozen=True):
    """One application as it should be."""

    name: str
    #: the deployment that requests go to
    ingress: str
    deployments: tuple[DeploymentSpec, ...]
    #: None: reached by handles alone
    route_prefix: str | None = "/"
    #: 1, 2, ... for each deploy of this name; a rollback makes a new one with the old content
    revision: int = 1
    #: ``module:attribute``, if it was deployed from a config
    import_path: str | None = None
    docs_path: str | None = None
    #: the application's part of the config file it came from, for ``serve config`` and diffs
    declared: dict[str, Any] | None = None
    #: when, in seconds since the epoch
    deployed_at: float = 0.0


class HandleMarker(msgspec.Struct, frozen=True):
    """Stands in a deployment's arguments for the handle that the replica puts there."""

    deployment: DeploymentID


class ReplicaState(enum.StrEnum):
    """Where a replica stands. Ray's words."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    #: reports no health or a new config is being applied
    UPDATING = "UPDATING"
    #: takes no new requests, finishes those it has
    STOPPING = "STOPPING"


class ReplicaInfo(msgspec.Struct, frozen=True):
    """A replica that requests may go to, as routers and proxies need to know it."""

    replica_id: str
    deployment: DeploymentID
    version: str
    #: name of its actor in the namespace `NAMESPACE`
    actor_name: str
    node_id: str
    pid: int
    #: where it accepts HTTP: the path of a Unix socket; empty if it does not (no ingress)
    socket: str
    max_ongoing_requests: int
    #: models that are loaded (``@serve.multiplexed``), the last known
    model_ids: tuple[str, ...] = ()


class Split(msgspec.Struct, frozen=True):
    """One of several revisions that share an application's traffic."""

    revision: int
    ingress: DeploymentID
    #: version of the ingress whose replicas answer; None for any, as in a rollout without weights
    version: str | None
    #: share of the requests that no rule decides, 0 to 1; the weights of a route add up to 1
    weight: float
    #: header name (lower case) and value that lead here whatever the weights
    header: tuple[str, str] | None = None
    #: requests are copied here and the answers thrown away
    shadow: bool = False
    #: versions of this revision's deployments that the revisions do not share, by name: calls between its deployments
    #: stay within the revision
    versions: dict[str, str] = {}


class Traffic(msgspec.Struct, frozen=True):
    """Which requests go to the second of two revisions."""

    #: share of the requests that no rule decides, 0 to 1
    weight: float = 0.0
    #: header name (lower case) and value that lead there whatever the weight
    header: tuple[str, str] | None = None
    #: all requests are copied there and the answers thrown away
    shadow: bool = False


class Route(msgspec.Struct, frozen=True):
    """Where a URL prefix leads."""

    prefix: str
    app: str
    splits: tuple[Split, ...]
    request_timeout_s: float | None = None
    #: `serve.config.GatewayConfig` of the application, as JSON has it
    gateway: dict[str, Any] | None = None


class Targets(msgspec.Struct, frozen=True):
    """All that routers and proxies know: published under `TARGETS_KEY` by the controller, watched by everybody."""

    #: grows with each publication
    version: int
    #: longest prefix first
    routes: tuple[Route, ...]
    #: running replicas, by ``str(DeploymentID)``
    replicas: dict[str, tuple[ReplicaInfo, ...]]
    #: options that routers need (``max_queued_requests``, ``max_ongoing_requests``, ...), by ``str(DeploymentID)``
    configs: dict[str, dict[str, Any]]
    #: the revisions of those applications that have several, by name, for handles
    splits: dict[str, tuple[Split, ...]] = {}
    #: the deployment that requests to an application go to, by its name; those without a route too
    ingresses: dict[str, str] = {}


class RequestMeta(msgspec.Struct):
    """What goes with a call through a handle."""

    request_id: str
    method: str = "__call__"
    app: str = "default"
    route: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    #: seconds since the epoch after which nobody waits for the answer any more
    deadline: float | None = None
    stream: bool = False
    #: revision of the application that answers, where there are several; 0 for whichever
    revision: int = 0
    #: whether the only argument is a gRPC call (`serve.grpc_calls`)
    grpc: bool = False


class Full(msgspec.Struct, frozen=True):
    """The answer of a replica that has no room: ask another."""

    replica_id: str


#: namespace of all of Serve's actors
NAMESPACE = "serve"
CONTROLLER_NAME = "SERVE_CONTROLLER"
#: keys in the control store (`core.util.kv`)
TARGETS_KEY = "serve/targets"
DESIRED_PREFIX = "serve/desired/"
REPLICA_PREFIX = "serve/replica/"
#: which controller runs: `serve.controller.mailbox` reaches it from anywhere
CONTROLLER_KEY = "serve/controller"
#: the listening socket and the proxies
INGRESS_KEY = "serve/ingress"
#: where the REST API listens
ADMIN_KEY = "serve/admin"
ORDER_PREFIX = "serve/order/"
ANSWER_PREFIX = "serve/answer/"
