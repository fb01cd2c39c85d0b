"""Collects single items and hands them to a function of lists.

A batch leaves when it is full, or when its oldest item has waited long enough, and a place for a running batch is free.
With a target for the latency, `serve.batching.pace` says when that is. Items of different multiplexed models never
share a batch. What the function returns for an item goes to whoever brought it; an exception in the list of results is
raised for that item alone. Who goes away leaves the line; a batch whose items have all been given up is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import weakref
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from serve.batching.pace import Pace
from serve.context import get_multiplexed_model_id
from serve.errors import RayServeException

#: models whose pace is remembered
PACES = 128


@dataclass
class BatchOptions:
    """When a batch leaves."""

    max_batch_size: int = 10
    #: seconds that an item waits for others
    batch_wait_timeout_s: float = 0.01
    #: batches that are worked on at a time
    max_concurrent_batches: int = 1
    #: tells how large a list of items is, where that is not its length: the sum of their tokens, for example
    batch_size_fn: Callable[[list[Any]], float] | None = None
    #: milliseconds from an item's arrival to its result that size and waiting are chosen for; None for as given
    target_latency_ms: float | None = None


#: upper ends of the buckets that batches are counted in
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TIMES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 60_000)


@dataclass
class BatchCounters:
    """What a batcher has done since it was made."""

    batches: int = 0
    items: int = 0
    #: seconds that the function took, of all batches together
    seconds: float = 0.0
    #: seconds that items waited before their batch left, of all items together
    waited: float = 0.0
    #: how many batches had how many items: those up to each of `SIZES`, then those beyond the last
    sizes: list[int] = field(default_factory=lambda: [0] * (len(SIZES) + 1))
    #: how many batches took how long: those up to each of `TIMES_MS`, then those beyond the last
    times: list[int] = field(default_factory=lambda: [0] * (len(TIMES_MS) + 1))


@dataclass(eq=False)
class _Item:
    #: one value for each of the function's parameters
    values: tuple[Any, ...]
    context: contextvars.Context
    arrived: float
    result: asyncio.Future[Any]
    #: what a generator yields for this item; None for functions that return
    stream: asyncio.Queue[tuple[str, Any]] | None = None


@dataclass(eq=False)
class _Batch:
    items: list[_Item]
    #: items that somebody still waits for
    wanted: int


_batchers: weakref.WeakSet[Batcher] = weakref.WeakSet()


class Batcher:
    """One queue of items for one function on one event loop.

    Args:
        function: takes a list for each of its parameters; returns, or yields, lists of the same length.
        name: for messages.
        options: may be changed while it runs; then call `look`.
    """

    def __init__(self, function: Callable[..., Any], name: str, options: BatchOptions) -> None:
        self.name = name
        self.options = options
        self.counters = BatchCounters()
        self._function = function
        #: lines by model; none is empty
        self._lines: OrderedDict[str, deque[_Item]] = OrderedDict()
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        _batchers.add(self)

    @property
    def waiting(self) -> int:
        """Items that wait for their batch to leave."""
        return sum(len(line) for line in self._lines.values())

    async def one(self, values: tuple[Any, ...]) -> Any:
        """Have one item worked on, and return its result."""
        return await self._add(values, None).result

    async def stream(self, values: tuple[Any, ...]) -> AsyncIterator[Any]:
        """Have one item worked on by a generator, and yield what it yields for it."""
        item = self._add(values, asyncio.Queue())
        assert item.stream is not None
        try:
            while True:
                kind, content = await item.stream.get()
                if kind == "item":
                    yield content
                elif kind == "error":
                    raise content
                else:
                    return
        finally:
            item.result.cancel()

    def _add(self, values: tuple[Any, ...], stream: asyncio.Queue[tuple[str, Any]] | None) -> _Item:
        loop = asyncio.get_running_loop()
        now = loop.time()
        item = _Item(values, contextvars.copy_context(), now, loop.create_future(), stream)
        model_id = get_multiplexed_model_id()
        self._lines.setdefault(model_id, deque()).append(item)
        pace = self._pace(model_id)
        if pace is not None:
            pace.arrived(now)
        item.result.add_done_callback(lambda done: self._left(model_id, item) if done.cancelled() else None)
        self.look()
        return item

    def _left(self, model_id: str, item: _Item) -> None:
        """Somebody does not wait for his item any more."""
        line = self._lines.get(model_id, ())
        if item in line and isinstance(line, deque):
            line.remove(item)
            if not line:
                del self._lines[model_id]

    def _pace(self, model_id: str) -> Pace | None:
        """Return what has been learnt of a model's batches; None without a target."""
        options = self.options
        if options.target_latency_ms is None:
            return None
        pace = self._paces.get(model_id)
        if pace is None:
            pace = self._paces[model_id] = Pace(options.target_latency_ms / 1000, options.max_batch_size)
            while len(self._paces) > PACES:
                self._paces.popitem(last=False)
        self._paces.move_to_end(model_id)
        pace.target_s, pace.max_size = options.target_latency_ms / 1000, options.max_batch_size
        pace.max_wait_s = options.batch_wait_timeout_s
        return pace

    # -- when to go ---------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Send off what can go, and set the timer for what has to wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._lines and self._running < self.options.max_concurrent_batches:
            now = loop.time()
            due, _, model_id = min((self._due(key, now), line[0].arrived, key) for key, line in self._lines.items())
            if due > now:
                if due < math.inf:
                    self._timer = loop.call_at(due, self.look)
                return
            self._send_off(model_id, now)

    def _due(self, model_id: str, now: float) -> float:
        """Return when a model's next batch leaves, as far as can be said now."""
        line = self._lines[model_id]
        limit = self._limit(model_id)
        measure = self.options.batch_size_fn
        if (len(line) if measure is None else measure([item.values[0] for item in line])) >= limit:
            return now
        pace = self._pace(model_id)
        if pace is None:
            return max(now, line[0].arrived + self.options.batch_wait_timeout_s)
        return pace.due(now, line[0].arrived, len(line))

    def _limit(self, model_id: str) -> float:
        pace = self._pace(model_id)
        return self.options.max_batch_size if pace is None else pace.limit

    def _send_off(self, model_id: str, now: float) -> None:
        items, size = self._take(model_id)
        batch = _Batch(items, len(items))
        self._running += 1
        self.counters.batches += 1
        self.counters.items += len(items)
        self.counters.sizes[bisect_left(SIZES, len(items))] += 1
        self.counters.waited += sum(now - item.arrived for item in items)
        task = asyncio.get_running_loop().create_task(self._work(batch, model_id, size), context=items[0].context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        for item in items:
            item.result.add_done_callback(lambda done: self._given_up(batch, task) if done.cancelled() else None)

    def _take(self, model_id: str) -> tuple[list[_Item], float]:
        """Take the items of the next batch out of their line; an item larger than any batch may be goes alone."""
        line = self._lines[model_id]
        limit, measure = self._limit(model_id), self.options.batch_size_fn
        items = [line.popleft()]
        size: float = 1 if measure is None else measure([items[0].values[0]])
        while line:
            larger = len(items) + 1 if measure is None else measure([item.values[0] for item in (*items, line[0])])
            if larger > limit:
                break
            items.append(line.popleft())
            size = larger
        if not line:
            del self._lines[model_id]
        return items, size

    def _given_up(self, batch: _Batch, task: asyncio.Task[None]) -> None:
        batch.wanted -= 1
        if not batch.wanted:
            task.cancel()

    # -- the work -----------------------------------------------------------------------------------------------------

    async def _work(self, batch: _Batch, model_id: str, size: float) -> None:
        items = batch.items
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            result = self._function(*(list(values) for values in zip(*(item.values for item in items), strict=True)))
            if inspect.isasyncgen(result):
                await self._spread(items, result)
            else:
                self._deliver(items, await result)
        except Exception as error:  # noqa: BLE001 - user code raises what it likes; each caller gets it
            for item in items:
                _fail(item, error)
        else:
            pace = self._pace(model_id)
            if pace is not None and size > 0:
                pace.finished(size, clock() - began)
        finally:
            for item in items:
                item.result.cancel()  # nothing came for it: its batch was cancelled
            seconds = clock() - began
            self.counters.seconds += seconds
            self.counters.times[bisect_left(TIMES_MS, seconds * 1000)] += 1
            self._running -= 1
            self.look()

    def _deliver(self, items: list[_Item], results: Any) -> None:
        self._check(items, results)
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Exception):
                _fail(item, result)
            elif not item.result.done():
                item.result.set_result(result)

    async def _spread(self, items: list[_Item], generator: Any) -> None:
        #: numbers of the items whose streams have ended
        ended: set[int] = set()
        try:
            async for results in generator:
                self._check(items, results)
                for number, (item, result) in enumerate(zip(items, results, strict=True)):
                    if number not in ended and not _pass_on(item, result):
                        ended.add(number)
                if len(ended) == len(items):
                    break
        finally:
            await generator.aclose()
        for number, item in enumerate(items):
            if number not in ended:
                _end(item, "end", None)

    def _check(self, items: list[_Item], results: Any) -> None:
        if isinstance(results, (str, bytes, dict)) or not hasattr(results, "__len__"):
            raise RayServeException(
                f"{self.name} is batched, so it must give a list with one result for each item, not {results!r}"
            )
        if len(results) != len(items):
            raise RayServeException(f"{self.name} got a batch of {len(items)} items and gave {len(results)} results")


def batchers() -> list[Batcher]:
    """Return the batchers of this process."""
    return list(_batchers)


def _pass_on(item: _Item, result: Any) -> bool:
    """Put what a generator yielded for an item into its stream; False if that was its end."""
    if result is StopIteration or result is StopAsyncIteration:
        _end(item, "end", None)
        return False
    if isinstance(result, Exception):
        _end(item, "error", result)
        return False
    if item.stream is not None:
        item.stream.put_nowait(("item", result))
    return True


def _end(item: _Item, kind: str, content: Any) -> None:
    if item.stream is not None:
        item.stream.put_nowait((kind, content))
    if not item.result.done():
        item.result.set_result(None)  # whoever leaves from now on has not given up


def _fail(item: _Item, error: Exception) -> None:
    if item.stream is not None:
        _end(item, "error", error)
    elif not item.result.done():
        item.result.set_exception(error)
