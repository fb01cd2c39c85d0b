"""Streaming generators of the inline engine: they run, in the consumer's thread, when an item is asked for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from core import ids
from core.engine.inline.calls import TaskContext, failed, running, stored
from core.engine.inline.objects import ObjectTable, Outcome, StoredError
from core.refs import ObjectRef, ObjectRefGenerator

#: Index of the object that tells the end of the generator.
_COMPLETED = 0xFFFFFFFF


class InlineStream:
    """One generator task: what it yielded and nobody took yet, and how to go on.

    Args:
        objects: where the items go.
        context: the task it is.
        start: makes the generator; called at the first item.
        loop: the event loop of an asyncio actor that it has to run in.
        on_end: called once when it has ended.
    """

    def __init__(
        self,
        objects: ObjectTable,
        context: TaskContext,
        start: Callable[[], Any],
        loop: asyncio.AbstractEventLoop | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._objects = objects
        self._context = context
        self._start = start
        self._loop = loop
        self._on_end = on_end
        self._iterator: Iterator[Any] | AsyncGenerator[Any, None] | None = None
        self._items: dict[int, ObjectRef[Any]] = {}
        self._produced = 0
        self._ended = False
        #: id of the object that is there when the generator has ended
        self.completed_id = ids.object_id(context.task_id, _COMPLETED)

    def reference(self) -> ObjectRefGenerator[Any]:
        """Return what ``.remote()`` returns."""
        return ObjectRefGenerator(self._context.task_id, self._objects.create(self.completed_id))

    def take(self, index: int) -> ObjectRef[Any] | None:
        """Return the item at ``index``, None at the end; run the generator as far as need be."""
        while index >= self._produced and not self._ended:
            self._step()
        return self._items.pop(index, None)

    def take_future(self, index: int) -> concurrent.futures.Future[ObjectRef[Any] | None]:
        """Return a future of :meth:`take`, so that coroutines in the generator's own loop can wait for it."""
        future: concurrent.futures.Future[ObjectRef[Any] | None]
        if self._loop is not None:
            return asyncio.run_coroutine_threadsafe(self._take_in_loop(index), self._loop)
        future = concurrent.futures.Future()
        future.set_result(self.take(index))
        return future

    def finish(self) -> None:
        """Run to the end: somebody waits for the generator as a whole."""
        while not self._ended:
            self._step()

    def cancel(self, outcome: StoredError) -> None:
        """End it with an error as the last item."""
        if not self._ended:
            self._close()
            self._add(outcome)
            self._end(outcome)

    def close(self) -> None:
        """Nobody will ask any more."""
        if not self._ended:
            self._close()
            self._end(self._objects.serialize(None))

    def _step(self) -> None:
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._step_in_loop(), self._loop).result()
            return
        try:
            with running(self._objects, self._context):
                if self._iterator is None:
                    self._iterator = iter(self._start())
                assert isinstance(self._iterator, Iterator)
                value = next(self._iterator)
            self._add(stored(self._objects, value, self._context.function_name))
        except StopIteration:
            self._end(self._objects.serialize(None))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            self._fail(error)

    async def _step_in_loop(self) -> None:
        try:
            with running(self._objects, self._context):
                if self._iterator is None:
                    self._iterator = self._start()
                if isinstance(self._iterator, AsyncGenerator):
                    value = await anext(self._iterator)
                else:
                    assert self._iterator is not None
                    value = next(self._iterator)
            self._add(stored(self._objects, value, self._context.function_name))
        except (StopIteration, StopAsyncIteration):
            self._end(self._objects.serialize(None))
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            self._fail(error)

    async def _take_in_loop(self, index: int) -> ObjectRef[Any] | None:
        while index >= self._produced and not self._ended:
            await self._step_in_loop()
        return self._items.pop(index, None)

    def _add(self, outcome: Outcome) -> None:
        identifier = ids.object_id(self._context.task_id, self._produced)
        self._items[self._produced] = self._objects.create(identifier)
        self._objects.settle(identifier, outcome)
        self._produced += 1

    def _fail(self, error: BaseException) -> None:
        outcome = failed(error, self._context.function_name)
        self._add(outcome)
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self._ended = True
        self._iterator = None
        self._objects.settle(self.completed_id, outcome)
        if self._on_end is not None:
            self._on_end()

    def _close(self) -> None:
        iterator, self._iterator = self._iterator, None
        close = getattr(iterator, "close", None)
        if close is not None:
            with running(self._objects, self._context):
                close()


def wait_with_generators(refs: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
    """Wait for references and for the next items of generators (``Engine.wait``)."""
    futures = [ref.peek() if isinstance(ref, ObjectRefGenerator) else ref.future() for ref in refs]
    deadline = None if timeout is None else time.monotonic() + timeout
    while sum(future.done() for future in futures) < num_returns:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        pending = [future for future in futures if not future.done()]
        concurrent.futures.wait(pending, left, concurrent.futures.FIRST_COMPLETED)
    done = [index for index, future in enumerate(futures) if future.done()][:num_returns]
    return [refs[i] for i in done], [ref for i, ref in enumerate(refs) if i not in set(done)]
