"""One application: its deployments as one thing that is deployed, rolled back and deleted.

The last revision of which every deployment was healthy is remembered. If a deployment of a newer one is given up, the
whole application goes back to it, and the status says why.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.config import DeploymentConfig
from serve.specs import ApplicationSpec, DeploymentID
from serve.state.deployment import Action, Deployment, DeploymentStatus


class ApplicationStatus(enum.StrEnum):
    """How an application is. Ray's words."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


@dataclass
class Application:
    """The machine of one application.

    Args:
        spec: what is wanted.
        new_id: makes the name of a replica of a deployment.
    """

    spec: ApplicationSpec
    new_id: Callable[[DeploymentID], str]
    deployments: dict[str, Deployment] = field(default_factory=dict)
    #: the last revision that was healthy as a whole
    good: ApplicationSpec | None = None
    #: revision that was given up, and why
    rejected: tuple[int, str] | None = None
    deleting: bool = False

    def __post_init__(self) -> None:
        self._aim(self.spec)

    def deploy(self, spec: ApplicationSpec) -> None:
        """Change what is wanted."""
        self.rejected = None
        self.deleting = False
        self._aim(spec)

    def delete(self) -> None:
        """Stop everything."""
        self.deleting = True
        for deployment in self.deployments.values():
            deployment.aim(None, 0)

    def _aim(self, spec: ApplicationSpec) -> None:
        self.spec = spec
        wanted = {each.id.name: each for each in spec.deployments}
        for name, each in wanted.items():
            deployment = self.deployments.get(name)
            if deployment is None:
                deployment = self.deployments[name] = Deployment(each.id, functools.partial(self.new_id, each.id))
            deployment.aim(each, DeploymentConfig.model_validate(each.config).initial_replicas)

    def plan(self, now: float) -> list[Action]:
        """Return what has to be done now."""
        failed = [each for each in self.deployments.values() if each.failed]
        if failed and not self.deleting:
            self._give_up(failed)
        actions: list[Action] = []
        removed = self._removed()
        for name, deployment in list(self.deployments.items()):
            # what the new revision has no use for goes when all it needs is there
            if name in removed and self._settled(removed):
                deployment.aim(None, 0)
            actions += deployment.plan(now)
            if deployment.spec is None and not deployment.replicas:
                del self.deployments[name]
        if self._settled(self._removed()) and not self.deleting:
            self.good = self.spec
        return actions

    def _give_up(self, failed: list[Deployment]) -> None:
        reason = "\n".join(f"deployment {each.id.name}: {each.message}" for each in failed)
        if self.good is not None and self.good is not self.spec:
            self.rejected = (self.spec.revision, reason)
            self._aim(self.good)
        else:
            self.rejected = (self.spec.revision, reason)

    def _removed(self) -> set[str]:
        return set(self.deployments) - {each.id.name for each in self.spec.deployments}

    def _settled(self, removed: set[str]) -> bool:
        statuses = [each.status for name, each in self.deployments.items() if name not in removed]
        return bool(statuses) and all(status is DeploymentStatus.HEALTHY for status in statuses)

    @property
    def deadline(self) -> float | None:
        """When `plan` has to be called at the latest, if nothing happens before."""
        return min((d.deadline for d in self.deployments.values() if d.deadline is not None), default=None)

    @property
    def gone(self) -> bool:
        """Whether it was deleted and nothing of it is left."""
        return self.deleting and not self.deployments

    @property
    def reachable(self) -> bool:
        """Whether its ingress has or had a replica that answers, so that requests may be sent its way."""
        ingress = self.deployments.get(self.spec.ingress)
        return ingress is not None and not self.deleting and (bool(ingress.running) or ingress.proven)

    @property
    def status(self) -> ApplicationStatus:
        """How it is."""
        if self.deleting:
            return ApplicationStatus.DELETING
        removed = self._removed()
        statuses = {each.status for name, each in self.deployments.items() if name not in removed}
        if DeploymentStatus.DEPLOY_FAILED in statuses:
            return ApplicationStatus.DEPLOY_FAILED
        if DeploymentStatus.UNHEALTHY in statuses:
            return ApplicationStatus.UNHEALTHY
        if DeploymentStatus.UPDATING in statuses:
            return ApplicationStatus.DEPLOYING
        return ApplicationStatus.RUNNING

    @property
    def message(self) -> str:
        """What a person should know: why it is not healthy, or what was rolled back."""
        if self.rejected is not None:
            revision, reason = self.rejected
            if self.spec.revision != revision:
                return f"revision {revision} was rolled back to {self.spec.revision}: {reason}"
            return reason
        return "\n".join(
            f"deployment {each.id.name}: {each.message}" for each in self.deployments.values() if each.message
        )
