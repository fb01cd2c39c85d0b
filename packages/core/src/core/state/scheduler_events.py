"""What the scheduler is told (events) and what it wants done (instructions)."""

from __future__ import annotations

from msgspec import Struct

from core.protocol.records import Bundle, DeathCause
from core.specs import LeaseSpec, Resources, RuntimeEnv

#: What a worker process is good for: leases of this runtime environment, for this job.
WorkerKey = tuple[RuntimeEnv, bytes]


class JobStarted(Struct, frozen=True):
    """A driver registered; workers for it are started ahead of its first task."""

    job_id: bytes


class JobEnded(Struct, frozen=True):
    """A driver is gone: its pool of idle workers is of no use any more."""

    job_id: bytes


class Demanded(Struct, frozen=True):
    """``holder`` could use ``backlog`` more leases of its class ``cls`` (0 withdraws)."""

    holder: bytes
    job_id: bytes
    cls: int
    spec: LeaseSpec
    backlog: int
    depth: int = 0
    name: str = ""


class ActorWaits(Struct, frozen=True):
    """An actor needs a worker. It waits for ``spec.resources`` and then holds only ``held``."""

    actor_id: bytes
    owner: bytes
    job_id: bytes
    spec: LeaseSpec
    held: Resources
    name: str = ""


class ActorWithdrawn(Struct, frozen=True):
    """The actor needs no worker any more."""

    actor_id: bytes


class GroupCreated(Struct, frozen=True):
    """A placement group wants its bundles."""

    placement_group_id: bytes
    name: str
    strategy: str
    bundles: list[Bundle]
    creator: bytes
    detached: bool = False


class GroupRemoved(Struct, frozen=True):
    """Take a placement group away and end what runs in it. Idempotent."""

    placement_group_id: bytes


class GroupWatched(Struct, frozen=True):
    """``watcher`` wants to be told when a placement group is placed or removed."""

    placement_group_id: bytes
    watcher: bytes


class LeaseReturned(Struct, frozen=True):
    """A holder gives a lease back; ``exiting``: its worker is leaving and cannot be reused."""

    holder: bytes
    lease_id: int
    exiting: bool = False


class WorkerReady(Struct, frozen=True):
    """A process that was started has registered."""

    address: bytes
    pid: int


class StartFailed(Struct, frozen=True):
    """A worker did not come up. ``kind``: "start" (may be tried again) or "runtime_env" (would fail again)."""

    address: bytes
    kind: str
    reason: str


class StopDeclined(Struct, frozen=True):
    """An idle worker that was asked to leave still owns objects that others need."""

    address: bytes


class WorkerLeaving(Struct, frozen=True):
    """A worker said that it is about to exit."""

    address: bytes


class WorkerBlocked(Struct, frozen=True):
    """The task of this worker waits: its CPU share may be lent."""

    address: bytes


class WorkerUnblocked(Struct, frozen=True):
    """The waiting is over: the share is taken back at once."""

    address: bytes


class ProcessGone(Struct, frozen=True):
    """A worker or a driver is gone, with all it held and wanted."""

    address: bytes


class Tick(Struct, frozen=True):
    """Time has passed (see ``Scheduler.deadline``)."""


Event = (
    JobStarted
    | JobEnded
    | Demanded
    | ActorWaits
    | ActorWithdrawn
    | GroupCreated
    | GroupRemoved
    | GroupWatched
    | LeaseReturned
    | WorkerReady
    | StartFailed
    | StopDeclined
    | WorkerLeaving
    | WorkerBlocked
    | WorkerUnblocked
    | ProcessGone
    | Tick
)


class StartWorker(Struct, frozen=True):
    """Start a process that will be known as ``address``; answer ``WorkerReady`` or ``StartFailed``."""

    address: bytes
    key: WorkerKey


class StopWorker(Struct, frozen=True):
    """Ask an idle worker to leave: answer ``ProcessGone`` or ``StopDeclined``."""

    address: bytes
    reason: str


class KillWorker(Struct, frozen=True):
    """End a process at once."""

    address: bytes
    cause: DeathCause


class Granted(Struct, frozen=True):
    """``holder`` may push tasks of class ``cls`` to the worker."""

    holder: bytes
    cls: int
    lease_id: int
    address: bytes
    pid: int
    gpu_ids: list[int]


class Refused(Struct, frozen=True):
    """The class of ``holder`` can never be served; its demand is forgotten."""

    holder: bytes
    cls: int
    kind: str
    reason: str


class ActorPlaced(Struct, frozen=True):
    """The worker belongs to the actor now."""

    actor_id: bytes
    address: bytes
    pid: int
    gpu_ids: list[int]


class ActorRefused(Struct, frozen=True):
    """The actor can never be placed."""

    actor_id: bytes
    kind: str
    reason: str


class GroupChanged(Struct, frozen=True):
    """A placement group was placed or removed: tell ``watchers``."""

    placement_group_id: bytes
    watchers: frozenset[bytes]


class AskBack(Struct, frozen=True):
    """Others wait for these leases of ``holder``."""

    holder: bytes
    leases: list[int]


class Warn(Struct, frozen=True):
    """A line for the user behind ``address``."""

    address: bytes
    text: str


Instruction = (
    StartWorker
    | StopWorker
    | KillWorker
    | Granted
    | Refused
    | ActorPlaced
    | ActorRefused
    | GroupChanged
    | AskBack
    | Warn
)
