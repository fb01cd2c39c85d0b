"""Calling deployments from Python: handles, and the router that handles and proxies share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.handle.deployment_handle import DeploymentHandle
    from serve.handle.response import DeploymentResponse, DeploymentResponseGenerator

__all__ = ["DeploymentHandle", "DeploymentResponse", "DeploymentResponseGenerator"]


def __getattr__(name: str) -> Any:
    if name == "DeploymentHandle":
        from serve.handle import deployment_handle  # noqa: PLC0415 - not before it is asked for: imports come back here

        return deployment_handle.DeploymentHandle
    if name in __all__:
        from serve.handle import response  # noqa: PLC0415 - likewise

        return getattr(response, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
