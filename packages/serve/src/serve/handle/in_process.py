"""Applications that run in this very process, for tests (`serve.testing`): where their handles are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from serve.handle.deployment_handle import DeploymentHandle


class LocalApplication(Protocol):
    """An application of this process, as far as the functions of ``serve`` need to know it."""

    def handle_of(self, deployment_name: str) -> DeploymentHandle[Any]:
        """Return a handle to one of its deployments."""

    @property
    def handle(self) -> DeploymentHandle[Any]:
        """A handle to its ingress."""

    def close(self) -> None:
        """End it."""


#: by name
applications: dict[str, LocalApplication] = {}


def close_all() -> None:
    """End all of them."""
    for application in list(applications.values()):
        application.close()
