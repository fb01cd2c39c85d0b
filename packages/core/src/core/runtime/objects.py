"""The ownership table: every object this process owns or borrows, its value or place, and who still needs it.

Counting. An entry lives while ``local + pins > 0`` or somebody borrows it:

* ``local`` counts :class:`~core.refs.ObjectRef` instances in this process;
* ``pins`` counts uses without an instance: arguments of unfinished tasks, references inside other values;
* ``borrowers`` (owner only) are the other processes that told us that they hold references.

An entry that only ``lineage`` holds on to (it was an argument of a task whose result may have to be made again) stays,
with its task, but its value does not: that would be made again, too.

References may die in any thread and inside the collector, so their death only lands in ``refs.dropped``;
:meth:`ObjectTable.drain` takes it into account at the next step of the runtime.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from core import ids, refs

PENDING, INLINE, STORED, FAILED = range(4)


class Entry(Struct, gc=False, eq=False):
    """What this process knows of one object."""

    #: PENDING, INLINE (``data`` is the value), STORED (in shared memory) or FAILED (``data`` is the error)
    state: int = PENDING
    data: bytes = b""
    local: int = 0
    pins: int = 0
    #: finished tasks that would need it to run again
    lineage: int = 0
    #: STORED, but nobody needed the bytes any more, so they are gone
    released: bool = False
    #: the task that makes it: while pending, and for lineage while STORED
    task: Any = None
    #: called with the id and entry once, when the state leaves PENDING (under the lock)
    waiters: list[Callable[[bytes, Entry], None]] | None = None
    borrowers: set[bytes] | None = None
    #: references inside the value, pinned as long as the entry lives
    contained: tuple[bytes, ...] = ()
    size: int = 0
    #: foreign objects: the value was asked for
    fetching: bool = False


class ObjectTable:
    """Entries by object id (see the module's docstring).

    Args:
        address: of this process: objects whose id starts with it are owned here.
        on_free: called (under the lock) when an owned entry dies.
        on_forget: called (under the lock) when a borrowed entry dies.
        on_unused: called (under the lock) when only lineage holds on to an owned entry.
    """

    def __init__(
        self,
        address: bytes,
        on_free: Callable[[bytes, Entry], None],
        on_forget: Callable[[bytes, Entry], None],
        on_unused: Callable[[bytes, Entry], None],
    ) -> None:
        self._address = address
        self._on_unused = on_unused
        self._on_free = on_free
        self._on_forget = on_forget
        self.entries: dict[bytes, Entry] = {}
        #: what each other process borrows from us
        self._borrowed_by: dict[bytes, set[bytes]] = {}
        #: entries that died and whose end is not told yet
        self._dead: deque[tuple[bytes, Entry]] = deque()
        self._burying = False

    def owned(self, identifier: bytes) -> bool:
        """Tell whether this process owns the object."""
        return identifier.startswith(self._address)

    def drain(self) -> None:
        """Take the death of references into account (under the lock)."""
        dropped = refs.dropped
        entries = self.entries
        while dropped:
            try:
                identifier = dropped.popleft()
            except IndexError:
                return
            entry = entries.get(identifier)
            if entry is not None:
                entry.local -= 1
                if entry.local <= 0 and entry.pins <= 0:
                    self._release(identifier, entry)

    def pin(self, identifier: bytes) -> None:
        """Count one more use of a known object."""
        entry = self.entries.get(identifier)
        if entry is not None:
            entry.pins += 1

    def unpin(self, identifier: bytes) -> None:
        """Take back one :meth:`pin`."""
        entry = self.entries.get(identifier)
        if entry is not None:
            entry.pins -= 1
            if entry.pins <= 0 and entry.local <= 0:
                self._release(identifier, entry)

    def keep_for_lineage(self, identifier: bytes) -> None:
        """Turn a :meth:`pin` into a hold of lineage."""
        entry = self.entries.get(identifier)
        if entry is not None:
            entry.lineage += 1
            self.unpin(identifier)

    def drop_from_lineage(self, identifier: bytes) -> None:
        """Take back one :meth:`keep_for_lineage`."""
        entry = self.entries.get(identifier)
        if entry is not None:
            entry.lineage -= 1
            self.check(identifier, entry)

    def check(self, identifier: bytes, entry: Entry) -> None:
        """Free an entry that nobody needs any more."""
        if entry.local <= 0 and entry.pins <= 0:
            self._release(identifier, entry)

    def _release(self, identifier: bytes, entry: Entry) -> None:
        # References that died were counted per instance, so instances waiting in ``dropped`` keep it above zero.
        if entry.borrowers:
            return
        if entry.lineage:
            if identifier.startswith(self._address):
                self._on_unused(identifier, entry)
            return
        del self.entries[identifier]
        self._dead.append((identifier, entry))
        if self._burying:
            return  # called from below: one death brings about the next, in chains of any length
        self._burying = True
        try:
            while self._dead:
                identifier, entry = self._dead.popleft()
                if identifier.startswith(self._address):
                    self._on_free(identifier, entry)
                else:
                    self._on_forget(identifier, entry)
        finally:
            self._burying = False

    def borrow(self, identifier: bytes, borrower: bytes) -> bool:
        """Register a borrower of an owned object; False if the object is not known."""
        entry = self.entries.get(identifier)
        if entry is None:
            return False
        if entry.borrowers is None:
            entry.borrowers = set()
        entry.borrowers.add(borrower)
        self._borrowed_by.setdefault(borrower, set()).add(identifier)
        return True

    def unborrow(self, identifier: bytes, borrower: bytes) -> None:
        """A borrower holds no reference any more."""
        theirs = self._borrowed_by.get(borrower)
        if theirs is not None:
            theirs.discard(identifier)
            if not theirs:
                del self._borrowed_by[borrower]
        entry = self.entries.get(identifier)
        if entry is not None and entry.borrowers is not None:
            entry.borrowers.discard(borrower)
            if not entry.borrowers:
                entry.borrowers = None
                self.check(identifier, entry)

    def borrower_gone(self, borrower: bytes) -> None:
        """A process died: it borrows nothing any more."""
        for identifier in list(self._borrowed_by.get(borrower, ())):
            self.unborrow(identifier, borrower)

    def of_owner(self, owner: bytes) -> list[tuple[bytes, Entry]]:
        """Return the borrowed entries whose owner is the given process."""
        return [(key, entry) for key, entry in self.entries.items() if ids.owner_of(key) == owner]

    @staticmethod
    def settle(identifier: bytes, entry: Entry) -> None:
        """Call and forget the entry's waiters: its state has left PENDING."""
        waiters = entry.waiters
        if waiters is not None:
            entry.waiters = None
            for waiter in waiters:
                waiter(identifier, entry)
