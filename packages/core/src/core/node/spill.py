"""Objects on disk: one file each, written by a thread of its own so that the node's loop never waits for a disk.

Files lie in ``<session>/spill`` (mode 0700, files 0600). ``init`` or ``SKATE_SPILL_DIR`` may name another parent
directory, for a larger or faster disk; ``<session>/spill`` is then a symbolic link, so that whoever removes the session
finds them.

Bytes go from the arena to the file with ``sendfile``: no copy through this process, and no page of the arena is mapped
here (2,190 MB/s against 703 MB/s for writing from a mapping, measured).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from core.node.removal import remove_spill_files

#: Environment variable that names another parent directory for spilled objects.
SPILL_DIR_VARIABLE = "SKATE_SPILL_DIR"
#: Free bytes that are left on the disk when a file for a large object is granted.
RESERVE = 16 << 20
#: At most so many bytes go into one system call; a signal can interrupt in between.
_PIECE = 64 << 20
#: The same where they go through this process.
_BUFFER = 1 << 20
#: Told by file systems and sandboxes that cannot send from file to file.
_NOT_POSSIBLE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
#: Seconds that ``close`` waits for the file being written.
_CLOSE_SECONDS = 5.0


class SpillDirectory:
    """Where spilled objects lie; made on first use. Used by the daemon's loop and by the thread that writes.

    Args:
        session_dir: the session's directory.
        parent: another directory to make it in; empty for what ``SKATE_SPILL_DIR`` says, else the session's.
    """

    def __init__(self, session_dir: Path, parent: str = "") -> None:
        self._session_dir = session_dir
        self._parent = parent or os.environ.get(SPILL_DIR_VARIABLE, "")
        self._path: Path | None = None
        self._numbers = itertools.count(1)
        self._making = threading.Lock()

    @property
    def path(self) -> Path:
        """The directory.

        Raises:
            OSError: it cannot be made.
        """
        link = self._session_dir / "spill"
        if not self._parent:
            link.mkdir(mode=0o700, exist_ok=True)  # again, if somebody has removed it
            return link
        with self._making:
            if self._path is None:
                import tempfile  # noqa: PLC0415 - 4 ms, and few sessions need it

                parent = Path(self._parent).absolute()
                self._path = Path(tempfile.mkdtemp(prefix=f"skate-spill-{self._session_dir.name}-", dir=parent))
                link.symlink_to(self._path)
            return self._path

    def new_file(self, object_id: bytes) -> str:
        """Return a path that was never used before, for one object."""
        return str(self.path / f"{object_id.hex()}-{next(self._numbers)}")

    def free_bytes(self) -> int:
        """Return how much an ordinary user may still write."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def remove(self) -> None:
        """Remove the directory and all that is in it."""
        remove_spill_files(self._session_dir)


class Spiller:
    """The thread that writes and deletes spill files. It starts with the first job.

    Args:
        arena_fd: descriptor of the arena.
        directory: where to write.
        done: called *in the thread* as ``done(object_id, path, error)``; ``error`` is empty if all was written.
    """

    def __init__(self, arena_fd: int, directory: SpillDirectory, done: Callable[[bytes, str, str], None]) -> None:
        self._arena_fd = arena_fd
        self._directory = directory
        self._done = done
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False

    def spill(self, object_id: bytes, offset: int, size: int) -> None:
        """Write a range of the arena to a new file; ``done`` tells how it went."""
        self._submit(lambda: self._write(object_id, offset, size))

    def remove(self, path: str) -> None:
        """Delete a file, some time; deleting a large one takes the kernel a while."""
        self._submit(lambda: _remove(path))

    def close(self) -> None:
        """End the thread after the file at hand, at most five seconds."""
        self._closing = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(_CLOSE_SECONDS)

    def _submit(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="skate-spill", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._closing:
                job()

    def _write(self, object_id: bytes, offset: int, size: int) -> None:
        path = ""
        try:
            path = self._directory.new_file(object_id)
            write_range(self._arena_fd, offset, size, path)
        except OSError as error:
            self._done(object_id, path, error.strerror or str(error))
        else:
            self._done(object_id, path, "")


def write_range(source_fd: int, offset: int, size: int, path: str) -> None:
    """Copy ``size`` bytes at ``offset`` of a file into the new file ``path`` (mode 0600).

    Raises:
        OSError: the disk is full or otherwise unwilling; the partial file is removed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    target_fd = os.open(path, flags, 0o600)
    try:
        end = offset + size
        while offset < end:
            offset += _copy_piece(target_fd, source_fd, offset, min(end - offset, _PIECE))
    except OSError:
        Path(path).unlink(missing_ok=True)
        raise
    finally:
        os.close(target_fd)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # it goes with the session then
        Path(path).unlink()


def _copy_piece(target_fd: int, source_fd: int, offset: int, size: int) -> int:
    try:
        count = _send(target_fd, source_fd, offset, size)
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE:
            raise
        count = os.write(target_fd, os.pread(source_fd, min(size, _BUFFER), offset))
    if count == 0:
        raise OSError(f"the arena ends at {offset}, before the object does")
    return count


def _send(target_fd: int, source_fd: int, offset: int, size: int) -> int:
    if sys.platform != "linux":  # elsewhere sendfile writes to sockets only
        raise OSError(errno.ENOSYS, "sendfile cannot write to files")
    return os.sendfile(target_fd, source_fd, offset, size)
