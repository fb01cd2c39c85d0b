"""Which objects leave the arena when room is needed."""

from __future__ import annotations

from collections.abc import Iterable

from core.state.directory_records import StoredObject
from core.store.allocator import RangeAllocator


def choose(free: RangeAllocator, movable: Iterable[StoredObject], nbytes: int, goal: int) -> list[StoredObject]:
    """Return the objects to evict so that they and free ranges make one contiguous range, in order of offset.

    Room is needed in one piece, so evicting enough bytes anywhere would not do: the least recently used objects are
    added one after the other until, merged with the free ranges, some piece is large enough; only what lies in that
    piece is evicted.

    Args:
        free: the free ranges; not changed.
        movable: objects that may leave, the least recently used first; read only as far as needed.
        nbytes: what is needed; if even all of ``movable`` does not give that, the answer is empty.
        goal: what is wanted, so that room for the next requests is made while the first is used.
    """
    room = RangeAllocator()
    for offset, size in free.ranges():
        room.add(offset, size)
    candidates = []
    for stored in movable:
        candidates.append(stored)
        room.add(stored.offset, stored.room)
        if room.largest >= goal:
            break
    if room.largest < nbytes:
        return []
    start, size = room.largest_range
    end = start + min(size, goal)
    inside = (stored for stored in candidates if start <= stored.offset < end)
    return sorted(inside, key=lambda stored: stored.offset)
