"""A first-in-first-out queue that any number of tasks, actors and drivers share (``ray.util.queue``)."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable, Mapping
from typing import Any

import core
from core.argument_checks import seconds, whole_number
from core.exceptions import ActorDiedError

__all__ = ["Empty", "Full", "Queue"]

#: How many blocked ``put`` and ``get`` calls the queue can hold at once. Far above an asyncio actor's default of 1,000,
#: because once that many consumers wait, a put could never get in to wake them.
_MAX_BLOCKED_CALLS = 100_000


class Empty(queue.Empty):
    """The queue has no item (or fewer than asked for)."""


class Full(queue.Full):
    """The queue has no room."""


class Queue:
    """A queue held by an actor of its own. Instances can be passed to tasks and actors; all see the same queue.

    Args:
        maxsize: how many items fit; zero or less for no limit.
        actor_options: options of the actor that holds the items, for example ``{"num_cpus": 1}``.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize: int = whole_number("maxsize", maxsize)
        if actor_options is not None and not isinstance(actor_options, Mapping):
            raise TypeError(f"actor_options must be a dict, got {type(actor_options).__name__}: {actor_options!r}")
        options = {"max_concurrency": _MAX_BLOCKED_CALLS, **(actor_options or {})}
        self.actor: Any = core.remote(_QueueActor).options(**options).remote(self.maxsize)

    @property
    def _holder(self) -> Any:
        if self.actor is None:
            raise ActorDiedError("this queue was shut down", class_name="Queue")
        return self.actor

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Return the number of items."""
        return int(core.get(self._holder.qsize.remote()))

    def qsize(self) -> int:
        """Return the number of items."""
        return self.size()

    def empty(self) -> bool:
        """Tell whether there is no item."""
        return bool(core.get(self._holder.empty.remote()))

    def full(self) -> bool:
        """Tell whether there is no room."""
        return bool(core.get(self._holder.full.remote()))

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Append an item.

        Args:
            item: anything that can be pickled.
            block: wait for room; if False, ``timeout`` is ignored.
            timeout: how long to wait for room, in seconds; None waits for ever.

        Raises:
            Full: there is no room, or was none in time.
            ValueError: ``timeout`` is negative.
        """
        _check_timeout(block, timeout)
        call = self._holder.put.remote(item, timeout) if block else self._holder.put_nowait.remote(item)
        try:
            core.get(call)
        except Full as error:
            raise Full(*_message(error)) from None

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109 - Ray's signature
        """Append an item; awaitable form of :meth:`put`."""
        _check_timeout(block, timeout)
        try:
            await (self._holder.put.remote(item, timeout) if block else self._holder.put_nowait.remote(item))
        except Full as error:
            raise Full(*_message(error)) from None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Remove and return the oldest item.

        Args:
            block: wait for an item; if False, ``timeout`` is ignored.
            timeout: how long to wait for an item, in seconds; None waits for ever.

        Raises:
            Empty: there is no item, or none came in time.
            ValueError: ``timeout`` is negative.
        """
        _check_timeout(block, timeout)
        call = self._holder.get.remote(timeout) if block else self._holder.get_nowait.remote()
        try:
            return core.get(call)
        except Empty as error:
            raise Empty(*_message(error)) from None

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - Ray's signature
        """Remove and return the oldest item; awaitable form of :meth:`get`."""
        _check_timeout(block, timeout)
        try:
            return await (self._holder.get.remote(timeout) if block else self._holder.get_nowait.remote())
        except Empty as error:
            raise Empty(*_message(error)) from None

    def put_nowait(self, item: Any) -> None:
        """Append an item without waiting. Raises ``Full`` if there is no room."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Remove and return the oldest item without waiting. Raises ``Empty`` if there is none."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Append all items or none, in one message.

        Raises:
            Full: not all of them fit.
            TypeError: ``items`` is not iterable.
        """
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        try:
            core.get(self._holder.put_nowait_batch.remote(list(items)))
        except Full as error:
            raise Full(*_message(error)) from None

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Remove and return exactly ``num_items`` items, oldest first, in one message.

        Raises:
            Empty: there are fewer; none is removed.
            TypeError, ValueError: ``num_items`` is no integer, or negative.
        """
        num_items = whole_number("Argument 'num_items'", num_items)
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        try:
            items: list[Any] = core.get(self._holder.get_nowait_batch.remote(num_items))
        except Empty as error:
            raise Empty(*_message(error)) from None
        return items

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor that holds the items; the queue cannot be used afterwards. Can be called twice.

        Args:
            force: end it at once; otherwise calls already sent finish first.
            grace_period_s: how long those may take, in seconds, before it is ended anyway.
        """
        if self.actor is None:
            return
        if force:
            core.kill(self.actor, no_restart=True)
        else:
            done = self.actor.__ray_terminate__.remote()
            _, unfinished = core.wait([done], timeout=grace_period_s)
            if unfinished:
                core.kill(self.actor, no_restart=True)
        self.actor = None


def _check_timeout(block: bool, timeout: float | None) -> None:
    timeout = seconds("'timeout'", timeout)
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


def _message(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments of the error the actor raised (``error`` wraps it)."""
    return tuple(getattr(error, "cause", error).args)


class _QueueActor:
    """Holds the items. All methods run on one event loop, so none of them needs a lock."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self.queue.qsize()

    async def empty(self) -> bool:
        return self.queue.empty()

    async def full(self) -> bool:
        return self.queue.full()

    async def put(self, item: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109 - Ray's signature
        try:
            async with asyncio.timeout(timeout):
                await self.queue.put(item)
        except TimeoutError:
            raise Full(f"no room for an item within {timeout} s") from None

    async def get(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - Ray's signature
        try:
            async with asyncio.timeout(timeout):
                return await self.queue.get()
        except TimeoutError:
            raise Empty(f"no item within {timeout} s") from None

    async def put_nowait(self, item: Any) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            raise Full(f"the queue holds {self.maxsize} items already") from None

    async def get_nowait(self) -> Any:
        try:
            return self.queue.get_nowait()
        except asyncio.QueueEmpty:
            raise Empty("the queue holds no item") from None

    async def put_nowait_batch(self, items: list[Any]) -> None:
        if self.maxsize > 0 and len(items) + self.queue.qsize() > self.maxsize:
            raise Full(
                f"Cannot add {len(items)} items to queue of size {self.queue.qsize()} and maxsize {self.maxsize}."
            )
        for item in items:
            self.queue.put_nowait(item)

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        if num_items > self.queue.qsize():
            raise Empty(f"Cannot get {num_items} items from queue of size {self.queue.qsize()}.")
        return [self.queue.get_nowait() for _ in range(num_items)]
