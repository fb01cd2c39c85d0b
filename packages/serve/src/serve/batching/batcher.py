"""Collects single items and hands them to a function of lists.

A batch leaves when it is full, or when its oldest item has waited long enough and a place for a running batch is free.
Items of different multiplexed models never share a batch. What the function returns for an item goes to whoever brought
it; an exception in the list of results is raised for that item alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve.context import get_multiplexed_model_id
from serve.errors import RayServeException


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


@dataclass(eq=False)
class _Item:
    value: Any
    context: contextvars.Context
    model_id: str
    arrived: float
    result: asyncio.Future[Any]
    #: what a generator yields for this item; None for functions that return
    stream: asyncio.Queue[tuple[str, Any]] | None = None


@dataclass(eq=False)
class Batcher:
    """One queue of items for one function on one event loop.

    Args:
        function: takes a list; returns, or yields, lists of the same length.
        name: for messages.
        options: may be changed while it runs.
    """

    function: Callable[[list[Any]], Any]
    name: str
    options: BatchOptions
    _waiting: deque[_Item] = field(default_factory=deque)
    _running: int = 0
    _timer: asyncio.TimerHandle | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def one(self, value: Any) -> Any:
        """Have one item worked on, and return its result."""
        return await self._add(value, None).result

    async def stream(self, value: Any) -> AsyncIterator[Any]:
        """Have one item worked on by a generator, and yield what it yields for it."""
        item = self._add(value, asyncio.Queue())
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

    def _add(self, value: Any, stream: asyncio.Queue[tuple[str, Any]] | None) -> _Item:
        loop = asyncio.get_running_loop()
        item = _Item(
            value, contextvars.copy_context(), get_multiplexed_model_id(), loop.time(), loop.create_future(), stream
        )
        self._waiting.append(item)
        self._look()
        return item

    # -- when to go ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Send off what can go, and set the timer for what has to wait."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._running < self.options.max_concurrent_batches:
            batch, full = self._next_batch()
            due = self._waiting[0].arrived + self.options.batch_wait_timeout_s
            if not full and loop.time() < due:
                self._timer = loop.call_at(due, self._look)
                return
            for item in batch:
                self._waiting.remove(item)
            batch = [item for item in batch if not item.result.cancelled()]  # whoever left is not waited for
            if batch:
                self._running += 1
                task = loop.create_task(self._work(batch), context=batch[0].context)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next_batch(self) -> tuple[list[_Item], bool]:
        """Return the items that would go together, and whether there is no room for more."""
        options = self.options
        model_id = self._waiting[0].model_id
        batch: list[_Item] = []
        for item in self._waiting:
            if item.model_id != model_id:
                continue
            if batch and self._size([*batch, item]) > options.max_batch_size:
                return batch, True
            batch.append(item)
        return batch, self._size(batch) >= options.max_batch_size

    def _size(self, batch: Sequence[_Item]) -> float:
        measure = self.options.batch_size_fn
        return len(batch) if measure is None else measure([item.value for item in batch])

    # -- the work -----------------------------------------------------------------------------------------------------

    async def _work(self, batch: list[_Item]) -> None:
        try:
            result = self.function([item.value for item in batch])
            if inspect.isasyncgen(result):
                await self._spread(batch, result)
            else:
                self._deliver(batch, await result)
        except Exception as error:  # noqa: BLE001 - user code raises what it likes; each caller gets it
            for item in batch:
                _fail(item, error)
        finally:
            self._running -= 1
            self._look()

    def _deliver(self, batch: list[_Item], results: Any) -> None:
        self._check(batch, results)
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                _fail(item, result)
            elif not item.result.done():
                item.result.set_result(result)

    async def _spread(self, batch: list[_Item], generator: Any) -> None:
        ended: set[int] = set()
        async for results in generator:
            self._check(batch, results)
            for number, (item, result) in enumerate(zip(batch, results, strict=True)):
                if number in ended or item.stream is None:
                    continue
                if result is StopIteration or result is StopAsyncIteration:
                    ended.add(number)
                    item.stream.put_nowait(("end", None))
                elif isinstance(result, Exception):
                    ended.add(number)
                    item.stream.put_nowait(("error", result))
                else:
                    item.stream.put_nowait(("item", result))
            if len(ended) == len(batch):
                break
        await generator.aclose()
        for item in batch:
            if item.stream is not None:
                item.stream.put_nowait(("end", None))

    def _check(self, batch: list[_Item], results: Any) -> None:
        if isinstance(results, (str, bytes, dict)) or not hasattr(results, "__len__"):
            raise RayServeException(
                f"{self.name} is batched, so it must give a list with one result for each item, not {results!r}"
            )
        if len(results) != len(batch):
            raise RayServeException(f"{self.name} got a batch of {len(batch)} items and gave {len(results)} results")


def _fail(item: _Item, error: Exception) -> None:
    if item.stream is not None:
        item.stream.put_nowait(("error", error))
    elif not item.result.done():
        item.result.set_exception(error)
