"""The consumer's side of streaming generators.

Item ``i`` of a stream is object ``i + 1`` of its task; object 0 tells the end (``ObjectRefGenerator.completed``). Items
are pinned by the stream until the consumer takes them. A task that is retried starts over; what was received before is
not received again. The producer is told how much is consumed only if it asked for backpressure, and that nobody
listens any more when the generator object dies.
"""

from __future__ import annotations

import concurrent.futures
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from core import ids, refs
from core.exceptions import GetTimeoutError, ObjectLostError
from core.protocol import peer
from core.refs import ObjectRef, ObjectRefGenerator
from core.runtime.connection import Connection
from core.runtime.objects import Entry
from core.runtime.waiting import EventWaiter
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


class Stream(Struct, eq=False):
    """One stream as its consumer sees it."""

    task: Task
    backpressure: int
    #: items received, which are items 0 .. received-1
    received: int = 0
    #: items taken by the consumer
    taken: int = 0
    #: number of items, once the stream has ended
    total: int = -1
    #: where items come from, while they do
    producer: Connection | None = None
    waiters: list[Callable[[], None]] = []
    #: the generator object died: items are discarded, only the end still counts
    dropped: bool = False
    #: ``num_returns="dynamic"``: object 0 becomes the list of all items
    collect: bool = False


class Streams:
    """All streams this process consumes."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._streams: dict[bytes, Stream] = {}

    def open(self, task: Task, backpressure: int) -> ObjectRefGenerator[Any]:
        """Start a stream for a new task (under the lock)."""
        end = ids.object_id(task.id, 0)
        self._rt.table.entries[end] = Entry(local=1, task=task)
        self._streams[task.id] = Stream(task, backpressure)
        return ObjectRefGenerator(task.id, ObjectRef(end))

    def open_collected(self, task: Task) -> ObjectRef[Any]:
        """Start a stream whose items come as one list of references (``num_returns="dynamic"``; under the lock)."""
        end = ids.object_id(task.id, 0)
        self._rt.table.entries[end] = Entry(local=1, task=task)
        self._streams[task.id] = Stream(task, 0, collect=True)
        return ObjectRef(end)

    def item(self, connection: Connection, message: peer.Item) -> None:
        """One more item came (under the lock)."""
        stream = self._streams.get(message.task)
        object_id = ids.object_id(message.task, message.index + 1)
        if stream is None or stream.dropped:
            self._discard(connection, object_id, message.value)
            self._rt.send(connection, peer.Consumed(message.task, -1))
            return
        stream.producer = connection
        if message.index != stream.received:
            # A new attempt makes what the last one made already, and does not know yet how much is consumed.
            self._discard(connection, object_id, message.value)
            if stream.backpressure:
                self._rt.send(connection, peer.Consumed(message.task, stream.taken))
            return
        entry = Entry(pins=1, task=stream.task)
        self._rt.table.entries[object_id] = entry
        self._rt.settling.fulfil(connection, object_id, entry, message.value)
        if message.value.contained:
            self._rt.settling.take_contained(connection, object_id)
        stream.received += 1
        self._wake(stream)

    def _discard(self, connection: Connection, object_id: bytes, value: peer.Value) -> None:
        """Refuse an item (under the lock)."""
        if object_id not in self._rt.table.entries:
            # Else the store has a good copy, from an earlier attempt.
            self._rt.settling.discard(object_id, value)
        if value.contained:
            self._rt.send(connection, peer.ContainedTaken(object_id))

    def ended(self, task: Task, error: bytes | None) -> None:
        """The task is over; ``error`` becomes a last item (under the lock)."""
        stream = self._streams.get(task.id)
        if stream is None:
            return
        if error is not None and not stream.dropped:
            last = Entry(pins=1)
            object_id = ids.object_id(task.id, stream.received + 1)
            self._rt.table.entries[object_id] = last
            self._rt.settling.fail_entry(object_id, last, error)
            stream.received += 1
        stream.total = stream.received
        stream.producer = None
        for waiter in self._rt.waits:
            waiter.settled(ids.object_id(task.id, stream.total + 1))
        end = ids.object_id(task.id, 0)
        entry = self._rt.table.entries.get(end)
        if stream.collect:
            del self._streams[task.id]
            if error is not None and stream.received == 1:
                for index in range(stream.received):
                    self._rt.table.unpin(ids.object_id(task.id, index + 1))
                if entry is not None:
                    self._rt.settling.fail_entry(end, entry, error)
            else:
                self._collect(task, stream.received, end, entry)
        else:
            if stream.dropped:
                del self._streams[task.id]
            if entry is not None:
                self._rt.settling.give(end, entry, None)
        self._wake(stream)

    def _collect(self, task: Task, count: int, end: bytes, entry: Entry | None) -> None:
        items: list[ObjectRef[Any]] = []
        for index in range(count):
            object_id = ids.object_id(task.id, index + 1)
            item = self._rt.table.entries[object_id]
            item.local += 1
            item.pins -= 1
            items.append(ObjectRef(object_id))
        if entry is not None:
            self._rt.settling.give(end, entry, items)

    @staticmethod
    def _wake(stream: Stream) -> None:
        waiters, stream.waiters = stream.waiters, []
        for waiter in waiters:
            waiter()

    def ready(self, task: bytes, index: int) -> bool:
        """Tell whether item ``index`` (or the end) is there."""
        stream = self._streams.get(task)
        return stream is None or index < stream.received or stream.total >= 0

    def next(self, task: bytes, index: int, timeout: float | None) -> ObjectRef[Any] | None:
        """Wait for item ``index`` and return its reference, or None at the end.

        Raises:
            GetTimeoutError: nothing came in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            waiter = EventWaiter()
            with self._rt.reactor.lock:
                if self.ready(task, index):
                    return self._take(task, index)
                self._streams[task].waiters.append(functools.partial(self._rt.reactor.complete, waiter))
            if not self._rt.values.block(waiter, deadline, f"the next item of the generator {task.hex()}"):
                raise GetTimeoutError(f"no item of the generator came within {timeout} s")

    def next_future(self, task: bytes, index: int) -> concurrent.futures.Future[ObjectRef[Any] | None]:
        """Return a future of what :meth:`next` gives."""
        future: concurrent.futures.Future[ObjectRef[Any] | None] = concurrent.futures.Future()

        def deliver() -> None:
            if not future.set_running_or_notify_cancel():
                return  # whoever asked has given up: the item stays for the next who does
            try:
                with self._rt.reactor.lock:
                    ref = self._take(task, index)
            except ObjectLostError as error:
                future.set_exception(error)
            else:
                future.set_result(ref)

        with self._rt.reactor.lock:
            if not self.ready(task, index):
                self._streams[task].waiters.append(lambda: self._rt.reactor.after.append(deliver))
                self._rt.reactor.flush_dirty()
                return future
        deliver()
        return future

    def _take(self, task: bytes, index: int) -> ObjectRef[Any] | None:
        stream = self._streams.get(task)
        if stream is None or index >= stream.received:
            return None
        object_id = ids.object_id(task, index + 1)
        entry = self._rt.table.entries.get(object_id)
        if entry is None:
            raise ObjectLostError(object_id.hex(), f"item {index} of the generator was taken already")
        entry.local += 1
        if index >= stream.taken:
            entry.pins -= 1
            stream.taken = index + 1
            if stream.backpressure and stream.producer is not None:
                self._rt.send(stream.producer, peer.Consumed(task, stream.taken))
        return ObjectRef(object_id)

    def close(self, error: bytes) -> None:
        """The session ends, and with it every stream (under the lock)."""
        for stream in list(self._streams.values()):
            if stream.total < 0:
                self.ended(stream.task, error)

    def drain(self) -> None:
        """Let go of the items of dead generators and tell their producers (under the lock)."""
        while refs.dropped_generators:
            task = refs.dropped_generators.popleft()
            stream = self._streams.get(task)
            if stream is None:
                continue
            stream.dropped = True
            if stream.total >= 0:
                del self._streams[task]
            elif stream.producer is not None:
                self._rt.send(stream.producer, peer.Consumed(task, -1))
            for index in range(stream.taken, stream.received):
                self._rt.table.unpin(ids.object_id(task, index + 1))
