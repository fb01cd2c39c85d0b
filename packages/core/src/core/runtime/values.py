"""``put``, ``get``, ``wait`` and futures: values in and out of the table, and the waiting for them.

Called by user threads without the runtime's lock; pickling and unpickling happen outside of it.
"""

from __future__ import annotations

import concurrent.futures
import time
from typing import TYPE_CHECKING, Any

from core import exceptions, ids, refs, remote_errors
from core.protocol import peer
from core.refs import ObjectRef
from core.runtime.connection import Connection
from core.runtime.objects import FAILED, INLINE, PENDING, STORED, Entry
from core.runtime.packing import unpicklable_error
from core.runtime.waiting import EventWaiter, GetWaiter, WaitWaiter
from core.serialization import Parts, loads
from core.state.leases import Task
from core.store.arena import copy_into
from core.store.client import HEADROOM

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

monotonic = time.monotonic
_FIRST = ids.FIRST_INDEX


class Values:
    """Puts, gets and waits for objects (see the module's docstring)."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def store_value(self, object_id: bytes, parts: Parts) -> None:
        """Lay a large value out in shared memory (without the lock).

        Raises:
            ObjectStoreFullError, OutOfDiskError: there is no room.
        """
        target = self._rt.store.create(object_id, parts.nbytes)
        try:
            parts.write(target, copy_into)
        except BaseException:
            self._rt.store.abort(object_id)
            raise
        self._rt.store.seal(object_id)

    def pack_arguments(self, task: Task, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pickle a call's arguments into its task; large ones go to the store.

        Raises:
            TypeError: an argument cannot be pickled; ``what`` names the callee.
        """
        packed = self._rt.packer.arguments(what, args, kwargs)
        if isinstance(packed, bytes):
            task.args = packed
            return
        task.dependencies = packed.dependencies
        task.nested = packed.nested
        if isinstance(packed.data, bytes):
            task.args = packed.data
        else:
            self.store_arguments(task, packed.data)

    def store_arguments(self, task: Task, parts: Parts) -> None:
        """Put arguments too large for a message into the store."""
        self.store_value(task.id + ids.ARGUMENTS_INDEX, parts)
        task.args_stored = True

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value owned by this process (``Engine.put``)."""
        if refs.dropped:
            with self._rt.lock:
                self._rt.drain()
        try:
            data, contained = self._rt.packer.value(value)
        except exceptions.RayError:
            raise
        except Exception as error:  # user code: reducers raise what they like
            raise unpicklable_error(f"value of type {type(value).__name__}", value, error) from error
        entry = Entry(local=1)
        with self._rt.lock:
            object_id = self._rt.next_task_id() + _FIRST
            if contained:
                self._rt.settling.contain(entry, contained)
            if type(data) is bytes:
                entry.state, entry.data = INLINE, data
                self._rt.table.entries[object_id] = entry
                return ObjectRef(object_id)
        assert type(data) is Parts
        if not self._adopt_block(object_id, data):
            self.store_value(object_id, data)
        entry.state, entry.size = STORED, data.nbytes
        with self._rt.lock:
            self._rt.table.entries[object_id] = entry
        return ObjectRef(object_id)

    def _adopt_block(self, object_id: bytes, parts: Parts) -> bool:
        sole = parts.sole_buffer()
        if sole is None:
            return False
        buffer, offset = sole
        block = self._rt.store.find_block(buffer)
        if block is None or offset > HEADROOM:
            return False
        self._rt.store.adopt_block(object_id, block, parts.head, offset)
        return True

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        """``Engine.get_one``."""
        entry = self._rt.table.entries.get(ref.id)
        if entry is not None and entry.state == INLINE:
            return self._load(entry.data, ref.id)
        return self.get_many([ref], timeout)[0]

    def get_many(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """``Engine.get_many``."""
        deadline = None if timeout is None or timeout < 0 else monotonic() + timeout
        self._await(refs, deadline, timeout)
        entries = self._rt.table.entries
        out = []
        for ref in refs:
            entry = entries[ref.id]
            if entry.state == INLINE:
                out.append(self._load(entry.data, ref.id))
            else:
                out.append(self._materialize(ref, entry, deadline))
        return out

    def _await(self, refs: list[ObjectRef[Any]], deadline: float | None, timeout: float | None) -> None:
        """Wait until all are there or one has failed; raise that one's error, or GetTimeoutError."""
        entries = self._rt.table.entries
        pending: list[tuple[bytes, Entry]] = []
        failed: Entry | None = None
        waiter = GetWaiter(self._rt.reactor, 0)
        with self._rt.lock:
            for ref in refs:
                entry = entries.get(ref.id)
                if entry is None:
                    raise self._unknown(ref)
                if entry.state == PENDING:
                    pending.append((ref.id, entry))
                elif entry.state == FAILED:
                    failed = entry
                    break
            if failed is None and pending:
                waiter.remaining = len(pending)
                for object_id, entry in pending:
                    self._rt.exchange.need(object_id, entry, waiter)
        if failed is not None:
            raise remote_errors.unpack_error(failed.data)
        if not pending:
            return
        if not waiter.done:
            done = self.block(waiter, deadline, f"object {pending[0][0].hex()}", pending[0])
            if not done or waiter.remaining > 0:
                self._forget_waiter(waiter, pending)
            if not done:
                raise exceptions.GetTimeoutError(
                    f"get() timed out after {timeout} s: {waiter.remaining} of {len(refs)} objects are not there yet"
                )
        for _, entry in pending:
            if entry.state == FAILED:
                raise remote_errors.unpack_error(entry.data)

    def _forget_waiter(self, waiter: Any, pending: list[tuple[bytes, Entry]]) -> None:
        with self._rt.lock:
            for _, entry in pending:
                if entry.waiters is not None and waiter in entry.waiters:
                    entry.waiters = [other for other in entry.waiters if other is not waiter]

    def _unknown(self, ref: ObjectRef[Any]) -> ValueError:
        return ValueError(
            f"{ref!r}: its owner is unknown. The reference belongs to a session that is over, or was made by hand."
        )

    def _materialize(self, ref: ObjectRef[Any], entry: Entry, deadline: float | None) -> Any:
        object_id = ref.id
        while True:
            if entry.state == FAILED:
                raise remote_errors.unpack_error(entry.data)
            if entry.state == INLINE:
                return self._load(entry.data, object_id)
            view = self._rt.store.read(object_id)
            if view is not None:
                return self._load(view, object_id)
            with self._rt.lock:
                if entry.state == STORED:
                    if self._rt.table.owned(object_id):
                        self._rt.lineage.recover(object_id, entry)
                    else:
                        entry.state, entry.fetching = PENDING, True
                        self._rt.peers.send(ids.owner_of(object_id), peer.Fetch(object_id, True))
                    self._rt.reactor.flush_dirty()
            self._await([ref], deadline, None)

    def get_lost(self, object_id: bytes) -> Any:
        """Return the value of a stored argument whose bytes are gone: its owner makes it again."""
        ref = self._rt.exchange.adopt_ref(object_id)
        entry = self._rt.table.entries[object_id]
        with self._rt.lock:
            if entry.state == PENDING:
                entry.fetching = True
                self._rt.peers.send(ids.owner_of(object_id), peer.Fetch(object_id, True))
                self._rt.reactor.flush_dirty()
        self._await([ref], None, None)
        return self._materialize(ref, entry, None)

    def _load(self, data: bytes | memoryview, object_id: bytes) -> Any:
        try:
            return loads(data)
        except exceptions.RayError:
            raise
        except Exception as error:  # user code: __setstate__ and module imports raise what they like
            raise exceptions.RaySystemError(
                f"the value of object {object_id.hex()} could not be unpickled: {type(error).__name__}: {error}"
            ) from error

    def wait(self, refs: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
        """``Engine.wait``; a generator counts as the object that its next item will be."""
        deadline = None if timeout is None else monotonic() + timeout
        if timeout == 0:
            self._rt.reactor.poll_now()
        entries = self._rt.table.entries
        waiter: WaitWaiter | None = None
        with self._rt.lock:
            positions = self._ready_positions(refs, num_returns)
            if len(positions) < num_returns:
                pending = set()
                for ref in refs:
                    entry = entries.get(ref.id)
                    if entry is None:
                        pending.add(ref.id)  # of a generator: see _ready_positions
                    elif entry.state == PENDING:
                        pending.add(ref.id)
                        if not entry.fetching and not ref.id.startswith(self._rt.address):
                            self._rt.exchange.need(ref.id, entry, _ignore)
                if timeout == 0:
                    self._rt.reactor.flush_dirty()  # for those who look again and again
                else:
                    waiter = WaitWaiter(self._rt.reactor, pending, num_returns - len(positions))
                    self._rt.waits.append(waiter)
        if waiter is not None:
            try:
                self.block(waiter, deadline, f"{num_returns} of {len(refs)} objects in wait()")
            finally:
                with self._rt.lock:
                    self._rt.waits.remove(waiter)
                    positions = self._ready_positions(refs, num_returns)
        ready = [refs[position] for position in positions]
        if len(positions) == 1:
            position = positions[0]
            return ready, refs[:position] + refs[position + 1 :]
        chosen = set(positions)
        return ready, [ref for position, ref in enumerate(refs) if position not in chosen]

    def _ready_positions(self, refs: list[Any], limit: int) -> list[int]:
        entries = self._rt.table.entries
        found: list[int] = []
        for position, ref in enumerate(refs):
            entry = entries.get(ref.id)
            if entry is None:
                if type(ref) is ObjectRef:
                    raise self._unknown(ref)
                if not self._rt.streams.ready(ref.task, ref.position):
                    continue
            elif entry.state == PENDING:
                continue
            found.append(position)
            if len(found) == limit:
                break
        return found

    def block(
        self, waiter: EventWaiter, deadline: float | None, what: str, first: tuple[bytes, Entry] | None = None
    ) -> bool:
        """Wait for a waiter; tell the node if a worker's task waits, and ask why if it takes long."""
        reactor = self._rt.reactor
        if self._rt.kind == "worker" and not waiter.done:
            # Most waits are short; telling the node costs more than they last.
            soon = monotonic() + (0.0 if first is not None and self._unassigned(first[1]) else 0.001)
            if reactor.wait(waiter, soon if deadline is None else min(soon, deadline)):
                return True
            if self._rt.inbox.blocking(waiter):
                try:
                    return self._block(waiter, deadline, what, first)
                finally:
                    self._rt.inbox.resumed()
        return self._block(waiter, deadline, what, first)

    def _block(self, waiter: EventWaiter, deadline: float | None, what: str, first: tuple[bytes, Entry] | None) -> bool:
        def executor() -> bytes:
            task = first[1].task if first is not None else None
            return task.lease.address if task is not None and isinstance(task.lease, Connection) else b""

        return self._rt.patience.wait(waiter, deadline, what, executor)

    def _unassigned(self, entry: Entry) -> bool:
        task = entry.task
        return task is not None and type(task.function) is not str and task.lease is None

    def future(self, ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
        """``Engine.future``."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def deliver() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = self.get_many([ref], None)[0]
            except BaseException as error:  # noqa: BLE001 - user code raises what it likes
                future.set_exception(remote_errors.for_future(error))
            else:
                future.set_result(value)

        with self._rt.lock:
            entry = self._rt.table.entries.get(ref.id)
            if entry is None:
                raise self._unknown(ref)
            if entry.state == PENDING:
                self._rt.exchange.need(ref.id, entry, lambda *_: self._rt.reactor.after.append(deliver))
                self._rt.reactor.flush_dirty()
                return future
        deliver()
        return future


def _ignore(object_id: bytes, entry: Entry) -> None:
    """A waiter for its side effect: the value is fetched."""


#: Functions here that run user code (``__setstate__``) and are ready for whatever it raises.
UNPICKLING = frozenset({Values._load.__code__})  # noqa: SLF001 - of this very module
