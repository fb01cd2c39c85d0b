"""The object store's service in the node daemon: the skin of :class:`core.state.directory.Directory`.

It owns the arena (a memfd, or an unlinked file where there is none), turns messages into events and instructions into
messages, and has objects written to disk by a :class:`~core.node.spill.Spiller`.
"""

from __future__ import annotations

import logging
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import ids
from core.node.spill import RESERVE, SpillDirectory, Spiller
from core.protocol import from_node, to_node
from core.state import directory_records as rec
from core.state.directory import Directory
from core.store.allocator import RangeAllocator
from core.store.arena import Arena

logger = logging.getLogger(__name__)

#: Seconds between two ticks while time alone may change something.
TICK_SECONDS = 0.05
#: After this many seconds without a new extent, pages of free ranges go back to the system.
IDLE_SECONDS = 10.0
#: At most so many bytes at a time, since that takes the kernel 20 ms.
_DISCARD_PIECE = 64 << 20
#: At most one line about a failing disk is logged in so many seconds.
_LOG_SECONDS = 30.0


class ObjectService:
    """All methods are called in the node's loop; only ``post`` is called from the spill thread.

    Args:
        session_dir: the session's directory.
        capacity: size of the arena in bytes, rounded up to whole pages. Memory is used as it is touched.
        send: ``send(address, message)`` to a driver or worker; must ignore unknown addresses.
        post: ``post(call)`` runs ``call()`` in the loop soon; thread-safe.
        clock: monotonic time in seconds; the same that ``tick`` is called with.
        spill_parent: where spilled objects go (see :class:`~core.node.spill.SpillDirectory`).
    """

    def __init__(
        self,
        session_dir: Path,
        capacity: int,
        send: Callable[[bytes, Any], None],
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float] = time.monotonic,
        spill_parent: str = "",
    ) -> None:
        #: size of the arena
        self.arena_bytes = -(-capacity // mmap.PAGESIZE) * mmap.PAGESIZE
        #: its descriptor, for ``Welcome``
        try:
            self.arena_fd = create_arena(self.arena_bytes, session_dir)
            self._arena = Arena(self.arena_fd, self.arena_bytes)
        except (OSError, OverflowError) as error:
            text = f"no object store of {self.arena_bytes:,} bytes is to be had: {error}; choose object_store_memory"
            raise OSError(text) from error
        self._directory = Directory(self.arena_bytes)
        self._send = send
        self._post = post
        self._clock = clock
        self._files = SpillDirectory(session_dir, spill_parent)
        self._spiller = Spiller(self.arena_fd, self._files, self._spill_done)
        #: files given to processes for objects larger than the arena, by process
        self._granted: dict[bytes, set[str]] = {}
        #: ranges whose pages may be in memory
        self._touched = RangeAllocator()
        self._lent_at = self._ticked_at = clock()
        #: when a failing disk was last logged
        self._logged_at = self._lent_at - _LOG_SECONDS
        self._closed = False
        self._performers: dict[type, Callable[[Any], None]] = {
            rec.LendExtent: self._lend,
            rec.RefuseExtent: lambda do: send(
                do.address, from_node.ExtentReply(do.request, error=do.error, reason=do.reason)
            ),
            rec.AnswerPin: self._answer_pin,
            rec.AskEvict: lambda do: send(do.address, from_node.Evict(do.request, do.objects)),
            rec.AskTrim: lambda do: send(do.address, from_node.Trim()),
            rec.AskOwner: lambda do: send(do.address, from_node.Orphans(do.objects)),
            rec.GiveBack: lambda do: send(do.address, from_node.Reclaimed(do.ranges)),
            rec.Spill: lambda do: self._spiller.spill(do.object_id, do.offset, do.size),
            rec.RemoveFile: lambda do: self._spiller.remove(do.path),
            rec.Complain: lambda do: logger.warning("process %s: %s; ignored", do.address.hex(), do.text),
        }

    # -- what the node tells ---------------------------------------------------------------------------------------

    def process_joined(self, address: bytes) -> None:
        """A driver or worker is connected; before its first message."""
        self._feed(rec.ProcessJoined(address))

    def process_gone(self, address: bytes) -> None:
        """A driver or worker is dead; after its last message."""
        for path in self._granted.pop(address, ()):
            self._spiller.remove(path)
        self._feed(rec.ProcessGone(address))

    def handle(self, address: bytes, message: Any) -> bool:
        """Take a message of the process at ``address``; False if it is none of the store's."""
        translate = _EVENTS.get(type(message))
        if translate is not None:
            self._feed(translate(address, message))
        elif type(message) is to_node.SpillFileRequest:
            self._grant_file(address, message)
        elif type(message) is to_node.SealedFile:
            self._file_sealed(address, message)
        else:
            return False
        return True

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do; None for some time in the next seconds."""
        return self._ticked_at + TICK_SECONDS if self._directory.restless else None

    def tick(self, now: float) -> None:
        """Do what is due by time.

        Args:
            now: the time by ``clock``.
        """
        self._ticked_at = now
        if self._directory.restless:
            self._feed(rec.Tick())
        if now - self._lent_at >= IDLE_SECONDS and self._touched:
            self._discard_idle_pages()

    def list_objects(self) -> list[dict[str, Any]]:
        """Return one record per object of the store, for the state API."""
        return [
            {
                "object_id": stored.id.hex(),
                "object_size": stored.size,
                "owner": ids.owner_of(stored.id).hex(),
                "creator": stored.creator.hex(),
                "location": "disk" if stored.path else "memory",
                "pins": len(stored.pins),
                "out_of_scope": stored.freed,
            }
            for stored in self._directory.objects.values()
        ]

    def stats(self) -> dict[str, int]:
        """Return sizes in bytes: capacity, free, lent, objects in memory, objects on disk."""
        directory = self._directory
        return {
            "capacity": self.arena_bytes,
            "free": directory.free.total,
            "lent": sum(process.lent.total for process in directory.processes.values()),
            "objects": sum(stored.room for stored in directory.arena.values()),
            "spilled": sum(stored.size for stored in directory.objects.values() if stored.path),
        }

    def close(self) -> None:
        """End the spill thread, remove the spilled objects, drop the arena."""
        if self._closed:
            return
        self._closed = True
        self._spiller.close()
        self._files.remove()
        self._arena.close()
        os.close(self.arena_fd)

    # -- instructions ----------------------------------------------------------------------------------------------

    def _feed(self, event: rec.Event) -> None:
        for instruction in self._directory.handle(event, now=self._clock()):
            self._performers[type(instruction)](instruction)

    def _lend(self, do: rec.LendExtent) -> None:
        self._lent_at = self._clock()
        self._touched.discard(do.offset, do.size)
        self._touched.add(do.offset, do.size)
        self._send(do.address, from_node.ExtentReply(do.request, do.offset, do.size))

    def _answer_pin(self, do: rec.AnswerPin) -> None:
        if do.state == "file" and not _intact(do.path, do.size):
            logger.warning("the file of spilled object %s is missing or cut short: it is lost", do.object_id.hex())
            self._send(do.address, from_node.PinReply(do.request, do.object_id, "lost"))
            self._post(lambda: self._feed(rec.FileLost(do.object_id)))
            return
        self._send(do.address, from_node.PinReply(do.request, do.object_id, do.state, do.offset, do.size, do.path))

    def _grant_file(self, address: bytes, message: to_node.SpillFileRequest) -> None:
        try:
            path = self._files.new_file(message.object_id)
            free = self._files.free_bytes()
        except OSError as error:
            path, free = "", 0
            reason = f"the directory for spilled objects cannot be used: {error}"
        else:
            reason = (
                f"an object of {message.size:,} bytes is larger than the object store ({self.arena_bytes:,} bytes) and "
                f"does not fit on the disk at {self._files.path} either: {free:,} bytes are free there. "
                "Free disk space or set SKATE_SPILL_DIR to a larger disk."
            )
        if free < message.size + RESERVE:
            self._send(address, from_node.SpillFileReply(message.request, error="disk", reason=reason))
            return
        self._granted.setdefault(address, set()).add(path)
        self._send(address, from_node.SpillFileReply(message.request, path))

    def _file_sealed(self, address: bytes, message: to_node.SealedFile) -> None:
        granted = self._granted.get(address, set())
        if message.path not in granted:
            logger.warning("process %s names a spill file it was not given; ignored", address.hex())
            return
        granted.discard(message.path)
        self._feed(rec.FileSealed(address, message.object_id, message.path, message.size))

    def _spill_done(self, object_id: bytes, path: str, error: str) -> None:
        """In the spill thread."""
        event = rec.SpillFailed(object_id, error) if error else rec.Spilled(object_id, path)
        self._post(lambda: self._spill_ended(event))

    def _spill_ended(self, event: rec.Spilled | rec.SpillFailed) -> None:
        if self._closed:
            return
        now = self._clock()
        if isinstance(event, rec.SpillFailed) and now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            logger.warning(
                "objects cannot be moved to disk: %s. What was spilled before stays readable; trying again "
                "every few seconds.",
                event.reason,
            )
        self._feed(event)

    def _discard_idle_pages(self) -> None:
        for offset, size in self._directory.free.ranges():
            for start, length in self._touched.overlap(offset, size):
                piece = min(length, _DISCARD_PIECE)
                self._arena.discard_pages(start, piece)
                self._touched.discard(start, piece)
                return


_EVENTS: dict[type, Callable[[bytes, Any], rec.Event]] = {
    to_node.ExtentRequest: lambda address, m: rec.ExtentWanted(address, m.request, m.nbytes, m.preferred, m.hasty),
    to_node.ExtentReturn: lambda address, m: rec.RangesReturned(address, m.ranges),
    to_node.Sealed: lambda address, m: rec.ObjectsSealed(address, m.objects),
    to_node.Freed: lambda address, m: rec.ObjectsFreed(address, m.objects),
    to_node.Pin: lambda address, m: rec.PinWanted(address, m.request, m.object_id),
    to_node.Unpin: lambda address, m: rec.ObjectsUnpinned(address, m.objects),
    to_node.EvictReply: lambda address, m: rec.EvictAnswered(address, m.request, m.idle),
}


#: What :meth:`ObjectService.handle` takes.
MESSAGES = (*_EVENTS, to_node.SpillFileRequest, to_node.SealedFile)


def create_arena(size: int, directory: Path) -> int:
    """Return the descriptor of a new anonymous file of ``size`` bytes, all zeros, that uses memory as it is written.

    A memfd; where there is none, an unlinked file (mode 0600) in shared memory, if there is room, or in ``directory``.
    Either goes with its last user, however that ends.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("skate-store", os.MFD_CLOEXEC)
    else:
        import tempfile  # noqa: PLC0415 - 4 ms, and not needed on Linux

        shared = Path("/dev/shm")  # noqa: S108 - mkstemp makes a 0600 file of an unpredictable name, unlinked at once
        fd, path = tempfile.mkstemp(prefix="skate-store-", dir=shared if _has_room(shared, size) else directory)
        Path(path).unlink()
    os.ftruncate(fd, size)
    return fd


def _has_room(place: Path, size: int) -> bool:
    """Tell whether a directory can take so many bytes; writing to a full one by a mapping ends the process."""
    try:
        status = os.statvfs(place)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize >= size


def _intact(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size >= size  # noqa: PTH116 - on the path of every read of a spilled object
    except OSError:
        return False
