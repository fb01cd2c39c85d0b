"""What the code of a deployment may ask about itself and the request it is answering."""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serve.errors import RayServeException
from serve.specs import DeploymentID


@dataclass(frozen=True)
class ReplicaContext:
    """The replica this code runs in (``serve.get_replica_context()``). Ray's fields."""

    deployment_id: DeploymentID
    replica_tag: str
    #: the instance of the user's class; None for functions and while it is being made
    servable_object: Any = None

    @property
    def app_name(self) -> str:
        """Name of the application."""
        return self.deployment_id.app

    @property
    def deployment(self) -> str:
        """Name of the deployment."""
        return self.deployment_id.name

    @property
    def replica_id(self) -> str:
        """Id of the replica, unique in the cluster."""
        return self.replica_tag


@dataclass(eq=False)
class RequestContext:
    """The request that the current task or thread is answering."""

    request_id: str = ""
    route: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    #: seconds since the epoch after which nobody waits any more; None for no limit
    deadline: float | None = None
    #: revision of the application that answers it, where two share the requests; 0 where there is one
    revision: int = 0
    #: header fields of the HTTP request it came with, names in lower case
    headers: dict[str, str] = field(default_factory=dict)
    #: name of the API key it came with (`serve.gateway`); empty without one
    api_key: str = ""
    #: called once when the request ends, or else when this record goes away
    at_end: list[Callable[[], object]] = field(default_factory=list, repr=False, compare=False)


_NO_REQUEST = RequestContext()
_request: contextvars.ContextVar[RequestContext] = contextvars.ContextVar("serve_request", default=_NO_REQUEST)
_replica: ReplicaContext | None = None
#: where replicas share this process (in-process mode): the one whose code runs
_replica_here: contextvars.ContextVar[ReplicaContext | None] = contextvars.ContextVar("serve_replica", default=None)


def get_replica_context() -> ReplicaContext:
    """Return the replica that this code runs in.

    Raises:
        RayServeException: it does not run in one.
    """
    replica = _replica_here.get() or _replica
    if replica is None:
        raise RayServeException("get_replica_context() is for the code of a deployment; this process is no replica")
    return replica


def get_request_context() -> RequestContext:
    """Return the request that is being answered; an empty one outside of requests."""
    return _request.get()


def get_multiplexed_model_id() -> str:
    """Return the model that the request asks for; empty if it asks for none."""
    return _request.get().multiplexed_model_id


def new_request_id() -> str:
    """Return an id for a request that brought none: 32 hexadecimal digits."""
    return f"{random.getrandbits(128):032x}"


def set_replica_context(context: ReplicaContext | None) -> None:
    """Note which replica this process is (called by the replica)."""
    global _replica
    _replica = context


def set_replica_context_here(context: ReplicaContext | None) -> None:
    """Note which replica the current task, and what it starts, belongs to (in-process mode)."""
    _replica_here.set(context)


def set_request_context(context: RequestContext) -> contextvars.Token[RequestContext]:
    """Note which request the current task answers; pass the token to `reset_request_context`."""
    return _request.set(context)


def reset_request_context(token: contextvars.Token[RequestContext]) -> None:
    """Take `set_request_context` back: the request has ended."""
    context = _request.get()
    _request.reset(token)
    for callback in context.at_end:
        callback()
