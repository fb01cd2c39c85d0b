"""The node's view of the object store: who has which part of the arena, and what moves to disk when it is full.

Theory of operation
    Every byte of the arena is free, lent to a process, or part of an announced object. A process turns lent bytes into
    objects (``ObjectsSealed``). When an object is out of scope (``ObjectsFreed``) and nobody pins it, its bytes are
    lent to its creator again (``GiveBack``), for whom they are warm and who alone knows whether something in it still
    looks at them; if the creator is gone or has let go of the place, they are free.

    Requests for extents are served first come first served. If the first cannot be served, room is made for it:

    1. processes with unused room are asked to return it (``AskTrim``);
    2. objects to evict are chosen: the least recently used ones that, together with free ranges, make one contiguous
       range of the size needed (and some more, so that writing the next ones overlaps with using the first);
    3. whoever may look at one of them is asked to let go (``AskEvict``). Every process answers for itself, under its
       own lock, so there is no race with a reader. Who does not answer in time counts as busy, for as long as it stays
       silent; a pin that comes in between makes the object busy;
    4. what everybody let go of is written to disk (``Spill``) and its range becomes free.

    If nothing more can be chosen and nothing has moved for a grace period, the request is refused, with sizes.

    A freed object that is still pinned takes part in this like any other, but is dropped instead of written.

Prior art: the Plasma store's eviction and Ray's local object manager. Rejected: reference-counting every read at the
node, as Plasma does: a round trip per ``get``; and a lock word per object in shared memory, as a killed reader would
hold it forever.

One long module, because a machine is read whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from core import ids
from core.state import directory_checks as checks
from core.state import directory_records as rec
from core.state.directory_records import ASKED, RESTING, SPILLING, Eviction, PinWait, Process, StoredObject, Waiter
from core.state.eviction import choose
from core.store.allocator import RangeAllocator, aligned

#: A process that has not answered ``AskEvict`` or ``AskTrim`` after so many seconds counts as busy.
ANSWER_SECONDS = 0.5
#: An object somebody looks at, or that could not be written, is left alone for so long.
BUSY_SECONDS = 0.5
#: A request is refused when nothing has moved for so long (Ray's figure).
GRACE_SECONDS = 2.0
#: The same for one who can write a file instead.
HASTY_SECONDS = 0.1
#: How long a pin waits for an object nobody announced.
UNKNOWN_SECONDS = 2.0
#: How long nothing is written to a disk that failed.
DISK_SECONDS = 3.0
#: How long a ``Freed`` that overtook its ``Sealed`` (another socket) is remembered.
EARLY_FREE_SECONDS = 2.0
#: How long objects answered with "lost" are remembered.
LOST_SECONDS = 60.0
#: At least so many bytes are evicted at a time, if that is not too much of the arena.
SPILL_BATCH = 64 << 20
#: Dead processes whose late objects are recognised.
MAX_DEAD = 4096


class Directory:
    """The object directory of one node; pure: events in, instructions out.

    Args:
        capacity: size of the arena in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free = RangeAllocator()
        self.free.add(0, capacity // aligned(1) * aligned(1))
        self.processes: dict[bytes, Process] = {}
        self.objects: dict[bytes, StoredObject] = {}
        #: objects in the arena, the least recently used first; the rest of ``objects`` is in files
        self.arena: dict[bytes, StoredObject] = {}
        self.waiting: deque[Waiter] = deque()
        self.pin_waits: dict[bytes, list[PinWait]] = {}
        self.evictions: dict[int, Eviction] = {}
        self._next_request = 1
        #: number of objects being written, and of objects whose holders were asked
        self.moving = 0
        self.asked = 0
        self._early_frees: dict[bytes, float] = {}
        self._lost: dict[bytes, float] = {}
        self._dead: dict[bytes, None] = {}
        #: nothing is written to disk before this time, because of ``disk_error``
        self.disk_bad_until = 0.0
        self.disk_error = ""
        #: when room was last gained
        self._progress = 0.0
        self._give_back: dict[bytes, list[tuple[int, int]]] = {}
        self._out: list[rec.Instruction] = []
        self._now = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            rec.ProcessJoined: self._joined,
            rec.ProcessGone: self._gone,
            rec.ExtentWanted: self._extent_wanted,
            rec.RangesReturned: self._returned,
            rec.ObjectsSealed: self._sealed,
            rec.FileSealed: self._file_sealed,
            rec.ObjectsFreed: self._freed,
            rec.PinWanted: self._pin_wanted,
            rec.ObjectsUnpinned: self._unpinned,
            rec.EvictAnswered: self._evict_answered,
            rec.Spilled: self._spilled,
            rec.SpillFailed: self._spill_failed,
            rec.FileLost: self._file_lost,
            rec.Tick: self._tick,
        }

    def handle(self, event: rec.Event, *, now: float) -> list[rec.Instruction]:
        """Take note of ``event`` at the monotonic time ``now``; return what is to be done, in order."""
        self._now = now
        self._out = []
        self._handlers[type(event)](event)
        if self._give_back:
            self._out += [rec.GiveBack(address, ranges) for address, ranges in self._give_back.items()]
            self._give_back = {}
        if self.waiting:
            self._serve()
        return self._out

    @property
    def restless(self) -> bool:
        """Whether time alone may change something, so that a ``Tick`` is needed every few hundredths of a second."""
        return bool(self.waiting or self.evictions or self.pin_waits)

    # -- processes -------------------------------------------------------------------------------------------------

    def _joined(self, event: rec.ProcessJoined) -> None:
        self.processes.setdefault(event.address, Process(event.address))

    def _gone(self, event: rec.ProcessGone) -> None:
        process = self.processes.pop(event.address, None)
        if process is None:
            return
        address = event.address
        self._dead[address] = None
        if len(self._dead) > MAX_DEAD:
            del self._dead[next(iter(self._dead))]
        self.waiting = deque(waiter for waiter in self.waiting if waiter.address != address)
        self._drop_pin_waits(address)
        for offset, size in process.lent.clear():
            self._add_free(offset, size)
        for eviction in process.evictions.values():
            del self.evictions[eviction.request]
        orphans: dict[bytes, list[bytes]] = {}
        for stored in list(self.objects.values()):
            stored.pins.discard(address)
            stored.waiting = [entry for entry in stored.waiting if entry[0] != address]
            if stored.creator == address:
                stored.creator, stored.creator_caches = b"", False
                if not stored.freed and ids.owner_of(stored.id) in self.processes:
                    orphans.setdefault(ids.owner_of(stored.id), []).append(stored.id)
            if ids.owner_of(stored.id) == address:
                stored.freed = True
            self._release_if_unused(stored)
        for eviction in process.evictions.values():
            self._count_answer(eviction, set())
        self._out += [rec.AskOwner(owner, objects) for owner, objects in orphans.items()]

    def _drop_pin_waits(self, address: bytes) -> None:
        for object_id, waits in list(self.pin_waits.items()):
            waits[:] = [wait for wait in waits if wait.address != address]
            if not waits:
                del self.pin_waits[object_id]

    # -- objects come and go ---------------------------------------------------------------------------------------

    def _sealed(self, event: rec.ObjectsSealed) -> None:
        process = self.processes.get(event.address)
        if process is None:
            return
        for object_id, offset, size in event.objects:
            if size < 0 or not process.lent.contains(offset, aligned(size)):
                text = f"object {object_id.hex()} at {offset} of {size} bytes is not in its extents"
                self._out.append(rec.Complain(event.address, text))
            elif self._is_unwanted(object_id):
                # The range stays lent; the creator learns that it may use it again.
                self._give_back.setdefault(event.address, []).append((offset, aligned(size)))
                process.trimmable = True
            else:
                process.lent.take(offset, aligned(size))
                stored = StoredObject(object_id, size, event.address, offset)
                self.arena[object_id] = stored
                self._add_object(stored)

    def _file_sealed(self, event: rec.FileSealed) -> None:
        if event.address not in self.processes or self._is_unwanted(event.object_id):
            self._out.append(rec.RemoveFile(event.path))
            return
        self._add_object(StoredObject(event.object_id, event.size, event.address, 0, event.path, creator_caches=False))

    def _is_unwanted(self, object_id: bytes) -> bool:
        """Tell whether a new copy of an object is of no use: there is one, or nobody will ever ask for it."""
        stored = self.objects.get(object_id)
        if stored is not None:
            # Made again by its task after the owner gave the old copy up: a pinned one is still there, and good.
            given_up = self._early_frees.pop(object_id, None) is not None
            stored.freed = given_up or ids.owner_of(object_id) in self._dead
            return True
        return self._early_frees.pop(object_id, None) is not None or ids.owner_of(object_id) in self._dead

    def _add_object(self, stored: StoredObject) -> None:
        self.objects[stored.id] = stored
        self._lost.pop(stored.id, None)
        for wait in self.pin_waits.pop(stored.id, ()):
            self._answer_pin(stored, wait.address, wait.request)

    def _freed(self, event: rec.ObjectsFreed) -> None:
        for object_id in event.objects:
            stored = self.objects.get(object_id)
            if stored is not None:
                if stored.freed:  # a copy that was made again is given up, before it is announced
                    self._early_frees[object_id] = self._now
                stored.freed = True
                self._release_if_unused(stored)
            elif self._lost.pop(object_id, None) is None:
                self._early_frees[object_id] = self._now

    def _release_if_unused(self, stored: StoredObject) -> None:
        """Free the room of an object that is out of scope and not pinned."""
        if not stored.freed or stored.pins or stored.phase == SPILLING or stored.gone:
            return
        self._forget(stored)
        if stored.path:
            self._out.append(rec.RemoveFile(stored.path))
            # A disk that was full may have room again.
            self.disk_bad_until = 0.0
            return
        creator = self.processes.get(stored.creator)
        if creator is None or (self.waiting and not stored.creator_caches):
            self._add_free(stored.offset, stored.room)
            return
        creator.lent.add(stored.offset, stored.room)
        creator.trimmable = True
        self._give_back.setdefault(creator.address, []).append((stored.offset, stored.room))

    def _forget(self, stored: StoredObject) -> None:
        stored.gone = True
        if stored.phase == ASKED:
            self._rest(stored)
        del self.objects[stored.id]
        self.arena.pop(stored.id, None)
        for address in stored.pins:
            self.processes[address].pins.discard(stored.id)

    # -- pins ------------------------------------------------------------------------------------------------------

    def _pin_wanted(self, event: rec.PinWanted) -> None:
        if event.address not in self.processes:
            return
        stored = self.objects.get(event.object_id)
        if stored is None:
            wait = PinWait(event.address, event.request, self._now + UNKNOWN_SECONDS)
            self.pin_waits.setdefault(event.object_id, []).append(wait)
        elif stored.phase == SPILLING:
            stored.waiting.append((event.address, event.request))
        else:
            self._answer_pin(stored, event.address, event.request)

    def _answer_pin(self, stored: StoredObject, address: bytes, request: int) -> None:
        process = self.processes[address]
        stored.pins.add(address)
        process.pins.add(stored.id)
        for eviction in process.evictions.values():
            eviction.repinned.add(stored.id)
        if stored.path:
            answer = rec.AnswerPin(address, request, stored.id, "file", 0, stored.size, stored.path)
        else:
            self.arena[stored.id] = self.arena.pop(stored.id)  # the most recently used now
            answer = rec.AnswerPin(address, request, stored.id, "arena", stored.offset, stored.size)
        self._out.append(answer)

    def _unpinned(self, event: rec.ObjectsUnpinned) -> None:
        for object_id in event.objects:
            stored = self.objects.get(object_id)
            if stored is not None:
                self._unpin(stored, event.address)
                self._release_if_unused(stored)

    def _unpin(self, stored: StoredObject, address: bytes) -> None:
        stored.pins.discard(address)
        process = self.processes.get(address)
        if process is not None:
            process.pins.discard(stored.id)

    def _answer_lost(self, object_id: bytes, waits: Iterable[tuple[bytes, int]]) -> None:
        self._lost[object_id] = self._now
        self._out += [rec.AnswerPin(address, request, object_id, "lost") for address, request in waits]

    # -- extents ---------------------------------------------------------------------------------------------------

    def _extent_wanted(self, event: rec.ExtentWanted) -> None:
        if event.address not in self.processes:
            return
        nbytes = aligned(event.nbytes)
        if nbytes > self.capacity:
            reason = f"{nbytes:,} bytes do not fit into the object store of {self.capacity:,} bytes"
            self._out.append(rec.RefuseExtent(event.address, event.request, "full", reason))
            return
        self.waiting.append(
            Waiter(event.address, event.request, nbytes, max(nbytes, aligned(event.preferred)), event.hasty)
        )

    def _returned(self, event: rec.RangesReturned) -> None:
        process = self.processes.get(event.address)
        if process is None:
            return
        process.trim_until = 0.0
        for offset, size in event.ranges:
            if process.lent.contains(offset, size) and not (offset | size) % aligned(1):
                process.lent.take(offset, size)
                self._add_free(offset, size)
            else:
                self._out.append(rec.Complain(event.address, f"range {offset}+{size} was not lent to it"))

    def _add_free(self, offset: int, size: int) -> None:
        self.free.add(offset, size)
        self._progress = self._now

    def _serve(self) -> None:
        while self.waiting:
            waiter = self.waiting[0]
            if not self._lend(waiter) and not self._press(waiter):
                return
            self.waiting.popleft()

    def _lend(self, waiter: Waiter) -> bool:
        size = min(waiter.preferred, self.free.largest)
        if size < waiter.nbytes:
            return False
        offset = self.free.allocate(size)
        assert offset is not None
        process = self.processes[waiter.address]
        process.lent.add(offset, size)
        process.trimmable = True
        self._out.append(rec.LendExtent(waiter.address, waiter.request, offset, size))
        return True

    # -- making room -----------------------------------------------------------------------------------------------

    def _press(self, waiter: Waiter) -> bool:
        """Make room for the first in the queue; True if that is hopeless and it was told so."""
        if waiter.since is None:
            waiter.since = self._now
        for process in self.processes.values():
            # A process may gain unused room without a message, so it is asked again now and then.
            if process.lent and (process.trimmable or process.trim_again_at <= self._now):
                process.trimmable = False
                process.trim_until = process.trim_again_at = self._now + ANSWER_SECONDS
                self._out.append(rec.AskTrim(process.address))
        if self.moving or self.asked:
            return False
        chosen = self._choose(waiter.nbytes)
        if chosen:
            self._evict(chosen)
            return False
        if any(process.trim_until > self._now for process in self.processes.values()):
            return False
        disk = self.disk_error if self.disk_bad_until > self._now else ""
        grace = HASTY_SECONDS if waiter.hasty and not disk else GRACE_SECONDS
        if self._now - max(waiter.since, self._progress) < grace:
            return False
        error = "disk" if disk else "full"
        self._out.append(rec.RefuseExtent(waiter.address, waiter.request, error, checks.verdict(self, waiter, disk)))
        return True

    def _choose(self, nbytes: int) -> list[StoredObject]:
        silent = {process.address for process in self.processes.values() if process.silent()}
        disk_is_bad = self.disk_bad_until > self._now
        movable = (
            stored
            for stored in self.arena.values()
            if stored.phase == RESTING
            and stored.busy_until <= self._now
            and (stored.freed or not disk_is_bad)
            and (not silent or silent.isdisjoint(stored.holders()))
        )
        goal = max(nbytes, min(max(4 * nbytes, SPILL_BATCH), self.capacity // 4))
        return choose(self.free, movable, nbytes, goal)

    def _evict(self, chosen: list[StoredObject]) -> None:
        asks: dict[bytes, list[StoredObject]] = {}
        for stored in chosen:
            holders = stored.holders()
            if not holders:
                self._spill(stored)
                continue
            stored.phase, stored.refused = ASKED, False
            self.asked += 1
            for address in holders:
                asks.setdefault(address, []).append(stored)
        for address, objects in asks.items():
            request = self._next_request
            self._next_request += 1
            eviction = Eviction(address, request, objects, self._now + ANSWER_SECONDS)
            self.evictions[request] = self.processes[address].evictions[request] = eviction
            for stored in objects:
                stored.asked.add(request)
            self._out.append(rec.AskEvict(address, request, [stored.id for stored in objects]))

    def _evict_answered(self, event: rec.EvictAnswered) -> None:
        eviction = self.evictions.get(event.request)
        if eviction is None or eviction.address != event.address:
            return
        del self.evictions[event.request]
        del self.processes[event.address].evictions[event.request]
        idle = set(event.idle) - eviction.repinned
        for stored in eviction.objects:
            if stored.id in idle and not stored.gone:
                self._unpin(stored, event.address)
                if stored.creator == event.address:
                    stored.creator_caches = False
        self._count_answer(eviction, idle)

    def _count_answer(self, eviction: Eviction, idle: set[bytes]) -> None:
        for stored in eviction.objects:
            if eviction.request in stored.asked:
                stored.asked.discard(eviction.request)
                stored.refused |= stored.id not in idle
                if not stored.asked:
                    self._all_answered(stored)
            self._release_if_unused(stored)  # that may have been the last pin

    def _all_answered(self, stored: StoredObject) -> None:
        self._rest(stored)
        if stored.freed and not stored.pins:
            return
        if stored.refused or stored.holders():
            stored.busy_until = self._now + BUSY_SECONDS
        elif self.disk_bad_until <= self._now:
            self._spill(stored)

    def _rest(self, stored: StoredObject) -> None:
        stored.phase = RESTING
        stored.asked.clear()
        self.asked -= 1

    def _spill(self, stored: StoredObject) -> None:
        stored.phase = SPILLING
        self.moving += 1
        self._out.append(rec.Spill(stored.id, stored.offset, stored.size))

    def _spilled(self, event: rec.Spilled) -> None:
        stored = self.objects[event.object_id]
        self._end_spill(stored)
        del self.arena[stored.id]
        self._add_free(stored.offset, stored.room)
        stored.path = event.path
        self._after_spill(stored)

    def _spill_failed(self, event: rec.SpillFailed) -> None:
        stored = self.objects[event.object_id]
        self._end_spill(stored)
        stored.busy_until = self._now + BUSY_SECONDS
        self.disk_bad_until = self._now + DISK_SECONDS
        self.disk_error = event.reason
        self._after_spill(stored)

    def _end_spill(self, stored: StoredObject) -> None:
        stored.phase = RESTING
        self.moving -= 1

    def _after_spill(self, stored: StoredObject) -> None:
        waiting, stored.waiting = stored.waiting, []
        for address, request in waiting:
            self._answer_pin(stored, address, request)
        self._release_if_unused(stored)

    def _file_lost(self, event: rec.FileLost) -> None:
        stored = self.objects.get(event.object_id)
        if stored is None or not stored.path:
            return
        self._forget(stored)
        self._out.append(rec.RemoveFile(stored.path))
        self._answer_lost(stored.id, ())

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self, _event: rec.Tick) -> None:
        now = self._now
        for eviction in list(self.evictions.values()):
            if eviction.deadline is not None and eviction.deadline <= now:
                eviction.deadline = None
                self._count_answer(eviction, set())
        for object_id, waits in list(self.pin_waits.items()):
            late = [wait for wait in waits if wait.deadline <= now]
            if late:
                waits[:] = [wait for wait in waits if wait.deadline > now]
                self._answer_lost(object_id, [(wait.address, wait.request) for wait in late])
                if not waits:
                    del self.pin_waits[object_id]
        _expire(self._early_frees, now - EARLY_FREE_SECONDS)
        _expire(self._lost, now - LOST_SECONDS)

    def validate(self) -> None:
        """Check every invariant; for tests.

        Raises:
            AssertionError: one does not hold.
        """
        checks.check(self)


def _expire(times: dict[bytes, float], before: float) -> None:
    """Drop the entries older than ``before``; the dict is in order of time."""
    while times:
        key = next(iter(times))
        if times[key] > before:
            return
        del times[key]
