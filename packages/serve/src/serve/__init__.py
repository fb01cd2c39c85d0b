"""Skate's model serving: Ray Serve's API, at nearly the speed of a bare ASGI server.

::

    import serve


    @serve.deployment
    class Hello:
        def __call__(self, request):
            return f"Hello {request.query_params['name']}!"


    serve.run(Hello.bind())

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from serve.version import __version__

if TYPE_CHECKING:
    from serve import config, context, errors, gateway, grpc_util, handle, metrics, oip, schema, tasks, testing
    from serve.api.client import shutdown, shutdown_async, start
    from serve.api.deployment import Application, Deployment, deployment
    from serve.api.ingress import ingress
    from serve.api.models import list_models, load_model, unload_model
    from serve.api.page import status_page
    from serve.api.rollouts import promote, rollback, set_traffic
    from serve.api.run import (
        RunTarget,
        delete,
        get_app_handle,
        get_deployment_handle,
        get_grpc_port,
        get_http_port,
        run,
        run_many,
        status,
    )
    from serve.api.task_workers import task_workers
    from serve.batching.decorator import batch
    from serve.config import HTTPOptions
    from serve.context import ReplicaContext, get_multiplexed_model_id, get_replica_context
    from serve.errors import RayServeException
    from serve.handle.deployment_handle import DeploymentHandle
    from serve.handle.response import DeploymentResponse, DeploymentResponseGenerator
    from serve.handle.typed import method, typed
    from serve.multiplex.decorator import multiplexed
    from serve.tasks.decorator import task

__all__ = [
    "Application",
    "Deployment",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
    "HTTPOptions",
    "RayServeException",
    "ReplicaContext",
    "RunTarget",
    "__version__",
    "batch",
    "config",
    "context",
    "delete",
    "deployment",
    "errors",
    "gateway",
    "get_app_handle",
    "get_deployment_handle",
    "get_grpc_port",
    "get_http_port",
    "get_multiplexed_model_id",
    "get_replica_context",
    "grpc_util",
    "handle",
    "ingress",
    "list_models",
    "load_model",
    "method",
    "metrics",
    "multiplexed",
    "oip",
    "promote",
    "rollback",
    "run",
    "run_many",
    "schema",
    "set_traffic",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
    "status_page",
    "task",
    "task_workers",
    "tasks",
    "testing",
    "typed",
    "unload_model",
]

_SUBMODULES = frozenset(
    {"config", "context", "errors", "gateway", "grpc_util", "handle", "metrics", "oip", "schema", "tasks", "testing"}
)

#: name -> module that defines it
_HOMES = {
    "Application": "api.deployment",
    "Deployment": "api.deployment",
    "DeploymentHandle": "handle.deployment_handle",
    "DeploymentResponse": "handle.response",
    "DeploymentResponseGenerator": "handle.response",
    "HTTPOptions": "config",
    "RayServeException": "errors",
    "ReplicaContext": "context",
    "RunTarget": "api.run",
    "batch": "batching.decorator",
    "delete": "api.run",
    "deployment": "api.deployment",
    "get_app_handle": "api.run",
    "get_deployment_handle": "api.run",
    "get_grpc_port": "api.run",
    "get_http_port": "api.run",
    "get_multiplexed_model_id": "context",
    "get_replica_context": "context",
    "ingress": "api.ingress",
    "list_models": "api.models",
    "load_model": "api.models",
    "method": "handle.typed",
    "multiplexed": "multiplex.decorator",
    "promote": "api.rollouts",
    "rollback": "api.rollouts",
    "run": "api.run",
    "run_many": "api.run",
    "set_traffic": "api.rollouts",
    "shutdown": "api.client",
    "shutdown_async": "api.client",
    "start": "api.client",
    "status": "api.run",
    "status_page": "api.page",
    "task": "tasks.decorator",
    "task_workers": "api.task_workers",
    "typed": "handle.typed",
    "unload_model": "api.models",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
