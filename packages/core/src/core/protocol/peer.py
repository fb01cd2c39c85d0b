"""What drivers and workers accept from each other, over ``<address>.sock``.

A *caller* pushes tasks or actor calls to an *executor* and gets results back; a *borrower* asks an *owner* for values
and keeps it informed of its interest. Any two processes use at most one connection in each direction of dialling, and
each sends all its messages to the other over the same one, so messages between two processes arrive in order.

Values (:class:`Value`) are opaque bytes here (see :mod:`core.serialization`).
"""

from __future__ import annotations

from msgspec import Struct


class PeerHello(Struct, array_like=True, tag=0):
    """First message of a connection, from the one who dialled."""

    version: str
    address: bytes
    pid: int


class Value(Struct, array_like=True, gc=False):
    """One value: ``kind`` "i" (inline: ``data`` holds it), "s" (in the shared-memory store) or "e" (an error blob).

    ``contained`` names the references pickled inside the value.
    """

    kind: str
    data: bytes = b""
    size: int = 0
    contained: tuple[bytes, ...] = ()


class Dependency(Struct, array_like=True, gc=False):
    """A top-level reference argument, resolved: goes to position ``index``, or to keyword ``name``."""

    object_id: bytes
    value: Value
    index: int = -1
    name: str = ""


class DefineFunction(Struct, array_like=True, tag=1):
    """Names a function for later pushes on this connection; ``digest`` lets workers share one unpickled copy."""

    number: int
    digest: bytes
    name: str
    blob: bytes
    max_calls: int = 0


class Extra(Struct, array_like=True, gc=False):
    """What most tasks and calls do not need.

    ``returns``: number of return objects; -1 streams (generator), -2 is one object holding a list of references.
    ``args_stored``: the args blob is in the store, under ``ids.arguments_object(task)``.
    """

    returns: int = 1
    attempt: int = 0
    name: str = ""
    dependencies: tuple[Dependency, ...] = ()
    args_stored: bool = False
    backpressure: int = 0
    gpu_ids: tuple[int, ...] = ()
    #: concurrency group, for calls
    group: str = ""
    #: placement group of the task, and whether its children use it too
    placement_group: bytes = b""
    capture_child_tasks: bool = False
    resources: tuple[tuple[str, int], ...] = ()


class Push(Struct, array_like=True, tag=2, gc=False):
    """Run a task. ``args``: pickled positional tuple, or list [tuple, dict]; empty for no arguments."""

    task: bytes
    function: int
    args: bytes
    depth: int = 1
    extra: Extra | None = None


class Call(Struct, array_like=True, tag=3, gc=False):
    """Call a method of the actor that lives in the receiving worker."""

    task: bytes
    method: str
    args: bytes
    extra: Extra | None = None


class Result(Struct, array_like=True, tag=4, gc=False):
    """A task or call with one small return value is done: the common case. ``micros``: how long user code ran."""

    task: bytes
    data: bytes
    micros: int = 0


class Results(Struct, array_like=True, tag=5, gc=False):
    """A task or call is done: any other case. For streams, ``values`` is empty and ``items`` counts the items.

    ``failed``: the task as a whole failed; ``values`` holds one error. ``retry``: the failure may be retried as the
    caller's options say (an exception of user code; cancelled tasks say no). ``exiting``: the worker leaves.
    """

    task: bytes
    values: tuple[Value, ...] = ()
    micros: int = 0
    failed: bool = False
    retry: bool = False
    items: int = -1
    exiting: bool = False


class Item(Struct, array_like=True, tag=6, gc=False):
    """One more value of a streaming generator."""

    task: bytes
    index: int
    value: Value


class Consumed(Struct, array_like=True, tag=7):
    """To the producer of a stream: the consumer has taken ``count`` items; -1: it takes no more."""

    task: bytes
    count: int


class Steal(Struct, array_like=True, tag=8):
    """Hand back what has not started. Answered by ``Returned``."""


class Returned(Struct, array_like=True, tag=9):
    """These tasks were not started here and will not be. ``blocked``: the worker's task waits in ``get``."""

    tasks: list[bytes]
    blocked: bool = False


class Resumed(Struct, array_like=True, tag=10):
    """The worker's task no longer waits; its lease may be used again."""


class Cancel(Struct, array_like=True, tag=11):
    """Cancel a task: forget it if queued, interrupt it if running; ``recursive``: its children too."""

    task: bytes
    recursive: bool = True


class Fetch(Struct, array_like=True, tag=12):
    """To the owner: send the object's value as soon as there is one. ``lost``: the sender found its copy gone."""

    object_id: bytes
    lost: bool = False


class Fetched(Struct, array_like=True, tag=13):
    """Answer to ``Fetch``."""

    object_id: bytes
    value: Value


class Borrow(Struct, array_like=True, tag=14):
    """To the owner: the sender holds references to these objects. Answered by ``Borrowed``."""

    number: int
    objects: list[bytes]


class Borrowed(Struct, array_like=True, tag=15):
    """Answer to ``Borrow``; ``unknown`` are no longer (or never were) owned here.

    ``stored`` are those that are in the store already, with their sizes: for them no ``Fetch`` is needed.
    """

    number: int
    unknown: list[bytes]
    stored: list[tuple[bytes, int]] = []


class Release(Struct, array_like=True, tag=16):
    """To the owner: the sender holds no reference to these objects any more."""

    objects: list[bytes]


class ContainedTaken(Struct, array_like=True, tag=17):
    """To the executor: the caller has registered what the task's results contain; the executor's pins may go."""

    task: bytes


FromPeer = (
    PeerHello
    | DefineFunction
    | Push
    | Call
    | Result
    | Results
    | Item
    | Consumed
    | Steal
    | Returned
    | Resumed
    | Cancel
    | Fetch
    | Fetched
    | Borrow
    | Borrowed
    | Release
    | ContainedTaken
)
