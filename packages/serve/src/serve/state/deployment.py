"""One deployment's replicas: which to start, stop and reconfigure so that what runs becomes what is wanted.

A new version starts beside the old one; an old replica is stopped only when a new one is there to take its requests, so
even a single replica is replaced without a gap. A version that fails to start as often as it may, or whose
``reconfigure`` refuses its options, is given up; what ran before goes on.

A replica that fails its health checks is *sick*: another one starts beside it. If it still answers, it goes on serving
as long as fewer than half of the wanted replicas are well, so that a check that fails everywhere (a database that is
away) takes nothing away; then it finishes what it has. One that does not even answer its checks is killed.

Pure: the caller performs the actions and tells of their outcomes; time is the caller's.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serve.specs import DeploymentID, DeploymentSpec, ReplicaState
from serve.state.backoff import Backoff

#: failed health checks in a row after which a replica is replaced
UNHEALTHY_AFTER = 3
#: replicas that a rollout may run beyond the wanted number, as a share of it
SURGE = 0.25


class DeploymentStatus(enum.StrEnum):
    """How a deployment is. Ray's words."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"


@dataclass(frozen=True)
class Start:
    """Start a replica."""

    replica_id: str
    spec: DeploymentSpec


@dataclass(frozen=True)
class Stop:
    """Stop a replica; gracefully, unless it cannot be reached any more."""

    replica_id: str
    graceful: bool


@dataclass(frozen=True)
class Reconfigure:
    """Give a replica new options that need no restart."""

    replica_id: str
    config: dict[str, Any]


Action = Start | Stop | Reconfigure


@dataclass
class Replica:
    """A replica as the controller sees it."""

    replica_id: str
    version: str
    state: ReplicaState
    #: the options it was given last
    config: dict[str, Any]
    missed_checks: int = 0
    #: the last failed check was answered
    responds: bool = True
    #: new options are being applied
    updating: bool = False

    @property
    def sick(self) -> bool:
        """Whether it has failed so many checks that it is replaced."""
        return self.missed_checks >= UNHEALTHY_AFTER


@dataclass
class Deployment:
    """The machine of one deployment.

    Args:
        id: which.
        new_id: makes names of replicas.
    """

    id: DeploymentID
    new_id: Callable[[], str]
    replicas: dict[str, Replica] = field(default_factory=dict)
    #: what is wanted; None once it is deleted
    spec: DeploymentSpec | None = None
    wanted: int = 0
    #: why it is not healthy
    message: str = ""
    #: the wanted version was running once
    proven: bool = False
    backoff: Backoff = field(default_factory=Backoff)
    #: the wanted version was given up
    failed: bool = False

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def aim(self, spec: DeploymentSpec | None, replicas: int) -> None:
        """Change what is wanted; None removes the deployment."""
        if spec is None or self.spec is None or spec.version != self.spec.version:
            self.backoff.reset()
            self.failed = False
            self.message = ""
            self.proven = spec is not None and any(
                replica.version == spec.version and replica.state is ReplicaState.RUNNING
                for replica in self.replicas.values()
            )
        elif spec.config != self.spec.config:
            self.failed = False
            self.message = ""
        self.spec = spec
        self.wanted = replicas if spec is not None else 0

    def resize(self, replicas: int) -> None:
        """Change the number of replicas alone."""
        if self.spec is not None:
            self.wanted = replicas

    def adopt(self, other: Deployment) -> None:
        """Take over the replicas of another version, which becomes the wanted one with the next `aim`."""
        self.replicas.update(other.replicas)
        other.replicas = {}

    # -- what happened ------------------------------------------------------------------------------------------------

    def started(self, replica_id: str) -> None:
        """A replica answers."""
        replica = self.replicas.get(replica_id)
        if replica is None or replica.state is not ReplicaState.STARTING:
            return
        replica.state = ReplicaState.RUNNING
        if self.spec is not None and replica.version == self.spec.version:
            self.proven = True
            self.message = ""

    def start_failed(self, replica_id: str, now: float, reason: str) -> None:
        """A replica could not start: its constructor raised, or its process died."""
        replica = self.replicas.pop(replica_id, None)
        if replica is None or self.spec is None or replica.version != self.spec.version:
            return
        if replica.state is not ReplicaState.STARTING:
            return
        self.backoff.failed(now)
        self.message = reason
        if not self.proven and self.backoff.failures >= int(self.spec.config["max_constructor_retry_count"]):
            self.failed = True

    def died(self, replica_id: str, now: float, reason: str) -> None:
        """The process of a replica that had started is gone."""
        replica = self.replicas.pop(replica_id, None)
        if replica is None or replica.state is ReplicaState.STOPPING:
            return
        self.backoff.failed(now)
        self.message = reason

    def stopped(self, replica_id: str) -> None:
        """A replica that was to stop has stopped."""
        self.replicas.pop(replica_id, None)

    def checked(self, replica_id: str, now: float, reason: str = "", *, responds: bool = True) -> None:
        """A health check ended.

        Args:
            replica_id: whose.
            now: when.
            reason: what is wrong; empty if nothing is.
            responds: whether the replica answered at all.
        """
        replica = self.replicas.get(replica_id)
        if replica is None:
            return
        if reason:
            replica.missed_checks += 1
            replica.responds = responds
            self.message = reason
            if replica.missed_checks == UNHEALTHY_AFTER:
                self.backoff.failed(now)
        elif replica.missed_checks:
            replica.missed_checks = 0
            self.message = ""

    def reconfigured(self, replica_id: str, reason: str = "") -> None:
        """New options were applied, or refused by the user's ``reconfigure``: then the reason says how."""
        replica = self.replicas.get(replica_id)
        if replica is None:
            return
        replica.updating = False
        if reason and self.spec is not None and replica.config == self.spec.config:
            self.message = reason
            self.failed = True

    # -- what to do ---------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[Action]:
        """Return what has to be done now; what it starts and stops is counted as starting and stopping from here on."""
        actions = self._stop_sick()
        actions += self._stop_surplus()
        if self.spec is not None and not self.failed:
            actions += self._reconfigure(self.spec)
            if now >= self.backoff.until:
                actions += self._start_missing(self.spec)
        return actions

    @property
    def deadline(self) -> float | None:
        """When `plan` has to be called at the latest, if nothing happens before."""
        waits = self.spec is not None and not self.failed and len(self._current()) < self.wanted
        return self.backoff.until if waits else None

    def _stop_sick(self) -> list[Action]:
        sick = [replica for replica in self._alive() if replica.sick]
        lost = [replica for replica in sick if not replica.responds]
        sick = [replica for replica in sick if replica.responds]
        well = sum(not replica.sick for replica in self.running)
        kept = max(0, self.wanted - well) if 2 * well < self.wanted else 0
        leaving = [self._stop(replica, graceful=True) for replica in sick[: max(0, len(sick) - kept)]]
        return [*(self._stop(replica, graceful=False) for replica in lost), *leaving]

    def _stop_surplus(self) -> list[Action]:
        current = self._current()
        old = [replica for replica in self._alive() if replica not in current]
        if self.failed and self.spec is not None:
            surplus: list[Replica] = []  # what ran before goes on
        else:
            surplus = [replica for replica in old if replica.state is ReplicaState.STARTING]
            old = [replica for replica in old if replica.state is not ReplicaState.STARTING]
            healthy = sum(replica.state is ReplicaState.RUNNING for replica in current)
            old.sort(key=lambda replica: not replica.sick)
            surplus += old[: max(0, len(old) + healthy - self.wanted)]
        current.sort(key=lambda replica: replica.state is not ReplicaState.STARTING)
        surplus += current[: max(0, len(current) - self.wanted)]
        return [self._stop(replica, graceful=True) for replica in surplus]

    def _start_missing(self, spec: DeploymentSpec) -> list[Action]:
        current = len(self._current())
        alive = len(self._alive())
        room = self.wanted + (max(1, math.ceil(self.wanted * SURGE)) if alive > current else 0)
        starts: list[Action] = []
        for _ in range(min(self.wanted - current, room - alive)):
            replica_id = self.new_id()
            self.replicas[replica_id] = Replica(replica_id, spec.version, ReplicaState.STARTING, spec.config)
            starts.append(Start(replica_id, spec))
        return starts

    def _reconfigure(self, spec: DeploymentSpec) -> list[Action]:
        actions: list[Action] = []
        for replica in self._current():
            if replica.state is ReplicaState.RUNNING and not replica.updating and replica.config != spec.config:
                replica.config = spec.config
                replica.updating = True
                actions.append(Reconfigure(replica.replica_id, spec.config))
        return actions

    def _stop(self, replica: Replica, *, graceful: bool) -> Stop:
        replica.state = ReplicaState.STOPPING
        return Stop(replica.replica_id, graceful)

    def _alive(self) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.state is not ReplicaState.STOPPING]

    def _current(self) -> list[Replica]:
        """Those that are as wanted; a sick one is not, whatever its version."""
        version = self.spec.version if self.spec is not None else None
        return [replica for replica in self._alive() if replica.version == version and not replica.sick]

    # -- how it is ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Replica]:
        """The replicas that get requests, of whatever version."""
        return [replica for replica in self.replicas.values() if replica.state is ReplicaState.RUNNING]

    @property
    def status(self) -> DeploymentStatus:
        """How it is."""
        if self.failed:
            return DeploymentStatus.DEPLOY_FAILED
        settled = len(self._current()) == len(self._alive()) == len(self.running) == self.wanted
        if settled and not any(replica.updating for replica in self.running):
            return DeploymentStatus.HEALTHY
        well = sum(not replica.sick for replica in self.running)
        if self.proven and well < self.wanted and self.backoff.failures:
            return DeploymentStatus.UNHEALTHY
        return DeploymentStatus.UPDATING

    def states(self) -> dict[str, int]:
        """Return how many replicas are in which state."""
        counts: dict[str, int] = {}
        for replica in self.replicas.values():
            counts[str(replica.state)] = counts.get(str(replica.state), 0) + 1
        return counts
