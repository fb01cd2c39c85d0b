"""What the object directory says when the store is full, and the invariants it keeps (both only read it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.state.directory_records import ASKED, SPILLING, Waiter
from core.store.allocator import ALIGNMENT

if TYPE_CHECKING:
    from core.state.directory import Directory


def verdict(directory: Directory, waiter: Waiter, disk: str) -> str:
    """Return, for people, why ``waiter`` cannot be served; ``disk``: what is wrong with the disk, if anything."""
    lent = sum(process.lent.total for process in directory.processes.values())
    in_use = sum(stored.room for stored in directory.arena.values())
    sizes = (
        f"{waiter.nbytes:,} contiguous bytes are needed; of the {directory.capacity:,} bytes of the object store, "
        f"{in_use:,} hold {len(directory.arena)} objects, {lent:,} are being written or kept by processes, and "
        f"{directory.free.total:,} are free (largest piece {directory.free.largest:,})"
    )
    if disk:
        return (
            f"the object store is full and its objects cannot be moved to disk ({disk}): {sizes}. "
            "Free disk space, set SKATE_SPILL_DIR to a larger disk, or drop references."
        )
    return (
        f"the object store is full of objects in use: {sizes}. Drop references, and values that were read from the "
        "store, or start with a larger object_store_memory."
    )


def check(directory: Directory) -> None:
    """Assert every invariant of the directory."""
    pieces = directory.free.ranges()
    for process in directory.processes.values():
        pieces += process.lent.ranges()
        assert all(process.address in directory.objects[object_id].pins for object_id in process.pins)
        for request, eviction in process.evictions.items():
            assert directory.evictions[request] is eviction and eviction.address == process.address
    pieces += [(stored.offset, stored.room) for stored in directory.arena.values()]
    pieces.sort()
    end = 0
    for offset, size in pieces:
        assert offset == end, f"hole or overlap at {end}: the next piece starts at {offset}"
        end = offset + size
    assert end == directory.capacity // ALIGNMENT * ALIGNMENT
    for object_id, stored in directory.objects.items():
        assert not stored.gone
        assert (object_id in directory.arena) == (not stored.path)
        assert not stored.freed or stored.pins or stored.phase == SPILLING, "an object out of scope was kept"
        assert stored.phase != SPILLING or not stored.holders(), "an object moves while someone may look at it"
        assert (stored.phase == ASKED) == bool(stored.asked)
        assert all(object_id in directory.processes[address].pins for address in stored.pins)
        assert not stored.waiting or stored.phase == SPILLING
        assert stored.asked <= directory.evictions.keys()
        assert not stored.creator or stored.creator in directory.processes
    phases = [stored.phase for stored in directory.objects.values()]
    assert directory.asked == phases.count(ASKED)
    assert directory.moving == phases.count(SPILLING)
    assert directory.arena.keys() <= directory.objects.keys()
    assert all(eviction.address in directory.processes for eviction in directory.evictions.values())
    assert all(waiter.address in directory.processes for waiter in directory.waiting)
    for object_id, waits in directory.pin_waits.items():
        assert object_id not in directory.objects, "a pin waits for an object that is there"
        assert waits and all(wait.address in directory.processes for wait in waits)
    if directory.waiting:
        assert directory.free.largest < directory.waiting[0].nbytes, "a request waits though there is room"
