"""Records that several messages share."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.specs import LeaseSpec, Resources


class DeathCause(Struct, array_like=True, frozen=True):
    """Why a process is gone.

    ``kind``: "exit" (``code`` is the exit code), "signal" (``code`` is the signal number), "oom" (ended by the memory
    monitor), "killed" (ended on request: ``kill``, forced cancel), "intended" (it said it would leave),
    "disconnected" (its connection broke, the process status is unknown), "node" (the daemon itself is gone),
    "start" (the process never came up). Actors that never got a process: "unschedulable", "placement_group_removed",
    "runtime_env", "start" (as in ``LeaseRefused``).
    """

    kind: str
    code: int = 0
    #: one line for people: what happened
    detail: str = ""
    #: last lines the process wrote to stderr
    stderr_tail: str = ""
    pid: int = 0


class ActorSpec(Struct, array_like=True):
    """All that is needed to start, and to start again, one actor."""

    actor_id: bytes
    #: the creation object (see ``ids.creation_object``)
    creation_object: bytes
    owner: bytes
    class_name: str
    #: the pickled class; opaque to the daemon
    class_blob: bytes
    #: encoded ``peer.Push``-style arguments for ``__init__``; opaque to the daemon
    init_blob: bytes
    #: needed to *place* the actor and, of those, what it holds for life
    placement: LeaseSpec
    held: Resources = ()
    name: str = ""
    namespace: str = ""
    detached: bool = False
    get_if_exists: bool = False
    max_restarts: int = 0
    #: msgpack map of the executor options (max_concurrency, concurrency_groups, ...); opaque to the daemon
    executor: bytes = b""
    #: for handles made by ``get_actor``: the method table of the class (names, defaults), and how callers treat the
    #: actor (order, retries); opaque to the daemon
    methods: bytes = b""
    calling: bytes = b""


class ActorInfo(Struct, array_like=True):
    """The public state of one actor, as the control store tells it."""

    actor_id: bytes
    #: "PENDING_CREATION", "ALIVE", "RESTARTING" or "DEAD" (Ray's words)
    state: str
    #: address of the worker process while ALIVE, else empty
    address: bytes = b""
    pid: int = 0
    #: how often it was restarted so far
    restarts: int = 0
    class_name: str = ""
    name: str = ""
    namespace: str = ""
    detached: bool = False
    creation_object: bytes = b""
    #: as in ``ActorSpec``; empty when DEAD
    methods: bytes = b""
    calling: bytes = b""
    #: when DEAD or RESTARTING: why
    cause: DeathCause | None = None
    #: pickled exception raised by ``__init__``, opaque to the daemon
    init_error: bytes = b""


class Bundle(Struct, array_like=True, frozen=True):
    """One bundle of a placement group."""

    resources: Resources


class PlacementGroupInfo(Struct, array_like=True):
    """The public state of a placement group."""

    placement_group_id: bytes
    name: str
    strategy: str
    bundles: list[Bundle]
    #: "PENDING", "CREATED", "REMOVED" or "INFEASIBLE"
    state: str
    detached: bool = False


class KeyChange(Struct, array_like=True, frozen=True):
    """A key of the control store as its last change left it."""

    key: str
    #: None: it was deleted
    value: bytes | None
    version: int


class TaskRow(Struct, array_like=True):
    """One attempt at a task or call, as its submitter knows it; the fields are Ray's."""

    task_id: str
    attempt_number: int
    name: str
    state: str
    job_id: str
    type: str
    func_or_class_name: str
    actor_id: str | None = None
    parent_task_id: str | None = None
    node_id: str | None = None
    worker_id: str | None = None
    worker_pid: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    start_time_ms: int | None = None
    end_time_ms: int | None = None
    required_resources: dict[str, float] | None = None


#: A line of a worker's output that begins so is no output: the rest is the name of the task whose lines follow.
PRINTED_BY = "\x1e\x1eskate:"


class LogLine(Struct, array_like=True):
    """One line a worker printed."""

    pid: int
    #: name of the actor class or task that printed it, "" if unknown
    name: str
    #: 1 for stdout, 2 for stderr
    stream: int
    text: str


Json = dict[str, Any]
