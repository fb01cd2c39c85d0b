"""What one process knows of one object in the store: its place, and who in the process still needs it."""

from __future__ import annotations

import weakref
from typing import Any

from core.store.allocator import aligned
from core.store.arena import Arena, MappedFile, Released


class Held:
    """An object, or a block that may become one, whose place this process knows.

    Life of one made here: writing -> sealed -> announced -> its range is given back (``Reclaimed``) or spilled.
    Life of another's: pinned -> forgotten -> unpinned once nothing looks at it.
    """

    __slots__ = (
        "_anchor",
        "_anchor_offset",
        "announced",
        "dropped",
        "forgotten",
        "id",
        "offset",
        "own",
        "path",
        "previous",
        "removed",
        "size",
    )

    def __init__(self, object_id: bytes, offset: int, size: int, *, own: bool, path: str = "") -> None:
        #: empty for a block that no object lives in yet
        self.id = object_id
        self.offset = offset
        self.size = size
        #: it lies in an extent of this process
        self.own = own
        #: where it is if not in the arena
        self.path = path
        #: the node knows of it
        self.announced = not own
        #: it is in no table any more
        self.removed = False
        #: this process holds no reference to it
        self.forgotten = False
        #: nobody needs it: once nothing looks at it, its range is free
        self.dropped = False
        #: an older copy of the same object made here, for as long as its place is ours
        self.previous: Held | None = None
        self._anchor: weakref.ref[Any] | None = None
        #: where in the arena the anchor starts: before the object's start if the object was a block once
        self._anchor_offset = offset

    @property
    def room(self) -> int:
        """Bytes it takes in the arena."""
        return aligned(self.size)

    def in_use(self) -> bool:
        """Tell whether anything in this process looks at its bytes."""
        if self._anchor is None:
            return False
        if self._anchor() is None:
            self._anchor = None  # ends the cycle through the reference's callback
            return False
        return True

    def copies(self) -> list[Held]:
        """Return this and the older copies of the object."""
        found, held = [], self
        while True:
            found.append(held)
            if held.previous is None:
                return found
            held = held.previous

    def pinned_view(self, arena: Arena, released: Released) -> memoryview:
        """Return a view that keeps the place pinned: writable in the arena, read-only in a file.

        Raises:
            OSError: the file is gone or cut short.
        """
        anchor = None if self._anchor is None else self._anchor()
        if anchor is not None:
            view = memoryview(anchor)
            if self.path:
                return view
            start = self.offset - self._anchor_offset
            return view.cast("B")[start : start + self.size]
        if self.path:
            view, self._anchor = MappedFile(self.path, self.size).pinned(released)
        else:
            view, self._anchor = arena.pinned(self.offset, self.size, released)
            self._anchor_offset = self.offset
        return view


class Block:
    """Room in the store that has no object id yet; see ``StoreClient.allocate_block``."""

    __slots__ = ("held", "nbytes", "start")

    def __init__(self, held: Held, start: int, nbytes: int) -> None:
        self.held = held
        #: offset of its first byte of data in the arena; a multiple of 64
        self.start = start
        #: length of the data in bytes
        self.nbytes = nbytes
