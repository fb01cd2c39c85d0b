"""One application: its deployments as one thing that is deployed, rolled back and deleted.

The last revision of which every deployment was healthy is remembered. If a deployment of a newer one is given up, the
whole application goes back to it, and the status says why. A second revision may run beside (`Candidate`): it is
promoted, given up or dropped as a whole, too.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from serve.config import DeploymentConfig
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec, Split, Traffic
from serve.state.candidate import Candidate, told_apart
from serve.state.deployment import Action, Deployment, DeploymentStatus

#: revisions that ran, whose numbers are remembered
KEPT = 100


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
    #: revisions that were healthy as a whole, the last one last
    served: list[int] = field(default_factory=list)
    #: the revision that shares the requests
    candidate: Candidate | None = None
    #: deployments of former candidates, until their replicas have stopped
    _leaving: list[Deployment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._aim(self.spec)

    def deploy(self, spec: ApplicationSpec) -> None:
        """Change what is wanted. A candidate is dropped."""
        self.drop()
        self.rejected = None
        self.deleting = False
        self._aim(spec)

    def delete(self) -> None:
        """Stop everything."""
        self.drop()
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
            deployment.aim(each, _count(deployment, each))

    # -- a second revision --------------------------------------------------------------------------------------------

    def stage(self, spec: ApplicationSpec, traffic: Traffic) -> None:
        """Let a second revision share the requests; another one that did is dropped.

        Raises:
            ValueError: what is deployed does not run yet.
        """
        self.refuse_to_stage()
        self.drop()
        self.rejected = None
        self.candidate = Candidate(told_apart(spec, self.spec), traffic, self.deployments, self.new_id)

    def refuse_to_stage(self) -> None:
        """Raise what `stage` would.

        Raises:
            ValueError: what is deployed does not run yet.
        """
        if self.deleting or self.good is not self.spec:
            raise ValueError(
                f"application {self.spec.name!r} has no revision that runs, beside which another could; deploy it first"
            )

    def promote(self) -> ApplicationSpec:
        """Make the candidate what is wanted; its replicas stay, and more start as needed before the old ones stop.

        Raises:
            ValueError: there is none.
        """
        candidate, self.candidate = self.candidate, None
        if candidate is None:
            raise ValueError(f"application {self.spec.name!r} has no second revision to promote")
        for name, deployment in candidate.deployments.items():
            running = self.deployments.get(name)
            if running is None:
                self.deployments[name] = deployment
            else:
                running.adopt(deployment)
        self.rejected = None
        self._aim(candidate.spec)
        return candidate.spec

    def drop(self, reason: str = "") -> None:
        """Take the candidate out; nothing happens if there is none.

        Args:
            reason: why it is given up, for the status; empty if somebody wanted it gone.
        """
        candidate, self.candidate = self.candidate, None
        if candidate is None:
            return
        for deployment in candidate.deployments.values():
            deployment.aim(None, 0)
            self._leaving.append(deployment)
        if reason:
            self.rejected = (candidate.spec.revision, reason)

    @property
    def splits(self) -> tuple[Split, ...]:
        """How two revisions share the requests; nothing if one has them all."""
        return self.candidate.splits(self.spec) if self.candidate is not None else ()

    @property
    def ingresses(self) -> set[str]:
        """The deployments that requests come to: one, or that of each revision."""
        return {self.spec.ingress, *([self.candidate.spec.ingress] if self.candidate is not None else [])}

    def serving(self) -> Iterator[Deployment]:
        """Yield the machines whose replicas may get requests: those of a candidate only when it is ready."""
        yield from self.deployments.values()
        if self.candidate is not None and self.candidate.ready:
            yield from self.candidate.deployments.values()

    def machines(self) -> Iterator[Deployment]:
        """Yield the machines of all deployments, those of a candidate and of former ones included."""
        yield from self.deployments.values()
        if self.candidate is not None:
            yield from self.candidate.deployments.values()
        yield from self._leaving

    def machine_of(self, replica_id: str) -> Deployment | None:
        """Return the machine that a replica belongs to."""
        return next((machine for machine in self.machines() if replica_id in machine.replicas), None)

    # -- what to do ---------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[Action]:
        """Return what has to be done now."""
        failed = [each for each in self.deployments.values() if each.failed]
        if failed and not self.deleting:
            self._give_up(failed)
        if self.candidate is not None and self.candidate.failure:
            self.drop(self.candidate.failure)
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
            if self.served[-1:] != [self.spec.revision]:
                self.served = [*(each for each in self.served if each != self.spec.revision), self.spec.revision]
                del self.served[:-KEPT]
        if self.candidate is not None:
            actions += self.candidate.plan(now)
        for deployment in self._leaving:
            actions += deployment.plan(now)
        self._leaving = [deployment for deployment in self._leaving if deployment.replicas]
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
        return min((d.deadline for d in self.machines() if d.deadline is not None), default=None)

    @property
    def gone(self) -> bool:
        """Whether it was deleted and nothing of it is left."""
        return self.deleting and not self.deployments and not self._leaving

    @property
    def reachable(self) -> bool:
        """Whether its ingress answers, will again, or needs no replica now: requests may be sent its way, and wait."""
        ingress = self.deployments.get(self.spec.ingress)
        if ingress is None or self.deleting:
            return False
        ran = bool(ingress.running) or ingress.proven or self.good is not None
        return ran or (not ingress.wanted and not ingress.failed)

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


def _count(deployment: Deployment, spec: DeploymentSpec) -> int:
    """Return how many replicas a deployment gets when it is deployed: what autoscaling has made of it stays."""
    config = DeploymentConfig.model_validate(spec.config)
    scaling = config.autoscaling_config
    if scaling is None or deployment.spec is None:
        return config.initial_replicas
    # a new version starts once, to show that it can
    low = max(scaling.min_replicas, int(spec.version != deployment.spec.version))
    return min(max(deployment.wanted, low), scaling.max_replicas)
