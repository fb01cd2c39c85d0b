"""Handles to remote things: object references, generators of them, and actors.

An :class:`ObjectRef` is 24 bytes, not tracked by the cyclic collector, and compares and hashes by its id in C: programs
hold a million of them. Counting works by instance: the engine counts one when it makes an instance (``__del__``
takes it back), so *only* the engine and unpickling construct references.

``ObjectRef.__del__`` may run in any thread and inside the collector; it only appends the id to :data:`dropped`, which
the engine drains at its next step. What a signal handler or a cancellation raises in a finaliser is lost, and so is
what the finaliser had to do: the ones here never come to a point where the interpreter looks for such requests.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from opcode import opmap
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from msgspec import Struct

from core import current, ids
from core.exceptions import ActorHandleNotFoundError, GetTimeoutError

if TYPE_CHECKING:
    import asyncio

    from core.engine.base import Engine
    from core.options import MethodOptions
    from core.signature import CallSignature

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Ids of references that died, oldest first; drained by the engine.
dropped: deque[bytes] = deque()
#: Tasks whose generators died, likewise.
dropped_generators: deque[bytes] = deque()


def _uninterrupted(finaliser: Callable[..., None]) -> Callable[..., None]:
    """Take from a function the look for requests at its start. Without calls and loops it has no other.

    That look is part of the first instruction, and is left out where a coroutine goes on after ``yield from``: the
    instruction's argument (2) says so. From Python 3.13 on this is where most interrupts would be raised: a thread that
    was stopped at one look finds what was asked for meanwhile at the next one.
    """
    code = finaliser.__code__
    if code.co_code[0] == opmap.get("RESUME"):
        finaliser.__code__ = code.replace(co_code=bytes((code.co_code[0], 2)) + code.co_code[2:])
    return finaliser


class _Identifier(bytes):
    """An id as users see it: bytes, which have ``hex()`` already."""

    def binary(self) -> bytes:
        """Return the id as plain bytes."""
        return bytes(self)

    def is_nil(self) -> bool:
        """Tell whether this is the id of nothing."""
        return all(byte == 255 for byte in self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"


class TaskID(_Identifier):
    """The id of a task, 24 bytes."""


class JobID(_Identifier):
    """The id of a job, 4 bytes."""


class ObjectRef(Struct, Generic[T_co], frozen=True, gc=False):
    """A reference to a value that exists or will exist somewhere in the session (``ray.ObjectRef``).

    Made by ``.remote()`` and ``put``; turned into the value by ``core.get``. Awaitable; picklable; hashable.
    """

    #: the object id, 28 bytes
    id: bytes

    @_uninterrupted
    def __del__(self, _dropped: Any = dropped) -> None:
        _dropped += (self.id,)  # not append(): after a call the interpreter looks

    def binary(self) -> bytes:
        """Return the object id (28 bytes)."""
        return self.id

    def hex(self) -> str:
        """Return the object id as 56 hexadecimal digits."""
        return self.id.hex()

    def is_nil(self) -> bool:
        """Tell whether this is the nil reference."""
        return self.id == NIL_ID

    def task_id(self) -> TaskID:
        """Return the id of the task that makes the object."""
        return TaskID(ids.task_of(self.id))

    def job_id(self) -> JobID:
        """Return the id of the job that made the reference."""
        return JobID(self.id[20:24])

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """Return the nil reference, which never has a value."""
        return ObjectRef(NIL_ID)

    def future(self) -> concurrent.futures.Future[T_co]:
        """Return a ``concurrent.futures.Future`` that completes when the object does."""
        future: concurrent.futures.Future[T_co] = current.running("ObjectRef.future()").future(self)
        return future

    def as_future(self) -> asyncio.Future[T_co]:
        """Return an ``asyncio.Future`` of the running loop that completes when the object does."""
        import asyncio  # noqa: PLC0415 - costs `import core` a third of its time, and few programs need it

        return asyncio.wrap_future(self.future())

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.as_future().__await__()

    def __repr__(self) -> str:
        return f"ObjectRef({self.id.hex()})"

    def __copy__(self) -> ObjectRef[T_co]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ObjectRef[T_co]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        current.running("Pickling an ObjectRef").note_serialized(self)
        return (_restore_ref, (self.id,))


NIL_ID = b"\xff" * ids.OBJECT_ID_BYTES


def _restore_ref(identifier: bytes) -> ObjectRef[Any]:
    """Unpickle a reference: the engine counts it (and tells its owner if that is another process)."""
    return current.running("Unpickling an ObjectRef").adopt_ref(identifier)


class ObjectRefGenerator(Generic[T_co]):
    """The references a streaming generator task yields, in order, as they come (``ray.ObjectRefGenerator``).

    Iterating gives one :class:`ObjectRef` per yielded value. If the generator function raises, one last reference
    raises that error, then the iteration ends. Not picklable.
    """

    __slots__ = ("__weakref__", "_completed", "_finished", "_next", "_peeked", "_task")

    def __init__(self, task: bytes, completed: ObjectRef[Any]) -> None:
        self._task = task
        #: a reference that is ready when the generator has ended
        self._completed = completed
        self._next = 0
        self._finished = False
        #: the next item, asked for and not yet taken
        self._peeked: concurrent.futures.Future[ObjectRef[Any] | None] | None = None

    @property
    def task(self) -> bytes:
        """The id of the generator task (24 bytes)."""
        return self._task

    @property
    def id(self) -> bytes:
        """The id of the object that the next item will be (28 bytes)."""
        return ids.object_id(self._task, self._next + 1)

    @property
    def position(self) -> int:
        """How many items were taken."""
        return self._next

    def __iter__(self) -> Iterator[ObjectRef[T_co]]:
        return self

    def __next__(self) -> ObjectRef[T_co]:
        return self._next_within(None)

    def _next_within(self, timeout: float | None) -> ObjectRef[T_co]:
        """Return the next reference; raises GetTimeoutError when none comes within ``timeout`` seconds."""
        if self._finished:
            raise StopIteration
        engine = current.running("Iterating an ObjectRefGenerator")
        peeked = self._peeked is not None and not self._peeked.cancelled()
        ref = self._take_peeked(timeout) if peeked else engine.next_item(self._task, self._next, timeout)
        if ref is None:
            self._finished = True
            raise StopIteration
        self._next += 1
        return ref

    def peek(self) -> concurrent.futures.Future[ObjectRef[Any] | None]:
        """Return a future of the next item (None at the end) without taking it."""
        if self._peeked is None or self._peeked.cancelled():
            if self._finished:
                self._peeked = concurrent.futures.Future()
                self._peeked.set_result(None)
            else:
                engine = current.running("Waiting for an ObjectRefGenerator")
                self._peeked = engine.next_item_future(self._task, self._next)
        return self._peeked

    def _take_peeked(self, timeout: float | None) -> ObjectRef[Any] | None:
        try:
            ref = self.peek().result(timeout)
        except concurrent.futures.TimeoutError:
            raise GetTimeoutError(f"the generator yielded nothing within {timeout} s") from None
        self._peeked = None
        return ref

    def __aiter__(self) -> AsyncIterator[ObjectRef[T_co]]:
        return self

    async def __anext__(self) -> ObjectRef[T_co]:
        import asyncio  # noqa: PLC0415 - as in ObjectRef.as_future

        if self._finished:
            raise StopAsyncIteration
        ref: ObjectRef[T_co] | None = await asyncio.wrap_future(self.peek())
        self._peeked = None
        if ref is None:
            self._finished = True
            raise StopAsyncIteration
        self._next += 1
        return ref

    def completed(self) -> ObjectRef[Any]:
        """Return a reference that becomes ready when the generator ends."""
        return self._completed

    def next_ready(self) -> bool:
        """Tell whether the next reference could be had without waiting."""
        if self._finished:
            return False
        return current.running("ObjectRefGenerator.next_ready()").item_ready(self._task, self._next)

    def is_finished(self) -> bool:
        """Tell whether the iteration has ended."""
        return self._finished

    @_uninterrupted
    def __del__(self, _dropped: Any = dropped_generators) -> None:
        _dropped += (self._task,)

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._task.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRefGenerator cannot be pickled: iterate it where it was made and pass the references it gives"
        )


class MethodInfo(Struct, frozen=True):
    """What a handle knows of one method of an actor class."""

    name: str
    options: MethodOptions
    signature: CallSignature | None = None
    is_generator: bool = False
    is_async: bool = False


class ActorToken(Struct, eq=False):
    """What all handles and bound methods of one actor in this process share.

    ``ref`` is the counted reference that keeps the actor alive (None in a weak handle, from ``get_actor``).
    """

    actor_id: bytes
    class_name: str
    methods: dict[str, MethodInfo]
    #: the engine's own state for this actor; opaque here
    client: Any
    ref: ObjectRef[Any] | None = None
    name: str = ""
    namespace: str = ""
    max_pending_calls: int = -1
    is_async: bool = False


class ActorMethod:
    """A method of a remote actor: ``handle.method.remote(...)``."""

    __slots__ = ("_info", "_token")

    def __init__(self, token: ActorToken, info: MethodInfo) -> None:
        self._token = token
        self._info = info

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method on the actor; return an ``ObjectRef`` of the result at once.

        Raises:
            TypeError: the arguments do not fit the method's signature, or cannot be pickled.
            PendingCallsLimitExceeded: the actor's ``max_pending_calls`` is reached.
        """
        info = self._info
        engine = current.engine
        if engine is None:
            engine = current.running(f"Calling {self._token.class_name}.{info.name}")
        if info.signature is not None:
            info.signature.check(args, kwargs)
        return engine.call_actor(self._token, info, args, kwargs)

    def options(self, **options: Any) -> ActorMethod:
        """Return the same method with other options for this call (``num_returns``, ``concurrency_group``, ...)."""
        info = self._info
        changed = MethodInfo(info.name, info.options.updated(options), info.signature, info.is_generator, info.is_async)
        return ActorMethod(self._token, changed)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse a direct call."""
        name = self._info.name
        raise TypeError(f"actor methods cannot be called directly: use .{name}.remote() instead of .{name}()")

    def __repr__(self) -> str:
        return f"ActorMethod({self._token.class_name}.{self._info.name})"


class ActorHandle(Generic[T]):
    """A handle to a remote actor. Attributes are the actor's methods; handles can be passed and pickled.

    The actor ends when the last handle to it is gone, unless it is detached.
    """

    _token: ActorToken

    def __init__(self, token: ActorToken) -> None:
        self.__dict__["_token"] = token

    def __getattr__(self, name: str) -> ActorMethod:
        token: ActorToken = self.__dict__["_token"]
        info = token.methods.get(name)
        if info is None:
            raise AttributeError(_no_such_method(token, name))
        method = ActorMethod(token, info)
        # Cached: a bound method holds the token, not the handle, so this makes no cycle.
        self.__dict__[name] = method
        return method

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._token.methods]

    @property
    def _actor_id(self) -> _Identifier:
        return _Identifier(self._token.actor_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._token.actor_id == self._token.actor_id

    def __hash__(self) -> int:
        return hash(self._token.actor_id)

    def __repr__(self) -> str:
        return f"ActorHandle({self._token.class_name}, {self._token.actor_id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore_handle, current.running("Pickling an actor handle").reduce_handle(self._token))

    def __copy__(self) -> ActorHandle[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ActorHandle[T]:
        return self


def _restore_handle(*state: Any) -> ActorHandle[Any]:
    return ActorHandle(current.running("Unpickling an actor handle").restore_token(*state))


def engine_for_call(what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Engine:
    """Return the engine for a call made while none runs: a new one, unless an argument is of a session that is over.

    Raises:
        RaySystemError: there is such an argument, or no engine may be started.
    """
    if any(isinstance(arg, ObjectRef | ObjectRefGenerator | ActorHandle) for arg in (*args, *kwargs.values())):
        return current.running(f"Calling {what} with a reference")
    return current.require()


def _no_such_method(token: ActorToken, name: str) -> str:
    message = f"actor class {token.class_name!r} has no method {name!r}"
    # Whether a class has a special or private attribute is asked by copy, pickle, inspect, debuggers: quick answers.
    if name.startswith("_"):
        return message
    methods = ", ".join(known for known in token.methods if not known.startswith("_"))
    return f"{message}; it has: {methods or 'none'}. (Attributes of an actor are read through methods.)"


def token_of(handle: object) -> ActorToken:
    """Return the token of an actor handle.

    Raises:
        ValueError: ``handle`` is no actor handle.
        ActorHandleNotFoundError: the handle belongs to a session that is over.
    """
    if not isinstance(handle, ActorHandle):
        hint = "; get_actor(name) gives the handle of a named actor" if isinstance(handle, str) else ""
        raise ValueError(f"expected an actor handle, got {type(handle).__name__}: {handle!r}{hint}")  # noqa: TRY004
    token: ActorToken = handle.__dict__["_token"]
    if current.engine is None:
        raise ActorHandleNotFoundError(
            f"actor {token.class_name} ({token.actor_id.hex()}) belongs to a session that is over"
        )
    return token
