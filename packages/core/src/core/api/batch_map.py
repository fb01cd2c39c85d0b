"""``map``: a function over many items, for work too cheap to be a task each.

A task costs some tens of microseconds whatever it does; a hundred microseconds of work in each wastes much of the
machine. So items travel in batches, whose size follows the measured time per item until a batch takes
:data:`TARGET_SECONDS`. Enough batches are in flight to keep all workers busy; towards the end of a sequence of known
length they become smaller, so that all workers finish together.

Built on ``remote``, ``get`` and ``wait`` alone.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

from msgspec import Struct

from core import current
from core.api.actor_class import ActorClass
from core.api.calls import Holds
from core.api.operations import cancel, cluster_resources, get, wait
from core.api.remote_function import RemoteFunction
from core.options import TaskOptions
from core.refs import ActorMethod, ObjectRef
from core.remote_errors import pack_error, unpack_error
from core.specs import RESOURCE_UNIT

X = TypeVar("X")
R = TypeVar("R")

#: How long a batch should take: long against a task's cost, short against a user's patience.
TARGET_SECONDS = 0.03
#: A batch is at most that many times as large as the one it was measured on.
_GROWTH = 8
#: Batches per worker that are submitted and not finished: one runs, one waits.
_IN_FLIGHT = 2
#: Batches per worker that may be finished and not consumed yet, before submission waits for the consumer.
_AHEAD = 16


class _BatchResult(Struct, array_like=True):
    """What a batch returns. ``failure`` is the packed error of the item after the last of ``values``."""

    values: list[Any]
    seconds: float
    failure: bytes | None = None


def map(  # noqa: A001 - the builtin's name for the builtin's job
    fn: Callable[[X], R] | Holds[Callable[[X], R]],
    items: Iterable[X | ObjectRef[X]],
    *,
    batch: int | str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Iterator[R]:
    """Apply ``fn`` to every item in worker processes; yield the results in order, as they come.

    Items are drawn as they are needed, so ``items`` may be endless. References among them are replaced by their values.

    Args:
        fn: a function of one argument, plain or remote.
        items: what to apply it to.
        batch: items per task; ``"auto"`` finds the number that makes a task take about 30 ms.
        options: options of the tasks, as for ``.options()``, for example ``{"num_cpus": 2}``.

    Raises:
        ValueError, TypeError: ``batch`` or an option is bad.
        RayTaskError: ``fn`` raised; a note tells for which item. What had not started yet is cancelled.
    """
    return _Batches(fn, items, batch, options).in_order()


def map_unordered(
    fn: Callable[[X], R] | Holds[Callable[[X], R]],
    items: Iterable[X | ObjectRef[X]],
    *,
    batch: int | str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Iterator[R]:
    """Apply ``fn`` to every item, as :func:`map` does, but yield each batch's results as soon as it is done."""
    return _Batches(fn, items, batch, options).as_completed()


class _Batches:
    """One call of ``map``: what is submitted, what was measured."""

    def __init__(self, fn: Any, items: Iterable[Any], batch: int | str, options: Mapping[str, Any] | None) -> None:
        self._run, self._remote_options = _batch_runner(fn, options)
        self._items = iter(items)
        self._left = len(items) if isinstance(items, Sized) else None
        self._sizes = _sizes(batch)
        self._workers = 1
        self._submitted = 0
        #: unfinished batches, and the index of the first item and the size of each
        self._running: dict[ObjectRef[_BatchResult], tuple[int, int]] = {}

    def in_order(self) -> Iterator[Any]:
        order: deque[ObjectRef[_BatchResult]] = deque()
        done: dict[ObjectRef[_BatchResult], tuple[int, _BatchResult]] = {}
        self._count_workers()
        try:
            while True:
                while len(self._running) < _IN_FLIGHT * self._workers and len(order) < _AHEAD * self._workers:
                    ref = self._submit()
                    if ref is None:
                        break
                    order.append(ref)
                if not order:
                    return
                if order[0] not in done:
                    for ref, start, result in self._finished():
                        done[ref] = (start, result)
                while order and order[0] in done:
                    yield from _values(*done.pop(order.popleft()))
        finally:
            self._cancel_running()

    def as_completed(self) -> Iterator[Any]:
        self._count_workers()
        try:
            while True:
                while len(self._running) < _IN_FLIGHT * self._workers and self._submit() is not None:
                    pass
                if not self._running:
                    return
                for _, start, result in self._finished():
                    yield from _values(start, result)
        finally:
            self._cancel_running()

    def _count_workers(self) -> None:
        if current.engine is None:
            current.require()
        cpus = dict(self._remote_options.lease.resources).get("CPU", 0)
        total = cluster_resources().get("CPU", 1.0)
        self._workers = max(1, int(total * RESOURCE_UNIT / cpus) if cpus else math.ceil(total))

    def _submit(self) -> ObjectRef[_BatchResult] | None:
        size = self._sizes.next_size(self._left, self._workers)
        items = list(itertools.islice(self._items, size))
        if not items:
            return None
        if self._left is not None:
            self._left = max(0, self._left - len(items))
        ref: ObjectRef[_BatchResult] = self._run.remote(items)
        self._running[ref] = (self._submitted, len(items))
        self._submitted += len(items)
        return ref

    def _finished(self) -> list[tuple[ObjectRef[_BatchResult], int, _BatchResult]]:
        """Wait for at least one batch; return all that are done."""
        running = list(self._running)
        wait(running, num_returns=1)
        ready, _ = wait(running, num_returns=len(running), timeout=0)
        finished = []
        for ref in ready:
            start, size = self._running.pop(ref)
            result = get(ref)
            self._sizes.measured(size, len(result.values), result.seconds)
            finished.append((ref, start, result))
        return finished

    def _cancel_running(self) -> None:
        if current.engine is not None:
            for ref in self._running:
                cancel(ref)
        self._running.clear()


def _values(start: int, result: _BatchResult) -> Iterator[Any]:
    yield from result.values
    if result.failure is not None:
        error = unpack_error(result.failure)
        error.add_note(f"core.map: raised for item {start + len(result.values)} (counted from 0)")
        raise error


def _batch_runner(fn: Any, options: Mapping[str, Any] | None) -> tuple[RemoteFunction[..., _BatchResult], TaskOptions]:
    """Return a remote function that applies ``fn`` to a list, and its options."""
    given = _options(options)
    if isinstance(fn, RemoteFunction):
        fn, own = fn.plain
        given = {**own.given, **given}
    if not callable(fn) or isinstance(fn, ActorClass | ActorMethod) or inspect.iscoroutinefunction(fn):
        kind = "an 'async def' function" if inspect.iscoroutinefunction(fn) else type(fn).__name__
        raise TypeError(f"map() takes a function of one argument, plain or remote, got {kind}: {fn!r}")
    if given.get("num_returns") not in (None, 1):
        raise ValueError("functions with num_returns cannot be mapped: an item has one result")
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    given.setdefault("name", f"map({name})")

    def run_batch(items: list[Any]) -> _BatchResult:
        return _apply(fn, name, items)

    runner: RemoteFunction[..., _BatchResult] = RemoteFunction(run_batch, given)
    return runner, runner.plain[1]


def _options(given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"options of map() must be a dict or None, got {type(given).__name__}: {given!r}")
    return dict(given or {})


def _apply(fn: Callable[[Any], Any], name: str, items: list[Any]) -> _BatchResult:
    """Apply ``fn`` to the items of a batch, in a worker."""
    if any(isinstance(item, ObjectRef) for item in items):
        items = [get(item) if isinstance(item, ObjectRef) else item for item in items]
    values: list[Any] = []
    keep = values.append
    start = time.perf_counter()
    try:
        for item in items:
            keep(fn(item))
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything; the consumer gets it
        return _BatchResult(values, time.perf_counter() - start, pack_error(error, name, pid=os.getpid()))
    return _BatchResult(values, time.perf_counter() - start)


class _FixedSize:
    """Every batch has the same number of items."""

    def __init__(self, size: int) -> None:
        self._size = size

    def next_size(self, left: int | None, workers: int) -> int:
        return self._size

    def measured(self, size: int, done: int, seconds: float) -> None:
        """Nothing to learn."""


class _AdaptiveSize:
    """Batches that take :data:`TARGET_SECONDS`, by the time the latest ones took per item."""

    def __init__(self) -> None:
        self._size = 1

    def next_size(self, left: int | None, workers: int) -> int:
        if left is None:
            return self._size
        # What is left is shared out in halves, so that no worker ends up with a last long batch alone.
        return max(1, min(self._size, math.ceil(left / (2 * workers))))

    def measured(self, size: int, done: int, seconds: float) -> None:
        if not done:
            return
        fitting = int(TARGET_SECONDS * done / max(seconds, 1e-9))
        if fitting < size:
            self._size = max(1, min(self._size, fitting))
        else:
            self._size = max(self._size, min(fitting, size * _GROWTH))


def _sizes(batch: int | str) -> _FixedSize | _AdaptiveSize:
    if batch == "auto":
        return _AdaptiveSize()
    if isinstance(batch, bool) or not isinstance(batch, int):
        raise TypeError(f"batch must be 'auto' or an int, got {batch!r}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    return _FixedSize(batch)
