"""Session directories: private, locked while a daemon lives, swept when it is dead.

``<tmp>/skate-<uid>/session-<random>/`` holds the sockets, the daemon's log and spilled objects. The lock file in it is
locked (``flock``) by the open file that launcher, daemon and zygote share; when the last of them is gone, the
directory is stale and the next start removes it. The directory itself is locked too: whoever tidies ``/tmp`` of old
files (systemd-tmpfiles does, after ten days) passes over what is locked so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import time
from pathlib import Path

from core.node.removal import remove_spill_files, remove_tree

LOCK_NAME = "lock"
#: A directory without a lock file is being made; after this many seconds it is taken for abandoned.
ABANDONED_SECONDS = 60.0
#: Longest path of a session directory that leaves room for socket names in ``sockaddr_un`` (108 bytes).
MAX_DIRECTORY_BYTES = 76


class SessionDirError(OSError):
    """The directory for sessions cannot be used safely; the message says what to do."""


def default_parent() -> Path:
    """Return ``<tmp>/skate-<uid>``, on ``/tmp`` itself if the configured one does not suit.

    Paths of sockets must be short, and messages are UTF-8 (the locale may be another).
    """
    name = f"skate-{os.getuid()}"
    parent = Path(_temporary()) / name
    too_long = len(os.fsencode(parent)) + len("/session-") + 16 > MAX_DIRECTORY_BYTES
    if too_long or not str(parent).isprintable():
        parent = Path("/tmp") / name  # noqa: S108 - owner and mode are checked below
    return parent


def _temporary() -> str:
    """Return ``tempfile.gettempdir()``, without its import (4 ms of every start) in the ordinary case."""
    directory = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - owner and mode of what is made in it are checked
    if "tempfile" not in sys.modules and Path(directory).is_absolute() and os.access(directory, os.W_OK | os.X_OK):
        return directory
    import tempfile  # noqa: PLC0415 - see above

    return tempfile.gettempdir()


def secure_parent(parent: Path) -> None:
    """Create ``parent`` with mode 0700, or check that it is ours.

    Raises:
        SessionDirError: it is a symbolic link, no directory, or another user's.
    """
    with contextlib.suppress(FileExistsError):
        parent.mkdir(mode=0o700)
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SessionDirError(f"{parent} is not a directory of this user: remove it, or set TMPDIR to another place")
    if stat.S_IMODE(found.st_mode) != 0o700:
        parent.chmod(0o700)


def create(parent: Path) -> tuple[Path, tuple[int, int]]:
    """Make and lock a new session directory; return its path and the descriptors that hold the locks."""
    while True:
        directory = parent / f"session-{os.urandom(8).hex()}"
        directory.mkdir(mode=0o700)
        path = directory / LOCK_NAME
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        except OSError:
            directory.rmdir()
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if path.stat().st_ino == os.fstat(lock).st_ino:
                return directory, (lock, _lock_directory(directory))
        except FileNotFoundError:
            pass
        # A sweeper came between creation and lock.
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the directories of sessions whose daemon and zygote are dead."""
    for directory in parent.glob("session-*"):
        try:
            lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                if time.time() - directory.stat().st_mtime > ABANDONED_SECONDS and not _is_locked(directory):
                    remove(directory)
            continue
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(directory)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _lock_directory(directory: Path) -> int:
    place = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # NFS cannot
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return place


def _is_locked(directory: Path) -> bool:
    place = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(place)
    return False


def remove(directory: Path) -> None:
    """Remove a session directory, all in it and what it spilled elsewhere; missing parts are no error."""
    remove_spill_files(directory)
    remove_tree(directory)
