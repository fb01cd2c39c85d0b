"""What the REST API and the status page need of the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from serve.admin.page.watched import Watched
from serve.config import HTTPOptions
from serve.metrics.report import Family
from serve.schema.live import Live
from serve.schema.status import ServeStatus
from serve.specs import ApplicationSpec, Targets


class Desk(Watched, Protocol):
    """Where orders are handed in: the controller. Its methods run on the event loop that calls them."""

    async def http_options(self) -> HTTPOptions:
        """Return how HTTP is served."""

    async def targets(self) -> Targets:
        """Return what routers know."""

    async def status(self) -> ServeStatus:
        """Return how everything is."""

    async def deploy(self, specs: Sequence[ApplicationSpec], *, only_these: bool = False) -> dict[str, int]:
        """Take over applications, and return their revisions."""

    async def wait_for(self, name: str, revision: int) -> None:
        """Wait until a revision runs, or raise RuntimeError with the reason why it never will."""

    async def delete(self, name: str) -> None:
        """Delete an application and wait until it is gone."""

    async def revisions(self, name: str) -> list[ApplicationSpec]:
        """Return what was deployed under a name, newest first."""

    async def rollback(self, name: str, revision: int | None = None) -> int:
        """Deploy an earlier revision once more."""

    async def scale(self, app: str, deployment: str, num_replicas: int) -> None:
        """Change how many replicas a deployment has."""

    async def stage(self, spec: ApplicationSpec, weight: float = 0.0) -> int:
        """Start a new revision beside the one that runs."""

    async def set_traffic(
        self,
        name: str,
        weights: Mapping[int, float],
        *,
        header: tuple[str, str] | None = None,
        shadow: int | None = None,
    ) -> int:
        """Share an application's requests between two revisions; returns the number to wait for."""

    async def metrics(self) -> list[Family]:
        """Return all numbers of all processes."""

    async def live(self, since: float = 0.0) -> Live:
        """Return everything as it is, and the points after a time."""

    async def log_tail(self, name: str, lines: int) -> list[str] | None:
        """Return the last lines of the log of a replica or proxy; None if none is known."""

    async def promote(self, name: str) -> int:
        """Give all requests to the second of two revisions."""
