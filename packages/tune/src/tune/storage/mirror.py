"""`Mirror`: the local side of a remote experiment, copied to the remote one while it grows.

Order of a copy. A snapshot says up to which point of the journal it holds, so the remote journal must never be behind
the remote snapshot: snapshots are read first and written last. A checkpoint is deleted only after a copy of the journal
that no longer counts on it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path

from tune.storage.place import CHECKPOINT_PREFIX, TEMPORARY_PREFIX, Storage

logger = logging.getLogger(__name__)

_NOT_MIRRORED = (CHECKPOINT_PREFIX, TEMPORARY_PREFIX)
#: Read first and written last (see the module's docstring).
_LATE = frozenset({"snapshot.pkl"})
#: Seconds between two copies of what changed.
INTERVAL_S = 2.0
#: Copies are so many times as far apart as one takes.
_PAUSE_SHARE = 10.0
#: Seconds that the last copy may take.
TIMEOUT_S = 1800.0
#: What tune itself writes into trials' directories; everything else there are artifacts of the trials' code.
_RECORDS = frozenset(
    {"params.json", "params.pkl", "result.json", "progress.csv", "error.txt", "error.pkl", "stdout", "stderr"}
)
_EVENT_FILES = "events.out.tfevents."
#: Files of more bytes than this (pages for people) are copied at most every so many seconds, and at the end.
LARGE, LARGE_INTERVAL_S = 1 << 20, 30.0
#: Seconds between two attempts when the remote side fails, at most.
_LONGEST_PAUSE_S = 60.0


def is_record(path: Path) -> bool:
    """Tell whether tune itself writes such a file into trials' directories."""
    return path.name in _RECORDS or path.name.startswith(_EVENT_FILES)


class Mirror:
    """Copies a local experiment to its remote place while it grows, in a thread of its own.

    A remote side that fails is tried again, ever more slowly, with one warning; the sweep goes on.

    Args:
        directory: the local side.
        remote: the remote side.
        interval_s: seconds between two copies; more if they take long.
        timeout_s: seconds that the last copy may take.
        artifacts: copy also what trials' own code leaves in their directories.
    """

    def __init__(
        self,
        directory: Path,
        remote: Storage,
        interval_s: float = INTERVAL_S,
        *,
        timeout_s: float = TIMEOUT_S,
        artifacts: bool = True,
    ) -> None:
        self._directory = directory
        self._remote = remote
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._artifacts = artifacts
        #: modification time and size of what is on the remote side, by relative path
        self._copied: dict[str, tuple[int, int]] = {}
        #: when large files were copied (monotonic seconds)
        self._large: dict[str, float] = {}
        #: to be deleted after the next copy
        self._doomed: list[Storage] = []
        #: one copy at a time
        self._lock = threading.Lock()
        self._stop = threading.Event()
        #: set: copy now, or stop
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tune-mirror", daemon=True)

    def start(self) -> None:
        """Begin copying."""
        self._thread.start()

    def hurry(self) -> None:
        """Copy as soon as possible, in the thread."""
        self._wake.set()

    def delete_later(self, place: Storage) -> None:
        """Delete something remote after the next copy, when the remote journal counts on it no more."""
        self._doomed.append(place)

    def copy(self, *, last: bool = True) -> None:
        """Copy what changed since the last time, now.

        Args:
            last: large files too, also those copied a moment ago.

        Raises:
            OSError or what the remote file system raises: not all was copied; the next call goes on.
        """
        with self._lock:
            doomed, self._doomed = self._doomed, []
            try:
                self._copy(last)
                while doomed:
                    doomed[-1].delete()
                    doomed.pop()
            finally:
                self._doomed += doomed

    def _copy(self, last: bool) -> None:
        before = self._changed()
        late = {name: (self._directory / name).read_bytes() for name in before if Path(name).name in _LATE}
        # Looked at again: the journal must hold all that the snapshots just read count on.
        for name, state in self._changed().items():
            if Path(name).name not in _LATE and (last or self._due(name, state[1])):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    self._remote.child(name).write((self._directory / name).read_bytes())
                self._copied[name] = state
        for name, data in late.items():
            self._remote.child(name).write(data)
            self._copied[name] = before[name]

    def _due(self, name: str, size: int) -> bool:
        """Tell whether a changed file is to be copied now, and note that a large one is."""
        if size <= LARGE:
            return True
        now = time.monotonic()
        if now - self._large.get(name, -LARGE_INTERVAL_S) < LARGE_INTERVAL_S:
            return False
        self._large[name] = now
        return True

    def _changed(self) -> dict[str, tuple[int, int]]:
        """Return (modification time, size) of the files that the remote side does not have like this."""
        changed = {}
        for place, directories, names in os.walk(self._directory):
            directories[:] = [name for name in directories if not name.startswith(_NOT_MIRRORED)]
            for name in names:
                file = Path(place, name)
                relative = str(file.relative_to(self._directory))
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat()
                    state = (status.st_mtime_ns, status.st_size)
                    if self._mirrors(relative) and self._copied.get(relative) != state:
                        changed[relative] = state
        return changed

    def _mirrors(self, relative: str) -> bool:
        path = Path(relative)
        if path.name.startswith(_NOT_MIRRORED):
            return False
        return self._artifacts or len(path.parts) == 1 or path.parts[0] == "journal" or is_record(path)

    def _run(self) -> None:
        pause = self._interval_s
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop.is_set():
                return
            began = time.monotonic()
            try:
                self.copy(last=False)
                cost = time.monotonic() - began
                pause = max(self._interval_s, _PAUSE_SHARE * cost)
                self._stop.wait(cost)  # in a hurry, too, copying takes half of the time at most
            except Exception as error:  # noqa: BLE001 - the thread's outermost shell: each file system has its own errors
                if pause == self._interval_s:
                    logger.warning("%s cannot be written to, trying again: %s", self._remote.url, error)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Stop, after a last copy.

        Raises:
            OSError or what the remote file system raises: the last copy failed; the local side is whole.
            TimeoutError: it took too long; as above.
        """
        self._stop.set()
        self._wake.set()
        failures: list[BaseException] = []
        last = threading.Thread(target=self._copy_last, args=(failures,), name="tune-mirror-last", daemon=True)
        last.start()
        last.join(self._timeout_s)
        if last.is_alive():
            raise TimeoutError(
                f"{self._remote.url} did not take the last copy within {self._timeout_s:g} s; all of it is in "
                f"{self._directory}"
            )
        if failures:
            raise failures[0]

    def _copy_last(self, failures: list[BaseException]) -> None:
        try:
            if self._thread.ident is not None:
                self._thread.join()
            self.copy()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)
