"""Objects of the inline engine: pickled values, errors, reference counts."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from core import refs
from core.exceptions import GetTimeoutError
from core.refs import ObjectRef
from core.remote_errors import for_future, unpack_error
from core.serialization import dumps, loads


class StoredError(Struct):
    """A failed result: the error as other processes would see it, and the exception itself for its traceback."""

    blob: bytes
    original: BaseException | None = None

    def to_raise(self) -> Exception:
        """Return the exception that ``get`` raises; its traceback leads on into the task's frames."""
        error = unpack_error(self.blob)
        return error.with_traceback(self.original.__traceback__) if self.original is not None else error


class StoredValue(Struct):
    """A pickled value, and the references in it, which live as long as it does."""

    data: bytes
    contained: tuple[ObjectRef[Any], ...] = ()


Outcome = StoredValue | StoredError


class _Entry:
    __slots__ = ("callbacks", "cancel", "count", "from_actor", "outcome")

    def __init__(self, count: int, from_actor: bool) -> None:
        self.count = count
        self.from_actor = from_actor
        self.outcome: Outcome | None = None
        #: called once, without the lock, when the outcome is there
        self.callbacks: list[Callable[[Outcome], None]] = []
        #: cancels what makes the object, while that runs
        self.cancel: Callable[[], None] | None = None


class _Collecting(threading.local):
    found: list[ObjectRef[Any]] | None = None


class ObjectTable:
    """All objects of a session. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._entries: dict[bytes, _Entry] = {}
        self._collecting = _Collecting()
        #: references pickled by hand: nobody can tell when the pickle is gone
        self._pinned: list[ObjectRef[Any]] = []

    def create(self, identifier: bytes, *, from_actor: bool = False) -> ObjectRef[Any]:
        """Return the first reference to a new object that has no value yet."""
        with self._changed:
            self._entries[identifier] = _Entry(1, from_actor)
        return ObjectRef(identifier)

    def adopt(self, identifier: bytes) -> ObjectRef[Any]:
        """Return one more reference to an object.

        Raises:
            ValueError: there is no such object in this session.
        """
        with self._changed:
            self._entry(identifier).count += 1
        return ObjectRef(identifier)

    def drain(self) -> list[bytes]:
        """Take back the counts of references that died; return the ids of the objects that went with them."""
        freed: list[bytes] = []
        while refs.dropped:
            identifier = refs.dropped.popleft()
            with self._changed:
                entry = self._entries.get(identifier)
                if entry is None:
                    continue
                entry.count -= 1
                if entry.count == 0:
                    # The references inside die here and are drained by this very loop.
                    del self._entries[identifier]
                    freed.append(identifier)
            del entry
        return freed

    def serialize(self, value: Any) -> StoredValue:
        """Pickle a value, holding on to the references in it."""
        outer, self._collecting.found = self._collecting.found, []
        try:
            data = dumps(value)
            return StoredValue(data if isinstance(data, bytes) else data.join(), tuple(self._collecting.found))
        finally:
            self._collecting.found = outer

    def note_serialized(self, ref: ObjectRef[Any]) -> None:
        """Remember that a reference is being pickled."""
        found = self._collecting.found
        (self._pinned if found is None else found).append(ref)

    def settle(self, identifier: bytes, outcome: Outcome) -> None:
        """Give an object its value or error; does nothing if it has one or nobody refers to it any more."""
        with self._changed:
            entry = self._entries.get(identifier)
            if entry is None or entry.outcome is not None:
                return
            entry.outcome = outcome
            entry.cancel = None
            callbacks, entry.callbacks = entry.callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            callback(outcome)

    def when_settled(self, identifier: bytes, callback: Callable[[Outcome], None]) -> None:
        """Call back with the outcome: now, or in the thread that settles the object."""
        with self._changed:
            entry = self._entry(identifier)
            if entry.outcome is None:
                entry.callbacks.append(callback)
                return
            outcome = entry.outcome
        callback(outcome)

    def outcome(self, identifier: bytes, timeout: float | None = None) -> Outcome:
        """Wait for an object's outcome.

        Raises:
            GetTimeoutError: there is none in time.
            ValueError: there is no such object in this session.
        """
        with self._changed:
            entry = self._entry(identifier)
            if not self._changed.wait_for(lambda: entry.outcome is not None, timeout):
                raise GetTimeoutError(f"object {identifier.hex()} is not there after {timeout} s")
            assert entry.outcome is not None
            return entry.outcome

    def exists(self, identifier: bytes) -> bool:
        """Tell whether anybody refers to an object."""
        return identifier in self._entries

    def settled(self, identifier: bytes) -> bool:
        """Tell whether an object has its outcome."""
        return self._entry(identifier).outcome is not None

    def failed(self, identifier: bytes) -> bool:
        """Tell whether an object's outcome is an error."""
        return isinstance(self._entry(identifier).outcome, StoredError)

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until a condition on the table holds; return whether it does."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def on_cancel(self, identifier: bytes, cancel: Callable[[], None]) -> None:
        """Tell how to cancel what makes an object."""
        with self._changed:
            entry = self._entries.get(identifier)
            if entry is not None and entry.outcome is None:
                entry.cancel = cancel

    def canceller(self, identifier: bytes) -> tuple[bool, Callable[[], None] | None]:
        """Return whether an actor makes the object, and how to cancel that (None if it is done)."""
        entry = self._entry(identifier)
        return entry.from_actor, entry.cancel

    def _entry(self, identifier: bytes) -> _Entry:
        entry = self._entries.get(identifier)
        if entry is None:
            raise ValueError(f"the owner of object {identifier.hex()} is unknown: it is not of this session")
        return entry

    @contextmanager
    def nothing_collected(self) -> Iterator[None]:
        """Inside, references pickled by user code are not taken for parts of a value being stored."""
        outer, self._collecting.found = self._collecting.found, None
        try:
            yield
        finally:
            self._collecting.found = outer


def value_of(outcome: Outcome) -> Any:
    """Return the value of an outcome.

    Raises:
        Exception: the error that the outcome is.
    """
    if isinstance(outcome, StoredError):
        raise outcome.to_raise()
    return loads(outcome.data)


def resolve(future: concurrent.futures.Future[Any], outcome: Outcome) -> None:
    """Give a future an object's outcome, unless the future was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, StoredError):
        future.set_exception(for_future(outcome.to_raise()))
    else:
        future.set_result(loads(outcome.data))
