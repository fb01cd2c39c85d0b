"""What the actor table is told (events) and what it wants done (instructions)."""

from __future__ import annotations

from msgspec import Struct

from core.protocol.records import ActorInfo, ActorSpec, DeathCause
from core.specs import LeaseSpec, Resources


class Create(Struct, frozen=True):
    """``sender`` registers an actor."""

    sender: bytes
    request: int
    job_id: bytes
    spec: ActorSpec


class Placed(Struct, frozen=True):
    """The scheduler gave the actor a process."""

    actor_id: bytes
    address: bytes
    pid: int
    gpu_ids: list[int] = []


class Refused(Struct, frozen=True):
    """The scheduler can never place the actor."""

    actor_id: bytes
    kind: str
    reason: str


class Ready(Struct, frozen=True):
    """``__init__`` is done."""

    worker: bytes
    actor_id: bytes


class InitFailed(Struct, frozen=True):
    """``__init__`` raised ``error`` (pickled)."""

    worker: bytes
    actor_id: bytes
    error: bytes


class Leaving(Struct, frozen=True):
    """The process says that it will exit, so its end is no failure."""

    worker: bytes
    reason: str = ""


class OutOfScope(Struct, frozen=True):
    """No handle is left."""

    actor_id: bytes


class Kill(Struct, frozen=True):
    """End the process now; restart it if allowed and ``no_restart`` is False."""

    actor_id: bytes
    no_restart: bool
    reason: str = "ended by kill()"


class Watch(Struct, frozen=True):
    """``watcher`` wants to know the state now and at each change."""

    watcher: bytes
    actor_id: bytes


class Unwatch(Struct, frozen=True):
    watcher: bytes
    actor_id: bytes


class ProcessGone(Struct, frozen=True):
    """A worker or a driver is gone."""

    address: bytes
    cause: DeathCause


class Tick(Struct, frozen=True):
    """Time has passed (see ``ActorTable.deadline``)."""


Event = (
    Create | Placed | Refused | Ready | InitFailed | Leaving | OutOfScope | Kill | Watch | Unwatch | ProcessGone | Tick
)


class Reply(Struct, frozen=True):
    """Answer a ``Create``."""

    to: bytes
    request: int
    info: ActorInfo | None
    error: str = ""
    reason: str = ""


class Place(Struct, frozen=True):
    """Find the actor a process; answer ``Placed`` or ``Refused``."""

    actor_id: bytes
    owner: bytes
    job_id: bytes
    spec: LeaseSpec
    held: Resources
    name: str


class Withdraw(Struct, frozen=True):
    """The actor needs no process any more."""

    actor_id: bytes


class Start(Struct, frozen=True):
    """Tell the process to become the actor."""

    address: bytes
    spec: ActorSpec
    restarts: int
    gpu_ids: list[int]


class End(Struct, frozen=True):
    """Tell the process to finish the calls it has and leave."""

    address: bytes
    reason: str


class KillProcess(Struct, frozen=True):
    """End the process at once."""

    address: bytes
    cause: DeathCause


class Update(Struct, frozen=True):
    """Tell ``watchers`` the new state."""

    watchers: frozenset[bytes]
    info: ActorInfo


Instruction = Reply | Place | Withdraw | Start | End | KillProcess | Update
