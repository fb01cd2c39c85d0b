"""From a message to the table: what a finished task means for the objects it makes.

All methods are called under the runtime's lock, most by the reading thread.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from core import ids
from core.protocol import peer
from core.runtime.connection import Connection
from core.runtime.objects import FAILED, INLINE, PENDING, STORED, Entry, ObjectTable
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.actor_client import ActorClient
    from core.runtime.runtime import Runtime

monotonic = time.monotonic
_FIRST = ids.FIRST_INDEX


class Settling:
    """Settles objects (see the module's docstring)."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._entries = runtime.table.entries
        self._ended = runtime.history.ended
        #: executor: pins on references in results, until the caller has them
        self._handed: dict[bytes, tuple[bytes, tuple[bytes, ...]]] = {}
        #: tasks that fail because an argument of theirs did
        self._doomed: deque[tuple[Task, bytes]] = deque()
        self._dooming = False

    def result(self, connection: Connection, message: peer.Result, now: float) -> None:
        """The hot path: a small value came back."""
        task_id = message.task
        task: Task | None = connection.inflight.get(task_id)
        if task is None:
            return
        lease = connection.lease
        if lease is not None:
            task.cost.observe(message.micros * 1e-6)
            connection.pool.finished(lease, task, now)
            name = task.options.name or task.function.short_name
            self._ended.append((task_id, task.attempt, name, "", b"", lease.pid, now, message.micros, None))
        else:
            del connection.inflight[task_id]
            task.lease = None
            client: ActorClient = task.pool
            name = task.options.name or task.function
            self._ended.append(
                (
                    task_id,
                    task.attempt,
                    name,
                    client.class_name,
                    client.actor_id,
                    connection.pid,
                    now,
                    message.micros,
                    None,
                )
            )
            client.unfinished -= 1
            if client.out_of_scope:
                client.unfinished += 1
                self._rt.actors.finished(client)
        object_id = task_id + _FIRST
        entry = self._entries.get(object_id)
        if entry is not None:
            entry.state = INLINE
            entry.data = message.data
            entry.task = None
            if entry.waiters is not None:
                ObjectTable.settle(object_id, entry)
        if self._rt.waits:
            for waiter in self._rt.waits:
                waiter.settled(object_id)
        if task.dependencies or task.nested or task.args_stored:
            self._rt.lineage.retire(task)

    def results(self, connection: Connection, message: peer.Results) -> None:
        task = connection.inflight.get(message.task)
        if task is None:
            return
        if connection.lease is not None:
            self._rt.tasks.results(connection, message, monotonic())
            return
        del connection.inflight[message.task]
        task.lease = None
        self.finish(connection, task, message)

    def finish(self, connection: Connection, task: Task, message: peer.Results) -> None:
        """Take the outcome of a task or call into the table, or try again."""
        is_call = type(task.function) is str
        if message.failed:
            if task.cancelled:
                self.finish_failed(task, message.values[0].data, message.micros)
            elif self._rt.tasks.may_retry(task, message):
                self._rt.history.failed(task, message.values[0].data, message.micros)
                task.attempt += 1
                if is_call:
                    task.pool.queue.append(task)
                    self._rt.actors.resend(task.pool)
                else:
                    self._rt.tasks.retry(task)
            else:
                self.finish_failed(task, message.values[0].data, message.micros)
            return
        self._rt.history.finished(task, connection.pid, message.micros)
        if message.items >= 0:
            self._rt.streams.ended(task, None)
        for index, value in enumerate(message.values):
            object_id = ids.object_id(task.id, index)
            entry = self._entries.get(object_id)
            if entry is None:
                self.discard(object_id, value)
            else:
                self.fulfil(connection, object_id, entry, value)
                if entry.state == STORED and not is_call:
                    task.stored += 1
                    entry.task = task
                    if entry.local <= 0 and entry.pins <= 0:
                        self._rt.table.check(object_id, entry)  # made again together with one that was wanted
        if any(value.contained for value in message.values):
            self.take_contained(connection, task.id)
        if is_call:
            self._rt.actors.finished(task.pool)
        if task.stored:
            self._rt.lineage.keep(task)
        else:
            self._rt.lineage.retire(task)

    def take_contained(self, connection: Connection, key: bytes) -> None:
        """Tell the executor that we are registered for what a result contains, once we are."""

        def tell() -> None:
            if not connection.closed:
                self._rt.send(connection, peer.ContainedTaken(key))

        self._rt.borrowing.when_settled(tell)

    def finish_failed(self, task: Task, error: bytes, micros: int = 0) -> None:
        """All of a task's objects become ``error``."""
        self._rt.history.failed(task, error, micros)
        if task.returns < 0:
            self._rt.streams.ended(task, error)
        else:
            for index in range(task.returns):
                object_id = ids.object_id(task.id, index)
                entry = self._entries.get(object_id)
                if entry is not None and entry.state == PENDING:
                    self.fail_entry(object_id, entry, error)
        if type(task.function) is str:
            self._rt.actors.finished(task.pool)
        self._rt.lineage.retire(task)

    def fail_dependent(self, task: Task, error: bytes) -> None:
        """A task fails because an argument of its did, and with it all that wait for it, in chains of any length."""
        self._doomed.append((task, error))
        if self._dooming:
            return  # called from below
        self._dooming = True
        try:
            while self._doomed:
                self.finish_failed(*self._doomed.popleft())
        finally:
            self._dooming = False

    def fulfil(self, connection: Connection | None, object_id: bytes, entry: Entry, value: peer.Value) -> None:
        """An object's value (or place, or error) is known."""
        if value.kind == "i":
            entry.state, entry.data = INLINE, value.data
        elif value.kind == "s":
            entry.state, entry.size, entry.released = STORED, value.size, False
        else:
            entry.state, entry.data = FAILED, value.data
        entry.task = None
        if value.contained:
            self.contain(entry, value.contained)
        self.settled(object_id, entry)

    def settled(self, object_id: bytes, entry: Entry) -> None:
        if entry.waiters is not None:
            ObjectTable.settle(object_id, entry)
        for waiter in self._rt.waits:
            waiter.settled(object_id)

    def contain(self, outer: Entry, contained: tuple[bytes, ...]) -> None:
        entries = self._entries
        for inner in contained:
            entry = entries.get(inner)
            if entry is None:
                if self._rt.table.owned(inner):
                    continue
                entry = entries[inner] = Entry()
                self._rt.borrowing.borrow(inner)
            entry.pins += 1
        outer.contained = contained

    def fail_entry(self, object_id: bytes, entry: Entry, error: bytes) -> None:
        """An object becomes an error."""
        entry.state, entry.data, entry.task = FAILED, error, None
        self.settled(object_id, entry)

    def give(self, object_id: bytes, entry: Entry, value: Any) -> None:
        """An object gets a value made here."""
        data, contained = self._rt.packer.value(value)
        assert type(data) is bytes
        self.fulfil(None, object_id, entry, peer.Value("i", data, contained=contained))

    def discard(self, object_id: bytes, value: peer.Value) -> None:
        """A value came that nobody waits for any more."""
        if value.kind == "s":
            self._rt.store.free(object_id)

    def hand_over(self, caller: bytes, task: bytes, contained: tuple[bytes, ...]) -> None:
        """Keep references inside a result alive until the caller is registered for them (under the lock)."""
        for object_id in contained:
            self._rt.table.pin(object_id)
        self._handed[task] = (caller, contained)

    def contained_taken(self, connection: Connection, message: peer.ContainedTaken) -> None:
        handed = self._handed.pop(message.task, None)
        if handed is not None:
            for object_id in handed[1]:
                self._rt.table.unpin(object_id)

    def caller_gone(self, address: bytes) -> None:
        """A caller died: it will take nothing that was handed to it."""
        for task, (caller, contained) in list(self._handed.items()):
            if caller == address:
                del self._handed[task]
                for object_id in contained:
                    self._rt.table.unpin(object_id)
