"""What processes tell each other about objects: values on request, interest in them, the end of it.

All methods are called under the runtime's lock, except ``adopt_ref`` and ``note_serialized``, which take it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import exceptions, ids
from core.protocol import peer
from core.protocol.records import DeathCause
from core.refs import ObjectRef
from core.runtime import causes
from core.runtime.connection import Connection
from core.runtime.objects import FAILED, INLINE, PENDING, STORED, Entry
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

monotonic = time.monotonic
_LOST = "its owner does not know it any more, because every counted reference to it was gone"


class Exchange:
    """Owner's and borrower's side of every object this process knows (see the module's docstring)."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def fetch(self, connection: Connection, message: peer.Fetch) -> None:
        object_id = message.object_id
        entry = self._rt.table.entries.get(object_id)
        if entry is None:
            error = causes.pack(exceptions.ObjectLostError(object_id.hex(), _LOST))
            self._rt.send(connection, peer.Fetched(object_id, peer.Value("e", error)))
            return
        if message.lost and entry.state == STORED:
            self._rt.lineage.recover(object_id, entry)
        if entry.state == PENDING:
            waiters = entry.waiters if entry.waiters is not None else []
            waiters.append(lambda _, known: self._answer_fetch(connection, object_id, known))
            entry.waiters = waiters
        else:
            self._answer_fetch(connection, object_id, entry)

    def _answer_fetch(self, connection: Connection, object_id: bytes, entry: Entry) -> None:
        if not connection.closed:
            connection.out.append(peer.Fetched(object_id, self.value_of(object_id, entry)))
            self._rt.reactor.flush(connection, monotonic())

    def value_of(self, object_id: bytes, entry: Entry) -> peer.Value:
        """Return the message form of a settled entry."""
        if entry.state == INLINE:
            return peer.Value("i", entry.data, contained=entry.contained)
        if entry.state == STORED:
            self.announce()
            return peer.Value("s", b"", entry.size, entry.contained)
        return peer.Value("e", entry.data)

    def announce(self) -> None:
        """Let the node know of all objects written here, before others hear of them (under the lock)."""
        self._rt.store.announce()
        if self._rt.soon:
            self._rt.flush_node()

    def fetched(self, connection: Connection, message: peer.Fetched) -> None:
        entry = self._rt.table.entries.get(message.object_id)
        if entry is not None and entry.fetching:
            entry.fetching = False
            if entry.state == PENDING:
                self._rt.settling.fulfil(connection, message.object_id, entry, message.value)

    def borrow(self, connection: Connection, message: peer.Borrow) -> None:
        unknown: list[bytes] = []
        stored: list[tuple[bytes, int]] = []
        for object_id in message.objects:
            if not self._rt.table.borrow(object_id, connection.address):
                unknown.append(object_id)
                continue
            entry = self._rt.table.entries[object_id]
            if entry.state == STORED and not entry.contained:
                stored.append((object_id, entry.size))
        if stored:
            self.announce()
        self._rt.send(connection, peer.Borrowed(message.number, unknown, stored))

    def borrowed(self, connection: Connection, message: peer.Borrowed) -> None:
        for object_id, size in message.stored:
            entry = self._rt.table.entries.get(object_id)
            # The answer to a Fetch is the later word: that one may have told the owner that this copy is lost.
            if entry is not None and entry.state == PENDING and not entry.fetching:
                self._rt.settling.fulfil(connection, object_id, entry, peer.Value("s", b"", size))
        self._rt.borrowing.answered(message)

    def release(self, connection: Connection, message: peer.Release) -> None:
        for object_id in message.objects:
            self._rt.table.unborrow(object_id, connection.address)

    def owner_died(self, address: bytes, cause: DeathCause) -> None:
        error = b""
        for object_id, entry in self._rt.table.of_owner(address):
            if not error:
                error = causes.pack(
                    exceptions.OwnerDiedError(
                        object_id.hex(),
                        f"its owner (process {address.hex()}) is dead: {causes.describe(cause)}. Values live as long "
                        "as the process that made them with put() or called the task",
                    )
                )
            was_pending = entry.state == PENDING
            if entry.state == STORED:
                self._rt.store.forget(object_id)
            entry.state, entry.data, entry.fetching = FAILED, error, False
            if was_pending:
                self._rt.settling.settled(object_id, entry)

    def unused(self, object_id: bytes, entry: Entry) -> None:
        if entry.state == STORED and not entry.released:
            self._rt.store.free(object_id)
            entry.released = True
            contained, entry.contained = entry.contained, ()
            for inner in contained:
                self._rt.table.unpin(inner)
        elif entry.state == INLINE:
            self._rt.actors.handles_gone(object_id)

    def freed(self, object_id: bytes, entry: Entry) -> None:
        if entry.state == STORED:
            if not entry.released:
                self._rt.store.free(object_id)
            task: Task | None = entry.task
            if task is not None:
                task.stored -= 1
                if task.stored <= 0:
                    self._rt.lineage.retire(task)
        entry.task = None
        for inner in entry.contained:
            self._rt.table.unpin(inner)
        if entry.state == INLINE:
            self._rt.actors.handles_gone(object_id)

    def forgotten(self, object_id: bytes, entry: Entry) -> None:
        if entry.state == STORED:
            self._rt.store.forget(object_id)
        for inner in entry.contained:
            self._rt.table.unpin(inner)
        if self._rt.actors.busy(object_id):
            # Calls through the last handle are unfinished: stay registered with the creator until they are.
            self._rt.table.entries[object_id] = entry
            self._rt.actors.forget_later(object_id)
            return
        if entry.state != FAILED or ids.owner_of(object_id) not in self._rt.peers.dead:
            self._rt.borrowing.release(object_id)

    def orphans(self, objects: list[bytes]) -> None:
        """A process died that had made objects of ours: give up those that it did not tell of, or that failed."""
        for object_id in objects:
            entry = self._rt.table.entries.get(object_id)
            if entry is None or entry.state not in (PENDING, STORED):
                self._rt.store.free(object_id)
        self.announce()

    def unknown_objects(self, objects: list[bytes]) -> None:
        for object_id in objects:
            entry = self._rt.table.entries.get(object_id)
            if entry is not None and entry.state == PENDING:
                error = causes.pack(exceptions.OwnerDiedError(object_id.hex(), _LOST))
                self._rt.settling.fail_entry(object_id, entry, error)

    def adopt_ref(self, object_id: bytes) -> ObjectRef[Any]:
        """Return a counted reference for an id that came out of a pickle."""
        with self._rt.lock:
            entry = self._rt.table.entries.get(object_id)
            if entry is None:
                entry = self._rt.table.entries[object_id] = Entry()
                if self._rt.table.owned(object_id):
                    entry.state = FAILED
                    entry.data = causes.pack(exceptions.ObjectLostError(object_id.hex(), _LOST))
                else:
                    self._rt.borrowing.borrow(object_id)
            entry.local += 1
        return ObjectRef(object_id)

    def note_serialized(self, ref: ObjectRef[Any]) -> None:
        """A reference is being pickled in this thread."""
        found = self._rt.packer.collecting()
        if found is not None:
            found.append(ref.id)
        else:
            # Pickled out of band (by the user): nobody can know when the bytes are gone, so it stays.
            with self._rt.lock:
                self._rt.table.pin(ref.id)

    def need(self, object_id: bytes, entry: Entry, waiter: Callable[[bytes, Entry], None]) -> None:
        """Call ``waiter`` once the pending object is there; ask its owner for it if that is not us."""
        if entry.waiters is None:
            entry.waiters = [waiter]
        else:
            entry.waiters.append(waiter)
        if not entry.fetching and not object_id.startswith(self._rt.address):
            entry.fetching = True
            if not self._rt.peers.send(ids.owner_of(object_id), peer.Fetch(object_id)):
                entry.fetching = False
                owner = ids.owner_of(object_id)
                if owner in self._rt.peers.dead:
                    self.owner_died(owner, self._rt.peers.dead[owner])

    def resolve(self, dependencies: tuple[tuple[bytes, int, str], ...]) -> tuple[peer.Dependency, ...]:
        """Return the dependencies of a task with their values (all are there)."""
        entries = self._rt.table.entries
        return tuple(
            peer.Dependency(object_id, self.value_of(object_id, entries[object_id]), index, name)
            for object_id, index, name in dependencies
        )

    def owns_anything(self) -> bool:
        """Tell whether objects live here that somebody may still need (under the lock)."""
        return any(self._rt.table.owned(object_id) for object_id in self._rt.table.entries)
