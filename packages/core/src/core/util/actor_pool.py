"""A fixed set of actors that take turns at a stream of calls (``ray.util.ActorPool``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import core
from core.exceptions import ActorDiedError
from core.refs import ActorHandle, ObjectRef, ObjectRefGenerator

V = TypeVar("V")
#: What the user's function returns: one reference, or a list of them from a call with several returns.
Refs = ObjectRef[Any] | list[ObjectRef[Any]]


@dataclass(eq=False, slots=True)
class _Call:
    """A call that an actor works on."""

    index: int
    actor: Any
    refs: Refs

    def all_refs(self) -> list[ObjectRef[Any]]:
        return self.refs if isinstance(self.refs, list) else [self.refs]


class ActorPool:
    """Runs calls on whichever of its actors is free, at most one call per actor.

    Submission is lazy: a call submitted while all actors are busy starts when a result is *taken* from the pool
    (``get_next`` and friends, or iterating a ``map``), because that is when an actor becomes free again.

    Not thread-safe. An actor that died leaves the pool; its call raises ``ActorDiedError``.

    Args:
        actors: handles of the actors, which should all do the same job.

    Example::

        pool = ActorPool([Model.remote() for _ in range(4)])
        list(pool.map(lambda actor, x: actor.predict.remote(x), inputs))
    """

    def __init__(self, actors: Sequence[Any]) -> None:
        self._idle: list[Any] = [_checked(actor) for actor in actors]
        #: running calls by index, in order of submission
        self._running: dict[int, _Call] = {}
        #: calls that wait for an actor
        self._pending: deque[tuple[Callable[[Any, Any], Refs], Any]] = deque()
        self._next_index = 0
        #: index of the result ``get_next`` gives next
        self._next_return = 0

    def map(self, fn: Callable[[Any, V], Refs], values: Iterable[V]) -> Iterator[Any]:
        """Apply ``fn(actor, value)`` to every value; give the results in the order of the values.

        Results of earlier submissions that nobody took are dropped. The calls go on only while the result is iterated.

        Args:
            fn: calls a method of the actor and returns its reference.
            values: what to apply it to; read at once.
        """
        self._start_map(fn, values)
        return self._results(self.get_next)

    def map_unordered(self, fn: Callable[[Any, V], Refs], values: Iterable[V]) -> Iterator[Any]:
        """Like :meth:`map`, but give each result as soon as it is there."""
        self._start_map(fn, values)
        return self._results(self.get_next_unordered)

    def submit(self, fn: Callable[[Any, V], Refs], value: V) -> None:
        """Run ``fn(actor, value)`` on a free actor, now or as soon as one is free again (see the class)."""
        if not self._idle:
            self._pending.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            refs = fn(actor, value)
            _check_refs(refs)
        except BaseException:
            self._idle.append(actor)  # it has nothing to do
            raise
        self._running[self._next_index] = _Call(self._next_index, actor, refs)
        self._next_index += 1

    def has_next(self) -> bool:
        """Tell whether a result is still to come."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission; raise what the call raised.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.
            ignore_if_timedout: after a timeout, forget this call: its actor counts as free, the next ``get_next``
                returns the result after it.

        Raises:
            StopIteration: no result is to come.
            TimeoutError: none came in time.
            ValueError: ``get_next_unordered`` was used on later results, so that there is no order to keep.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        call = self._running.get(self._next_return)
        if call is None:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        if timeout is not None and not self._wait([call], timeout):
            return self._time_out(call, ignore_if_timedout)
        return self._take(call)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return any result that is there, the first to come if none is; raise what the call raised.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.
            ignore_if_timedout: after a timeout, forget the oldest call: its actor counts as free.

        Raises:
            StopIteration: no result is to come.
            TimeoutError: none came in time.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        call = self._wait(list(self._running.values()), timeout)
        if call is None:
            return self._time_out(next(iter(self._running.values())), ignore_if_timedout)
        return self._take(call)

    def has_free(self) -> bool:
        """Tell whether an actor is free and no call waits for one."""
        return bool(self._idle) and not self._pending

    def pop_idle(self) -> Any | None:
        """Take a free actor out of the pool and return it; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor; it takes a waiting call at once.

        Raises:
            ValueError: the actor is in the pool already.
            TypeError: it is no actor handle.
        """
        _checked(actor)
        if actor in self._idle or any(call.actor == actor for call in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._release(actor)

    def _start_map(self, fn: Callable[[Any, V], Refs], values: Iterable[V]) -> None:
        self._discard_results()
        if not self._idle:
            raise ValueError("the pool has no actor (any more) that could do the work; push() one")
        for value in values:
            self.submit(fn, value)

    def _results(self, get_next: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield get_next()

    def _discard_results(self) -> None:
        """Forget every call so far, waiting ones too; the actors finish what they run and count as free."""
        self._pending.clear()
        for call in list(self._running.values()):
            self._forget(call)
            self._release(call.actor)

    def _wait(self, calls: list[_Call], timeout: float | None) -> _Call | None:
        """Wait for one of the calls to end; return it, or None after ``timeout`` seconds."""
        # The returns of one call come together, so its first reference stands for all of them.
        by_ref = {call.all_refs()[0]: call for call in calls}
        ready, _ = core.wait(list(by_ref), num_returns=1, timeout=timeout)
        return by_ref[ready[0]] if ready else None

    def _time_out(self, call: _Call, ignore: bool) -> Any:
        if not ignore:
            raise TimeoutError("Timed out waiting for result")
        self._forget(call)
        self._release(call.actor)
        raise TimeoutError(f"Timed out waiting for result. The task {call.refs} has been ignored.")

    def _take(self, call: _Call) -> Any:
        self._forget(call)
        alive = True
        try:
            return core.get(call.refs)
        except ActorDiedError:
            alive = False
            raise
        finally:
            if alive:
                self._release(call.actor)

    def _forget(self, call: _Call) -> None:
        del self._running[call.index]
        self._next_return = max(self._next_return, call.index + 1)

    def _release(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._pending:
            self.submit(*self._pending.popleft())


def _checked(actor: Any) -> Any:
    if not isinstance(actor, ActorHandle):
        raise TypeError(f"an ActorPool holds actor handles, got {type(actor).__name__}: {actor!r}")
    return actor


def _check_refs(refs: Any) -> None:
    if not isinstance(refs, ObjectRef | ObjectRefGenerator) and not (
        isinstance(refs, list) and refs and isinstance(refs[0], ObjectRef)
    ):
        raise TypeError(
            "the function given to an ActorPool must return the reference of a call, as in "
            f"lambda actor, value: actor.method.remote(value); got {type(refs).__name__}: {refs!r}"
        )
