"""Handles of deployments that run in this process."""

from __future__ import annotations

from typing import Any, TypeVar

from serve.handle import in_process
from serve.handle.deployment_handle import DeploymentHandle, start_after
from serve.handle.response import DeploymentResponse
from serve.local.call import LocalCall, LocalResponse, LocalResponseGenerator, LocalStreamCall
from serve.local.replica import LocalReplica

T = TypeVar("T")


class LocalHandle(DeploymentHandle[T]):
    """A `DeploymentHandle` whose replica is in this process, looked up by name at each call, so that copies work."""

    def remote(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # to type checkers it is a descriptor
        """Call, and return a `DeploymentResponse` at once (with ``stream=True`` a `DeploymentResponseGenerator`)."""
        meta = self._meta()
        running: Any = in_process.applications.get(self.app_name)
        replica: LocalReplica | None = None if running is None else running.replicas.get(self.deployment_name)
        copies = running is not None and running.copies
        call: Any = (LocalStreamCall if meta.stream else LocalCall)(replica, meta, args, kwargs, copies=copies)
        pending = [value for value in (*args, *kwargs.values()) if isinstance(value, DeploymentResponse)]
        if pending:
            start_after(call, pending)
        else:
            call.start()
        return LocalResponseGenerator(call) if isinstance(call, LocalStreamCall) else LocalResponse(call)
