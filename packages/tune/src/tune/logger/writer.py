"""A thread that writes files, so that a slow disk does not hold up the sweep."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Writer:
    """Does what it is handed, in order, in a thread of its own that lives from the first `put` to `close`.

    What goes wrong there is raised, once, by the next call of `put`, `wait` or `close`; what was handed over meanwhile
    is not done.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None] | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def put(self, what: Callable[[], None]) -> None:
        """Have something done."""
        self._complain()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(what)

    def wait(self) -> None:
        """Wait until everything handed over is done."""
        if self._thread is not None:
            done = threading.Event()
            self._queue.put(done)
            done.wait()
        self._complain()

    def close(self, timeout: float | None = None) -> bool:
        """Wait until everything is done, and end the thread; it is started again if something more is handed over.

        Returns:
            Whether everything was done within `timeout` seconds.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout)
            if thread.is_alive():
                return False
        self._complain()
        return True

    def _work(self) -> None:
        while (what := self._queue.get()) is not None:
            if isinstance(what, threading.Event):
                what.set()
            elif self._error is None:
                try:
                    what()
                except Exception as error:  # noqa: BLE001 - raised where somebody can hear it
                    self._error = error

    def _complain(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
