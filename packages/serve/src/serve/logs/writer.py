"""Writes log lines to a file from a thread of its own, many at a time.

Whoever logs appends to a list, which never blocks. The thread is woken by the first line after a pause, waits a moment
for more, and writes them in portions small enough that the event loop gets its turn in between. Idle, it costs nothing.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from pathlib import Path

from serve.logs.lines import Access, AccessJSON, AccessText

#: seconds that lines are collected
COLLECT_S = 0.2
#: lines written at a time
PORTION = 64
#: lines that may wait; beyond them new ones are lost, and a line says how many
MAX_WAITING = 100_000
#: bytes of a file before it becomes ``.1``, and how many such are kept
MAX_BYTES = 64 * 1024 * 1024
BACKUPS = 2


class RotatingFile:
    """A file that is begun anew when it is full. Opened with the first line.

    Args:
        path: of the file; its directory is made.
        max_bytes: size that ends it.
        backups: how many full ones are kept, as ``path.1`` (the latest), ``path.2`` ...
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, backups: int = BACKUPS) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the disk is full, or the directory is gone.
        """
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        self._size += os.write(self._fd, data)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._backups, 0, -1):
            older = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
        if not self._backups:
            self.path.unlink(missing_ok=True)
        self._open()

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LineWriter:
    """See the module's docstring.

    Args:
        file: where lines go.
        form: makes lines of requests, in the thread.
    """

    def __init__(self, file: RotatingFile, form: AccessText | AccessJSON) -> None:
        self._file = file
        self._form = form
        self._items: deque[str | Access] = deque()
        self._lost = 0
        #: the thread will look for items that are there now
        self._awake = False
        #: a token for each awakening; None to end
        self._wake: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="serve-log", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """Where lines go."""
        return self._file.path

    def put(self, item: str | Access) -> None:
        """Note a line, or a request; it is written soon."""
        if len(self._items) >= MAX_WAITING:
            self._lost += 1
            return
        self._items.append(item)
        if not self._awake:
            self._awake = True
            self._wake.put(True)

    def flush(self) -> None:
        """Write what there is, now, in the calling thread."""
        with self._writing:
            while self._items:
                self._write_portion()

    def close(self) -> None:
        """Write what there is, and end the thread."""
        self._ending.set()
        self._wake.put(None)
        self._thread.join()
        self.flush()
        self._file.close()

    def _run(self) -> None:
        while self._wake.get():
            self._ending.wait(COLLECT_S)
            self._awake = False  # before looking: whoever comes later wakes it again
            self.flush()

    def _write_portion(self) -> None:
        lines: list[str] = []
        with contextlib.suppress(IndexError):
            while len(lines) < PORTION:
                item = self._items.popleft()
                lines.append(item if isinstance(item, str) else self._form.line(item))
        lost, self._lost = self._lost, 0
        if lost:
            lines.append(self._form.gap(lost))
        with contextlib.suppress(OSError):  # a full disk must not end a replica
            self._file.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
