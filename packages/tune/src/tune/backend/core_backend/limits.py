"""Hard limits of time and memory: a thread of the driver that ends the processes of trials that are over theirs.

A thread of its own, because limits must hold also while the controller is busy with a slow callback; in the driver,
because a trial that hangs in native code cannot watch itself.
"""

from __future__ import annotations

import threading
import time

import msgspec

from tune.backend.core_backend import process_tree
from tune.trial import FailureKind, TrialFailure

#: Seconds between two looks.
PERIOD_S = 0.2


class Watched(msgspec.Struct):
    """One attempt at a trial."""

    pid: int
    #: when it must have ended (monotonic seconds), and why it is ended then
    deadline: float | None = None
    lateness: TrialFailure | None = None
    #: bytes
    memory_limit: float | None = None
    #: set once it was ended for being over a limit
    verdict: TrialFailure | None = None


class LimitWatch:
    """See the module's docstring. The thread lives while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._watched: dict[int, Watched] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, slot: int, watched: Watched) -> None:
        """Watch the attempt that runs in a slot."""
        with self._lock:
            self._watched[slot] = watched
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tune-limits", daemon=True)
                self._thread.start()
            self._changed.notify()

    def set_deadline(self, slot: int, pid: int, seconds: float, lateness: TrialFailure) -> None:
        """Give what runs in a slot so many seconds from now, unless it has fewer."""
        deadline = time.monotonic() + seconds
        with self._lock:
            watched = self._watched.get(slot)
            if watched is not None:
                if watched.deadline is None or deadline < watched.deadline:
                    watched.deadline, watched.lateness = deadline, lateness
                return
        self.watch(slot, Watched(pid, deadline, lateness))

    def release(self, slot: int) -> TrialFailure | None:
        """Watch a slot no more; return why its process was ended, if it was."""
        with self._lock:
            watched = self._watched.pop(slot, None)
            return None if watched is None else watched.verdict

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._watched and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                # Due deadlines are kept to the moment; memory is looked at every so often.
                soonest = min((w.deadline for w in self._watched.values() if w.deadline is not None), default=None)
                pause = PERIOD_S if soonest is None else min(PERIOD_S, max(0.0, soonest - time.monotonic()))
                self._changed.wait(pause)
                suspects = [(slot, w) for slot, w in self._watched.items() if w.verdict is None]
            for slot, watched in suspects:
                failure = _over_limit(watched)
                if failure is not None:
                    self._end(slot, watched, failure)

    def _end(self, slot: int, watched: Watched, failure: TrialFailure) -> None:
        with self._lock:
            # Released meanwhile: it ended by itself, and the process may have another trial by now.
            if self._watched.get(slot) is not watched:
                return
            watched.verdict = failure
            process_tree.kill(watched.pid)


def _over_limit(watched: Watched) -> TrialFailure | None:
    if watched.deadline is not None and time.monotonic() >= watched.deadline:
        return watched.lateness
    if watched.memory_limit is not None:
        used = process_tree.resident_bytes(watched.pid)
        if used > watched.memory_limit:
            return TrialFailure(
                FailureKind.OUT_OF_MEMORY,
                "OutOfMemoryError",
                f"the trial's process and its children used {used / 2**20:,.0f} MiB; the limit is "
                f"{watched.memory_limit / 2**20:,.0f} MiB (memory_limit)",
            )
    return None
