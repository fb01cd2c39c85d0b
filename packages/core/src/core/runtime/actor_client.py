"""What a caller keeps of one actor, and the records its worker gets."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from core.descriptors import ClassDescriptor
from core.options import ActorOptions
from core.protocol.records import DeathCause
from core.refs import MethodInfo
from core.runtime.connection import Connection
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


class InitArguments(Struct, array_like=True):
    """Arguments of ``__init__`` as the actor's worker gets them."""

    task: bytes
    args: bytes
    dependencies: list[tuple[bytes, int, str]]
    stored: bool = False


class ExecutorOptions(Struct, array_like=True):
    """How an actor's worker runs its methods."""

    max_concurrency: int = 0
    concurrency_groups: list[tuple[str, int]] = []
    is_async: bool = False


class CallingOptions(Struct, array_like=True, frozen=True):
    """How callers treat an actor. Travels with its record and its handles, so that all handles do the same."""

    #: calls of one caller run in the order of submission
    ordered: bool = True
    #: what methods do that do not say otherwise
    max_task_retries: int = 0


class ExportedClass(Struct, eq=False):
    """An actor class as this session knows it."""

    session: object
    blob: bytes
    methods: bytes = b""


class ActorClient:
    """What this process knows of one actor, and its calls that are not finished."""

    __slots__ = (
        "actor_id",
        "calling",
        "cause",
        "class_name",
        "connection",
        "creation",
        "init",
        "init_error",
        "killed",
        "methods",
        "methods_blob",
        "orphans",
        "out_of_scope",
        "queue",
        "restarts",
        "session",
        "state",
        "unfinished",
    )

    def __init__(
        self,
        session: Runtime,
        actor_id: bytes,
        class_name: str,
        creation: bytes,
        methods: dict[str, MethodInfo],
        calling: CallingOptions,
    ) -> None:
        self.session = session
        self.actor_id = actor_id
        self.class_name = class_name
        #: id of the creation object, whose count is the number of handles
        self.creation = creation
        self.methods = methods
        self.methods_blob = b""
        self.calling = calling
        self.state = "PENDING_CREATION"
        self.connection: Connection | None = None
        #: calls not sent yet, in order
        self.queue: deque[Task] = deque()
        #: calls that were in flight when the connection ended; decided when the node tells what became of the actor
        self.orphans: list[Task] = []
        self.unfinished = 0
        self.cause: DeathCause | None = None
        self.init_error = b""
        self.restarts = 0
        #: this process asked for its end
        self.killed = False
        #: the creator's record of ``__init__``'s arguments, kept alive for restarts
        self.init: Task | None = None
        #: the last handle went while calls were unfinished
        self.out_of_scope = False


def is_ordered(cls: ClassDescriptor, options: ActorOptions) -> bool:
    """Tell whether calls of one caller run in the order of submission (Ray's rule)."""
    if options.out_of_order is not None:
        return not options.out_of_order
    return not (cls.is_async or options.max_concurrency > 1 or options.concurrency_groups)
