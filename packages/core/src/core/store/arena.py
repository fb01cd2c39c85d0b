"""Mapped memory with pins: the node's arena and files of spilled objects.

A *pin* must live exactly as long as anything that looks at the bytes: a view, a slice of it, a numpy array or an Arrow
buffer made of it. All of these keep the *exporter* of the buffer alive. So a pinned view is exported by an object of
its own, the *anchor*, and a weak reference to the anchor tells when the last of them is gone.

* In the arena the anchor is a ctypes array laid over the mapping (0.4 us). ctypes makes one class per length and that
  takes 7 us, so lengths are rounded up to powers of two and the view is cut to size.
* For a file it is the file's own ``mmap``, which is thereby unmapped at the right moment.

The callback of a weak reference may run in any thread and inside the collector: it may only append to a deque.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Called with the dead weak reference of an anchor.
Released = Callable[[weakref.ref[Any]], object]

#: Longer copies let other threads have the interpreter: they are left to numpy, which copies without the interpreter
#: lock (and in one go: the C library writes around the cache only from some 500 MB on, which doubles the rate of a copy
#: whose source is in the cache). Where numpy is not loaded they are made in pieces of so many bytes, 0.3 ms each into
#: touched pages and 4 ms into fresh ones.
COPY_PIECE = 4 << 20


class Arena:
    """A shared file mapped whole, once, writable.

    Args:
        fd: descriptor of the memfd or file; it may be closed afterwards.
        size: its size in bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        self._map = mmap.mmap(fd, size)
        self._view = memoryview(self._map)
        #: ctypes array classes by log2 of their length
        self._classes: dict[int, Any] = {}
        self._base = 0

    def writable(self, offset: int, size: int) -> memoryview:
        """Return a writable view, not pinned: the caller keeps the range from being reused while it writes."""
        return self._view[offset : offset + size]

    def pinned(self, offset: int, size: int, released: Released) -> tuple[memoryview, weakref.ref[Any]]:
        """Return a writable view of the range and a weak reference to its anchor.

        ``released`` is called with that reference when nothing looks at the range through this view any more. Make
        the view read-only with ``toreadonly()`` before handing it to others.
        """
        anchor = self._array_class(offset, size).from_buffer(self._map, offset)
        return memoryview(anchor).cast("B")[:size], weakref.ref(anchor, released)

    def address(self) -> int:
        """Return the address the arena is mapped at in this process."""
        if not self._base:
            import ctypes  # noqa: PLC0415 - 1.4 ms of import that only readers of the store pay

            self._base = ctypes.addressof(ctypes.c_ubyte.from_buffer(self._map))
        return self._base

    def discard_pages(self, offset: int, size: int) -> None:
        """Give the memory of the whole pages in a range back to the system; they read as zeros afterwards.

        Does nothing where the system cannot: macOS, some file systems, some sandboxes.
        """
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start and hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_REMOVE, start, stop - start)

    def close(self) -> None:
        """Drop the mapping; it goes when the last view of it does."""
        self._view.release()
        try:
            self._map.close()
        except BufferError:
            return  # views of user code live on; the mapping is freed with the last of them

    def _array_class(self, offset: int, size: int) -> Any:
        bits = max(0, size - 1).bit_length()
        if offset + (1 << bits) > self.size:
            bits = -size  # rounding up would pass the end of the mapping: a class of exactly this length
        found = self._classes.get(bits)
        if found is None:
            import ctypes  # noqa: PLC0415 - see address()

            found = ctypes.c_ubyte * (size if bits < 0 else 1 << bits)
            self._classes[bits] = found
        return found


class MappedFile:
    """A spilled object: its file, mapped read-only as long as a view of it lives.

    Raises:
        OSError: the file is missing, shorter than ``size``, or cannot be mapped.
    """

    def __init__(self, path: str, size: int) -> None:
        self.size = size
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < size:
                raise OSError(f"spill file {path} is shorter than the {size} bytes of its object")
            self._map: mmap.mmap | None = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)

    def pinned(self, released: Released) -> tuple[memoryview, weakref.ref[Any]]:
        """Return a read-only view and a weak reference to its anchor, like :meth:`Arena.pinned`; once only."""
        anchor, self._map = self._map, None
        if anchor is None:
            raise ValueError("the view of a mapped file was taken already")
        return memoryview(anchor), weakref.ref(anchor, released)


def create_file(path: str, size: int) -> memoryview:
    """Create a spill file of ``size`` bytes (mode 0600) and return a writable view of it.

    The disk space is allocated before anything is written: writing through a mapping to a full disk would end the
    process with SIGBUS.

    Raises:
        OSError: there is no room (``ENOSPC``), or the file exists. Nothing is left behind.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:  # macOS
            os.ftruncate(fd, size)
        return memoryview(mmap.mmap(fd, size))
    except OSError:
        Path(path).unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def copy_into(target: memoryview, source: memoryview) -> None:
    """Copy ``source`` to the start of ``target`` at memcpy speed, letting other threads run in between.

    Args:
        target: writable, format "B", at least as long as the source.
        source: contiguous, any format.
    """
    if source.ndim != 1 or source.format != "B":
        source = source.cast("B")
    size = source.nbytes
    if size <= COPY_PIECE:
        target[:size] = source
        return
    numpy: Any = sys.modules.get("numpy")
    if hasattr(numpy, "copyto"):  # else its import has only begun, in another thread
        numpy.copyto(numpy.frombuffer(target, "u1", size), numpy.frombuffer(source, "u1"))
        return
    for start in range(0, size, COPY_PIECE):
        stop = min(size, start + COPY_PIECE)
        target[start:stop] = source[start:stop]
