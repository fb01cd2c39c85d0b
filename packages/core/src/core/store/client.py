"""The object store as drivers and workers see it.

Theory of operation
    The node lends *extents* of its arena. Objects are carved out of them without a message; the node learns of them
    in batches (``Sealed``), lately: an object that is dropped before anyone else could learn of it costs no message at
    all, and its range, whose pages are warm, is used for the next one at once.

    Whoever wants to read another's object asks the node for its place once (``Pin``). The place stays known, and
    pinned, until the process has no reference left (:meth:`StoreClient.forget`) and nothing looks at the bytes, or
    until the node wants to spill the object and nothing looks at it (``Evict``).

    A range of ours comes back with ``Reclaimed`` when its object is out of scope. If something here still looks at
    it, the range waits for that; nobody else needs to know.

Threads
    Every method may be called from any thread. One lock guards the tables; it is never held while ``request`` blocks,
    and *is* held while ``send`` queues, so that messages leave in the order of the changes they tell of. ``send`` must
    therefore neither block nor call back. ``request`` must keep the order too: what was sent before goes first.

One long module, because it has one owner of one piece of state: what this process holds of the arena.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from functools import partial
from operator import setitem
from typing import Any

from core.exceptions import ObjectStoreFullError, OutOfDiskError
from core.protocol import from_node, to_node
from core.store.allocator import ALIGNMENT, RangeAllocator, aligned
from core.store.arena import Arena, create_file
from core.store.held import Block, Held

#: Extents asked for at first, and at most; objects larger than that get an extent of their own size.
MIN_EXTENT, MAX_EXTENT = 16 << 20, 64 << 20
#: Room in front of a block's data for what serialization writes there when the block becomes an object.
HEADROOM = 4096
#: Sealed objects nobody asked for are announced after one to two times this many seconds.
ANNOUNCE_SECONDS = 0.25
#: After this many seconds without a new object, unused room beyond ``KEEP_IDLE`` bytes goes back to the node.
IDLE_SECONDS = 10.0
KEEP_IDLE = 1 << 20

Request = Callable[[Callable[[int], Any]], Any]


class StoreClient:
    """One process's part of the node's object store.

    Args:
        arena_fd: descriptor of the arena, received with ``Welcome``; may be closed afterwards.
        arena_bytes: its size.
        request: ``request(make)`` chooses a request number, sends ``make(number)`` to the node and blocks for the
            reply. Raises whatever the caller of the store should see when the node is gone.
        send: queues a message to the node without waiting.
    """

    def __init__(self, arena_fd: int, arena_bytes: int, request: Request, send: Callable[[Any], None]) -> None:
        self._arena = Arena(arena_fd, arena_bytes)
        self._request = request
        self._send = send
        self._lock = threading.Lock()
        #: room in our extents that no object has
        self._room = RangeAllocator()
        self._growth = min(MIN_EXTENT, aligned(arena_bytes // 32))
        self._max_growth = min(MAX_EXTENT, aligned(arena_bytes // 32))
        #: sealed objects whose place we know
        self._held: dict[bytes, Held] = {}
        #: how many of them are others'
        self._foreign = 0
        #: objects being written
        self._writing: dict[bytes, Held] = {}
        #: announced objects in our own extents, by offset, until ``Reclaimed`` or evicted
        self._own_at: dict[int, Held] = {}
        #: how many threads wait for the place of an object
        self._pinning: dict[bytes, int] = {}
        #: blocks that are no objects yet, by the offset of their data
        self._blocks: dict[int, Block] = {}
        #: objects nobody needs, in no other table, whose range waits for the last view; kept here because a weak
        #: reference to an anchor calls back only as long as it lives itself
        self._lingering: set[Held] = set()
        # what the node is to be told, in this order
        self._unannounced: dict[bytes, Held] = {}
        self._freed: list[bytes] = []
        self._unpinned: list[bytes] = []
        #: objects of which a view died, with its weak reference; added by callbacks in any thread, which consist of C
        #: functions only: no interrupt can be raised in them, and lost
        self._released: dict[Held, object] = {}
        self._aging: list[bytes] = []  # the patrol's memory
        self._aged_at = 0.0
        self._created = 0
        self._created_seen = 0
        self._idle_since = 0.0

    # -- writing ---------------------------------------------------------------------------------------------------

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        """Return writable room for a new object; :meth:`seal` or :meth:`abort` must follow.

        Objects larger than the arena, and those for which there is no room because everything in it is in use, are
        written straight to a file on disk.

        Raises:
            OutOfDiskError: there is no room on the disk either.
        """
        if nbytes > self._arena.size:
            return self._create_file(object_id, nbytes)
        try:
            held = Held(object_id, self._allocate(aligned(nbytes), hasty=True), nbytes, own=True)
        except ObjectStoreFullError:
            return self._create_file(object_id, nbytes)
        with self._lock:
            self._writing[object_id] = held
        return self._arena.writable(held.offset, nbytes)

    def seal(self, object_id: bytes) -> None:
        """Tell that the object is complete. It can be read here at once, elsewhere after :meth:`announce`."""
        with self._lock:
            held = self._writing.pop(object_id)
            if held.path:
                self._send(to_node.SealedFile(object_id, held.path, held.size))
            else:
                self._insert(held)

    def abort(self, object_id: bytes) -> None:
        """Give up an object that is being written; does nothing if it is not."""
        with self._lock:
            held = self._writing.pop(object_id, None)
            if held is None:
                return
            if held.path:
                # The node unlinks the file: it is the one that knows of it.
                self._send(to_node.SealedFile(object_id, held.path, held.size))
                self._send(to_node.Freed([object_id]))
            else:
                self._room.add(held.offset, held.room)

    def allocate_block(self, nbytes: int) -> tuple[Block, memoryview]:
        """Return room for data that may become an object later without being copied, and a writable view of it.

        If :meth:`adopt_block` is not called, the room is free again when nothing looks at the view any more.

        Raises:
            ObjectStoreFullError: everything in the store is in use, or the block is larger than the store.
            OutOfDiskError: there is no room on the disk to spill to.
        """
        size = HEADROOM + nbytes
        if aligned(size) > self._arena.size:
            raise ObjectStoreFullError(
                f"a block of {nbytes:,} bytes does not fit into the object store of {self._arena.size:,} bytes"
            )
        held = Held(b"", self._allocate(aligned(size)), size, own=True)
        held.dropped = True
        block = Block(held, held.offset + HEADROOM, nbytes)
        with self._lock:
            view = held.pinned_view(self._arena, partial(setitem, self._released, held))
            self._blocks[block.start] = block
        return block, view[HEADROOM:]

    def find_block(self, data: memoryview) -> Block | None:
        """Return the block, not yet an object, whose data is exactly ``data`` (any contiguous writable buffer)."""
        if not self._blocks or data.readonly or not data.nbytes:
            return None
        import ctypes  # noqa: PLC0415 - only after allocate_block, which has imported it

        address = ctypes.addressof(ctypes.c_ubyte.from_buffer(data))
        with self._lock:
            block = self._blocks.get(address - self._arena.address())
            return block if block is not None and block.nbytes == data.nbytes else None

    def adopt_block(self, object_id: bytes, block: Block, head: bytes, data_offset: int) -> None:
        """Make the block the sealed object ``object_id``: ``head``, padding up to ``data_offset``, the block's data.

        The object's bytes are laid out as :class:`core.serialization.Parts` would: ``data_offset`` is the place of the
        data in the object, a multiple of 64 and at most :data:`HEADROOM`. The room in front that remains is free.

        Raises:
            ValueError: the head does not fit, or the block is an object already.
        """
        if data_offset > HEADROOM or data_offset % ALIGNMENT or len(head) > data_offset:
            raise ValueError(
                f"a head of {len(head)} bytes and data at {data_offset} do not fit the {HEADROOM} in front"
            )
        with self._lock:
            if self._blocks.pop(block.start, None) is not block:
                raise ValueError("the block is an object already")
            held = block.held
            start = block.start - data_offset
            view = self._arena.writable(start, data_offset)
            view[: len(head)] = head
            if start > held.offset:
                self._room.add(held.offset, start - held.offset)
            held.id, held.offset, held.size = object_id, start, data_offset + block.nbytes
            held.dropped = False
            self._insert(held)

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, object_id: bytes) -> memoryview | None:
        """Return the object's bytes, read-only; they stay in place as long as anything made of the view lives.

        Blocks while the node does not know of the object yet, at most about two seconds. None means the object is
        lost: its file is gone, or no process made it.
        """
        if self._released:
            self.drain_released()
        with self._lock:
            held = self._held.get(object_id)
            if held is not None:
                view = self._view(held)
                if view is not None:
                    return view
            self._pinning[object_id] = self._pinning.get(object_id, 0) + 1
            self._tell_unpinned()  # or an older Unpin would undo the Pin
        reply = None
        try:
            reply = self._request(lambda number: to_node.Pin(number, object_id))
        finally:
            with self._lock:
                view = self._pinned(object_id, reply)
        return view

    def contains(self, object_id: bytes) -> bool:
        """Tell whether :meth:`read` would answer without asking the node."""
        return object_id in self._held

    def forget(self, object_id: bytes) -> None:
        """Tell that this process holds no reference to the object any more: its pin ends with the last view."""
        with self._lock:
            held = self._held.get(object_id)
            if held is not None and not held.own:
                self._forget(held)

    def free(self, object_id: bytes) -> None:
        """Tell, as its owner, that the object is out of scope. Unknown ones may live elsewhere; the node is told."""
        with self._lock:
            held = self._held.get(object_id)
            if held is not None and not held.announced:
                self._drop_unannounced(held)
                held = self._held.get(object_id)  # an older copy, if the object was made twice here
                if held is None:
                    return
            self._freed.append(object_id)
            if held is not None and not held.own:
                self._forget(held)

    # -- telling the node ------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Tell the node of all sealed and freed objects; before a message that lets others learn of an object."""
        if self._released:
            self.drain_released()
        if self._unannounced or self._freed or self._unpinned:
            with self._lock:
                self._flush()

    @property
    def has_released(self) -> bool:
        """Whether :meth:`drain_released` has something to do."""
        return bool(self._released or self._freed or self._unpinned)

    @property
    def may_release(self) -> bool:
        """Whether :meth:`drain_released` may have something to do without any further call: others wait for that."""
        return bool(self._foreign or self._lingering or self._blocks or self.has_released)

    def drain_released(self) -> None:
        """Take notice of views that died; tell the node of frees and pins that ended. Cheap; call it often."""
        while self._released:
            with self._lock:
                try:
                    held, _ = self._released.popitem()
                except KeyError:
                    return  # another thread was faster
                if held.in_use():
                    continue
                if held.dropped:
                    self._drop(held)
                elif held.forgotten:
                    self._forget(held)
        if self._freed or self._unpinned:
            with self._lock:
                self._tell_freed()
                self._tell_unpinned()

    @property
    def needs_patrol(self) -> bool:
        """Whether :meth:`patrol` has something to do, now or after a while of idleness."""
        return bool(self._unannounced or self.has_released or self._room.total > KEEP_IDLE)

    def patrol(self, now: float) -> None:
        """Do what is due by time: tell of frees, announce old objects, return idle room. Call it every few ms.

        Args:
            now: a monotonic clock in seconds.
        """
        self.drain_released()
        with self._lock:
            if now - self._aged_at >= ANNOUNCE_SECONDS:
                self._aged_at = now
                old = [held for key in self._aging if (held := self._unannounced.pop(key, None)) is not None]
                self._tell_sealed(old)
                self._aging = list(self._unannounced)
            self._tell_freed()
            self._tell_unpinned()
            if self._created != self._created_seen or not self._idle_since:
                self._created_seen, self._idle_since = self._created, now
            elif now - self._idle_since >= IDLE_SECONDS and self._room.total > KEEP_IDLE:
                self._idle_since = now
                self._send(to_node.ExtentReturn(self._room.clear()))

    def handle(self, message: from_node.Evict | from_node.Reclaimed | from_node.Trim) -> None:
        """Do what the node asks."""
        self.drain_released()
        with self._lock:
            if isinstance(message, from_node.Evict):
                idle = [object_id for object_id in message.objects if self._let_go(object_id)]
                self._send(to_node.EvictReply(message.request, idle))
            elif isinstance(message, from_node.Reclaimed):
                for offset, size in message.ranges:
                    self._reclaim(offset, size)
            else:
                self._flush()
                # Sent even if empty: it is the answer the node waits for.
                self._send(to_node.ExtentReturn(self._room.clear()))

    def close(self) -> None:
        """Forget everything; views that live on stay valid."""
        with self._lock:
            for table in (self._held, self._writing, self._own_at, self._unannounced, self._blocks):
                table.clear()
            self._freed.clear()
            self._unpinned.clear()
            self._room.clear()
            self._arena.close()

    # -- under the lock --------------------------------------------------------------------------------------------

    def _insert(self, held: Held) -> None:
        older = self._held.get(held.id)  # a task that ran again makes its objects again
        if older is not None and not older.announced:
            self._drop_unannounced(older)
        elif older is not None and not older.own:
            self._forget(older)
        held.previous = self._held.get(held.id)
        self._held[held.id] = held
        self._unannounced[held.id] = held

    def _drop_unannounced(self, held: Held) -> None:
        del self._unannounced[held.id]
        self._remove(held)
        self._drop(held)

    def _remove(self, held: Held) -> None:
        """Take a copy out of the tables."""
        held.removed = True
        self._foreign -= not held.own
        newest = self._held.get(held.id)
        if newest is held:
            if held.previous is None:
                del self._held[held.id]
            else:
                self._held[held.id] = held.previous
        elif newest is not None:
            for copy in newest.copies():
                if copy.previous is held:
                    copy.previous = held.previous
        if self._own_at.get(held.offset) is held:
            del self._own_at[held.offset]

    def _drop(self, held: Held) -> None:
        """Nobody needs the object any more and its range is ours: reuse it as soon as nothing looks at it."""
        if held.in_use():
            held.dropped = True
            self._lingering.add(held)
            return
        held.dropped = False
        self._lingering.discard(held)
        if not held.id:
            self._blocks.pop(held.offset + HEADROOM, None)
        self._room.add(held.offset, held.room)

    def _reclaim(self, offset: int, size: int) -> None:
        held = self._own_at.get(offset)
        if held is None:
            self._room.add(offset, size)
            return
        self._remove(held)
        self._drop(held)

    def _let_go(self, object_id: bytes) -> bool:
        """Forget the announced places of an object; False if something here looks at one, or is about to."""
        if object_id in self._pinning:
            return False
        newest = self._held.get(object_id)
        if newest is None:
            return True
        copies = newest.copies()
        if any(held.in_use() for held in copies):
            return False
        for held in copies:
            if held.announced:
                self._remove(held)
        return True

    def _forget(self, held: Held) -> None:
        """No reference to another's object is left here: unpin it as soon as nothing looks at it."""
        held.forgotten = not held.removed
        if held.forgotten and not held.in_use():
            self._unpin(held)

    def _unpin(self, held: Held) -> None:
        self._remove(held)
        self._unpinned.append(held.id)

    def _view(self, held: Held) -> memoryview | None:
        try:
            return held.pinned_view(self._arena, partial(setitem, self._released, held)).toreadonly()
        except OSError as error:
            # The spill file is gone or cut short: as good as lost. Anything else is this process's trouble (too many
            # open files, say), and the object is still there.
            if not held.path or error.errno not in (None, errno.ENOENT):
                raise
            self._unpin(held)
            return None

    def _pinned(self, object_id: bytes, reply: Any) -> memoryview | None:
        """Take note of the answer to a ``Pin``."""
        self._pinning[object_id] -= 1
        if not self._pinning[object_id]:
            del self._pinning[object_id]
        if reply is None or reply.state == "lost":
            return None
        held = self._held.get(object_id)
        if held is None:
            held = Held(object_id, reply.offset, reply.size, own=False, path=reply.path)
            self._held[object_id] = held
            self._foreign += 1
        return self._view(held)

    def _tell_sealed(self, objects: list[Held]) -> None:
        if not objects:
            return
        for held in objects:
            held.announced = True
            self._own_at[held.offset] = held
        self._send(to_node.Sealed([(held.id, held.offset, held.size) for held in objects]))

    def _tell_freed(self) -> None:
        if self._freed:
            self._send(to_node.Freed(self._freed))
            self._freed = []

    def _tell_unpinned(self) -> None:
        if self._unpinned:
            self._send(to_node.Unpin(self._unpinned))
            self._unpinned = []

    def _flush(self) -> None:
        if self._unannounced:
            objects = list(self._unannounced.values())
            self._unannounced.clear()
            self._tell_sealed(objects)
        self._tell_freed()
        self._tell_unpinned()

    # -- room ------------------------------------------------------------------------------------------------------

    def _allocate(self, size: int, *, hasty: bool = False) -> int:
        if self._released:
            self.drain_released()
        with self._lock:
            self._created += 1
            offset = self._room.allocate(size)
            if offset is not None:
                return offset
            self._flush()  # what the node knows of, it can spill or reclaim
            preferred = max(size, self._growth)
            self._growth = min(2 * self._growth, self._max_growth)
        reply = self._request(lambda number: to_node.ExtentRequest(number, size, preferred, hasty))
        if reply.error:
            raise _error(reply)
        with self._lock:
            if reply.size > size:
                self._room.add(reply.offset + size, reply.size - size)
        return int(reply.offset)

    def _create_file(self, object_id: bytes, nbytes: int) -> memoryview:
        reply = self._request(lambda number: to_node.SpillFileRequest(number, object_id, nbytes))
        if reply.error:
            raise _error(reply)
        try:
            view = create_file(reply.path, nbytes)
        except OSError as error:
            raise OutOfDiskError(
                f"an object of {nbytes:,} bytes has no room in the object store ({self._arena.size:,} bytes), and none "
                f"on the disk at {reply.path}: {error}"
            ) from error
        with self._lock:
            self._writing[object_id] = Held(object_id, 0, nbytes, own=True, path=reply.path)
        return view


def _error(reply: Any) -> ObjectStoreFullError | OutOfDiskError:
    return (OutOfDiskError if reply.error == "disk" else ObjectStoreFullError)(reply.reason)
