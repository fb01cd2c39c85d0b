"""What drivers and workers accept from their node daemon."""

from __future__ import annotations

from msgspec import Struct

from core.protocol.records import (
    ActorInfo,
    ActorSpec,
    DeathCause,
    Json,
    KeyChange,
    LogLine,
    PlacementGroupInfo,
)


class _Msg(Struct, array_like=True, tag=True):
    pass


class Welcome(_Msg):
    """Answer to ``Hello``. The arena's file descriptor travels with it (SCM_RIGHTS)."""

    session_dir: str
    node_id: bytes
    job_id: bytes
    namespace: str
    arena_bytes: int
    #: facts about the node: "labels"
    config: Json = {}


class Refused(_Msg):
    """The connection is closed after this."""

    reason: str


class LeaseGrant(_Msg):
    """The receiver may push tasks of class ``cls`` to the worker until it returns the lease or the worker dies."""

    cls: int
    lease_id: int
    address: bytes
    pid: int
    #: ids of the accelerators assigned, for GPU classes
    gpu_ids: list[int] = []


class LeaseRefused(_Msg):
    """No node can ever serve the class as asked (hard affinity to an unknown node, removed placement group, ...).

    ``kind``: "unschedulable", "placement_group_removed", "runtime_env" or "start"; all queued tasks of the class fail.
    """

    cls: int
    kind: str
    reason: str


class Reclaim(_Msg):
    """Others wait for resources: push no more to these leases, and return each once it has run dry."""

    leases: list[int]


class ProcessDied(_Msg):
    """A driver or worker of the session is gone (told to every other process)."""

    address: bytes
    cause: DeathCause


class ActorReply(_Msg):
    """``error`` is "" or one of "exists" (name taken), "missing" (no such name), "bad"; ``reason`` explains."""

    request: int
    info: ActorInfo | None = None
    error: str = ""
    reason: str = ""


class ActorUpdate(_Msg):
    info: ActorInfo


class StartActor(_Msg):
    """To a fresh worker: become this actor. Answered by ``ActorReady`` or ``ActorInitFailed``."""

    spec: ActorSpec
    restarts: int = 0
    gpu_ids: list[int] = []


class EndActor(_Msg):
    """To an actor's worker: finish the calls at hand, run atexit handlers, leave."""

    reason: str


class NamesReply(_Msg):
    request: int
    #: pairs of (namespace, name)
    names: list[tuple[str, str]]


class ExtentReply(_Msg):
    """``error`` is "", "full" or "disk" (no room on disk to spill to)."""

    request: int
    offset: int = 0
    size: int = 0
    error: str = ""
    reason: str = ""


class SpillFileReply(_Msg):
    request: int
    path: str = ""
    error: str = ""
    reason: str = ""


class PinReply(_Msg):
    """``state``: "arena" (at ``offset``), "file" (spilled whole at ``path``), or "lost"."""

    request: int
    object_id: bytes
    state: str
    offset: int = 0
    size: int = 0
    path: str = ""


class Evict(_Msg):
    """The daemon wants to move these objects to disk; answer ``EvictReply``."""

    request: int
    objects: list[bytes]


class Reclaimed(_Msg):
    """Ranges of the receiver's own extents are free again: pairs of (offset, size)."""

    ranges: list[tuple[int, int]]


class Orphans(_Msg):
    """Objects of the receiver whose maker is dead, maybe before it could tell of them: ``Freed`` those not wanted."""

    objects: list[bytes]


class Trim(_Msg):
    """Memory is short: announce unannounced objects (``Sealed``) and give unused ranges back (``ExtentReturn``)."""


class PlacementGroupReply(_Msg):
    request: int
    info: PlacementGroupInfo | None = None
    error: str = ""


class PlacementGroupUpdate(_Msg):
    info: PlacementGroupInfo


class KeyReply(_Msg):
    """The key's version now; 0 if there is no such key.

    ``error`` is "", "conflict" (another version than expected) or "refused"; ``reason`` explains.
    """

    request: int
    version: int = 0
    value: bytes | None = None
    error: str = ""
    reason: str = ""


class KeyNames(_Msg):
    request: int
    keys: list[str]


class KeyChanges(_Msg):
    """``forgotten``: deletions since the version that the watcher named are not all known any more."""

    request: int
    changes: list[KeyChange]
    forgotten: bool = False


class QueryReply(_Msg):
    request: int
    result: list[Json]


class StallReply(_Msg):
    request: int


class Inquiry(_Msg):
    """Somebody asked for state that only each process knows. Answered by ``Report`` with the same number.

    ``what``: "tasks", or "objects" (announce those that the daemon has not been told of).
    """

    number: int
    what: str


class Log(_Msg):
    lines: list[LogLine]


class Notice(_Msg):
    """A line for the user: why something waits, what was ended and why."""

    #: "info", "warning" or "error"
    level: str
    text: str


class Exit(_Msg):
    """To a worker: leave now (its job is over or the pool shrinks).

    ``soft``: an idle worker whose objects are still needed may answer ``ExitDeclined`` instead.
    """

    reason: str = ""
    soft: bool = False


FromNode = (
    Welcome
    | Refused
    | LeaseGrant
    | LeaseRefused
    | Reclaim
    | ProcessDied
    | ActorReply
    | ActorUpdate
    | StartActor
    | EndActor
    | NamesReply
    | ExtentReply
    | SpillFileReply
    | PinReply
    | Evict
    | Reclaimed
    | Trim
    | Orphans
    | PlacementGroupReply
    | PlacementGroupUpdate
    | KeyReply
    | KeyNames
    | KeyChanges
    | QueryReply
    | StallReply
    | Inquiry
    | Log
    | Notice
    | Exit
)
