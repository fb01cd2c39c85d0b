"""What the node daemon accepts from drivers and workers, over ``node.sock``.

``request`` numbers are chosen by the sender; the reply (:mod:`core.protocol.from_node`) carries the same number.
"""

from __future__ import annotations

from msgspec import Struct

from core.protocol.records import ActorSpec, Bundle, TaskRow
from core.specs import LeaseSpec


class _Msg(Struct, array_like=True, tag=True):
    pass


class Hello(_Msg):
    """First message of every connection. Answered with ``Welcome`` (plus the arena's file descriptor)."""

    version: str
    address: bytes
    #: "driver" or "worker"
    kind: str
    pid: int
    #: workers: the token the zygote was told to give them; drivers: empty
    token: bytes = b""
    #: drivers: what their workers start with
    sys_path: list[str] = []
    cwd: str = ""
    namespace: str = ""
    log_to_driver: bool = True
    #: drivers: modules to import in the zygote, so that workers have them from the start
    preload: list[str] = []


class LeaseDemand(_Msg):
    """The sender wants ``backlog`` leases of class ``cls`` in total *beyond* those it holds; 0 withdraws the demand.

    ``spec`` must be present the first time a ``cls`` is named on a connection. ``depth`` is the nesting depth of the
    submitter's tasks (1 for a driver's, one more than its own for a task's): the deeper demand is served first, so that
    nested tasks cannot starve their parents.
    """

    cls: int
    backlog: int
    depth: int = 0
    spec: LeaseSpec | None = None
    #: display name for "waiting for" messages
    name: str = ""


class ReturnLease(_Msg):
    """The sender gives a lease back. ``exiting``: the worker is leaving (max_calls), do not reuse it."""

    lease_id: int
    exiting: bool = False


class Blocked(_Msg):
    """A worker's task waits in ``get``/``wait``: its CPU share may be lent to others."""


class Unblocked(_Msg):
    """The waiting is over; the share is taken back at once, below zero if need be."""


class Exiting(_Msg):
    """A worker leaves on its own accord (exit_actor, max_calls); its exit is not a failure."""

    reason: str = ""


class ExitDeclined(_Msg):
    """Answer of a worker to a soft ``Exit``: it owns objects that others still need. It stays in the pool.

    A worker that can leave answers ``Exiting`` and exits.
    """


class CreateActor(_Msg):
    """Register and start an actor. Answered by ``ActorReply`` (immediately, before it is placed)."""

    request: int
    spec: ActorSpec


class ActorReady(_Msg):
    """From an actor's worker: ``__init__`` is done, calls are accepted."""

    actor_id: bytes


class ActorInitFailed(_Msg):
    """From an actor's worker: ``__init__`` raised; no restart follows."""

    actor_id: bytes
    error: bytes


class WatchActor(_Msg):
    """Send ``ActorUpdate`` now and at each change of state, until ``UnwatchActor``."""

    actor_id: bytes


class UnwatchActor(_Msg):
    actor_id: bytes


class ActorOutOfScope(_Msg):
    """From the owner: no handle is left; end the actor after the calls it already has."""

    actor_id: bytes


class KillActor(_Msg):
    actor_id: bytes
    no_restart: bool = True


class GetNamedActor(_Msg):
    """Answered by ``ActorReply``."""

    request: int
    name: str
    namespace: str


class ListNamedActors(_Msg):
    """Answered by ``NamesReply``."""

    request: int
    namespace: str
    all_namespaces: bool


class KillWorker(_Msg):
    """Forced cancel: end the process of a worker that the sender holds a lease on."""

    address: bytes
    reason: str


class ExtentRequest(_Msg):
    """Lend the sender at least ``nbytes`` contiguous bytes of the arena. Answered by ``ExtentReply``.

    May take long: the daemon spills objects to make room. ``preferred`` bytes are lent if that needs no spilling.
    ``hasty``: the sender can do without, by writing a file, so there is no point in waiting for others to drop objects.
    """

    request: int
    nbytes: int
    preferred: int = 0
    hasty: bool = False


class ExtentReturn(_Msg):
    """The sender gives ranges of the arena back: pairs of (offset, size)."""

    ranges: list[tuple[int, int]]


class Sealed(_Msg):
    """Objects the sender wrote into its extents: (object id, offset, size)."""

    objects: list[tuple[bytes, int, int]]


class SealedFile(_Msg):
    """An object that the arena has no room for, written by the sender straight into a spill file it was given."""

    object_id: bytes
    path: str
    size: int


class SpillFileRequest(_Msg):
    """Ask for the path of a new spill file of ``size`` bytes. Answered by ``SpillFileReply``."""

    request: int
    object_id: bytes
    size: int


class Freed(_Msg):
    """From the owner: these objects are out of scope; their space is free once no process pins them."""

    objects: list[bytes]


class Pin(_Msg):
    """Where is the object? It stays there until ``Unpin``. Answered by ``PinReply``.

    An object not known yet is waited for (its ``Sealed`` may be under way), at most two seconds.
    """

    request: int
    object_id: bytes


class Unpin(_Msg):
    objects: list[bytes]


class EvictReply(_Msg):
    """Answer to ``Evict``: which of the objects nothing in the sender looks at (their cached places are forgotten)."""

    request: int
    idle: list[bytes]


class CreatePlacementGroup(_Msg):
    """Answered by ``PlacementGroupReply``; ``PlacementGroupUpdate`` follows once it is placed."""

    request: int
    placement_group_id: bytes
    name: str
    strategy: str
    bundles: list[Bundle]
    detached: bool = False


class RemovePlacementGroup(_Msg):
    placement_group_id: bytes


class GetPlacementGroup(_Msg):
    """By id or by name. Answered by ``PlacementGroupReply``."""

    request: int
    placement_group_id: bytes = b""
    name: str = ""


class KeyGet(_Msg):
    """The value of a key of the control store. Answered by ``KeyReply``."""

    request: int
    key: str


class KeyPut(_Msg):
    """Keep a value under a key, if its version is ``expected`` (0: there is none; None: any). See ``KeyReply``."""

    request: int
    key: str
    value: bytes
    expected: int | None = None


class KeyDelete(_Msg):
    """Forget a key, if its version is ``expected`` (None: any). Answered by ``KeyReply``."""

    request: int
    key: str
    expected: int | None = None


class KeyList(_Msg):
    """The keys with a prefix. Answered by ``KeyNames``."""

    request: int
    prefix: str


class KeyWatch(_Msg):
    """Watcher ``watch`` of the sender has taken in all changes up to ``after`` (0: none, -1: all so far).

    Answered by ``KeyChanges`` as soon as there are later ones. The next ``KeyWatch`` of that number asks for more.
    """

    request: int
    watch: int
    prefix: str
    after: int


class KeyUnwatch(_Msg):
    watch: int


class KeyTaken(_Msg):
    """Answered by ``KeyReply`` once all watchers of a key have taken in its change of that version."""

    request: int
    key: str
    version: int


class Query(_Msg):
    """Ask for state, for people and for the API.

    One of "nodes", "cluster_resources", "available_resources", "placement_groups",
    "actors", "workers", "objects", "tasks", "session". Answered by ``QueryReply``.
    """

    request: int
    what: str


class Report(_Msg):
    """Answer to ``Inquiry``: the tasks that the sender submitted, and those it runs."""

    number: int
    tasks: list[TaskRow] = []
    #: pairs of (task id, since when: Unix time in milliseconds)
    running: list[tuple[bytes, int]] = []


class Stall(_Msg):
    """The sender has waited long in ``get``.

    The daemon sends a ``Notice`` if it knows why (infeasible resources, actors waiting for each other), and in any case
    ``StallReply``, which shows that it lives.
    """

    waiting_for: str
    #: address of the process the sender waits for, if it is an actor call
    on: bytes = b""
    request: int = 0


class Goodbye(_Msg):
    """A driver's orderly ``shutdown``: end everything of this session."""


ToNode = (
    Hello
    | LeaseDemand
    | ReturnLease
    | Blocked
    | Unblocked
    | Exiting
    | ExitDeclined
    | CreateActor
    | ActorReady
    | ActorInitFailed
    | WatchActor
    | UnwatchActor
    | ActorOutOfScope
    | KillActor
    | GetNamedActor
    | ListNamedActors
    | KillWorker
    | ExtentRequest
    | ExtentReturn
    | Sealed
    | SealedFile
    | SpillFileRequest
    | Freed
    | Pin
    | Unpin
    | EvictReply
    | CreatePlacementGroup
    | RemovePlacementGroup
    | GetPlacementGroup
    | KeyGet
    | KeyPut
    | KeyDelete
    | KeyList
    | KeyWatch
    | KeyUnwatch
    | KeyTaken
    | Query
    | Report
    | Stall
    | Goodbye
)
