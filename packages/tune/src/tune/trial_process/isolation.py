"""What a warm process takes back after a trial, so that the next one starts as in a fresh process.

Restored: environment variables, working directory, ``sys.path``, signal handlers and the alarm, ``sys.stdout`` and
``sys.stderr``. Seeded: see `seeds`. Not restored, because that is what makes a process warm: imported modules and their
state (a default dtype of torch, a registered logger, caches). Child processes live on (a pool of joblib's is worth
keeping) and end with the process. A thread that is no daemon and does not end spoils the process: it is replaced.
Trials that cannot live with that run with ``reuse_actors=False``, each in a process of its own.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Ray's name: where the driver was started, for trials that read files by relative paths.
ORIGINAL_DIRECTORY = "TUNE_ORIG_WORKING_DIR"
#: Seconds that threads of a trial have to end after it.
THREAD_GRACE_S = 0.5
#: Garbage in cycles is collected after trials that took longer, in seconds: collecting costs some 10 ms.
COLLECT_AFTER_S = 1.0

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)


class Isolation:
    """The state of a process before a trial. `restore` goes back to it."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._directory = str(Path.cwd())
        self._path = list(sys.path)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._streams = (sys.stdout, sys.stderr)
        self._threads = frozenset(threading.enumerate())
        self._started = time.monotonic()

    def restore(self) -> str:
        """Take back what the trial changed; return why the process cannot be used again, or an empty string."""
        if os.environ != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        os.chdir(self._directory)
        if sys.path != self._path:
            sys.path[:] = self._path
        self._restore_signals()
        sys.stdout, sys.stderr = self._streams
        if time.monotonic() - self._started > COLLECT_AFTER_S:
            gc.collect()
        return self._threads_left()

    def _restore_signals(self) -> None:
        # Handlers can be changed in the main thread only, so a trial in another thread has not changed any.
        if threading.current_thread() is not threading.main_thread():
            return
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    def _threads_left(self) -> str:
        left: list[Any] = [t for t in threading.enumerate() if t not in self._threads and not t.daemon]
        deadline = time.monotonic() + THREAD_GRACE_S
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
        names = ", ".join(thread.name for thread in left if thread.is_alive())
        return f"threads live on: {names}" if names else ""
