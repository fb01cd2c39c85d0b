"""One thread that does things one after another.

A pool or an executor keeps its state on such a thread: every event (a submission, a finished call, a shutdown) becomes
a call there, so its state needs no lock, and the engine's own threads, which announce finished calls, never wait.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from core.refs import ObjectRef

logger: logging.Logger = logging.getLogger(__name__)

_Call = tuple[Callable[..., None], tuple[Any, ...]]


class SerialThread:
    """Runs calls in the order in which they were made, in a daemon thread of its own.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        # SimpleQueue.put is reentrant: safe in finalisers and in completion callbacks.
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        # The target holds the queue only, so that the thread does not keep its owner alive.
        threading.Thread(target=_run, args=(self._calls,), name=name, daemon=True).start()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Have ``function(*args)`` called in the thread; return at once."""
        self._calls.put((function, args))

    def call_when_done(self, ref: ObjectRef[Any], function: Callable[..., None], *args: Any) -> None:
        """Have ``function(*args, future)`` called in the thread when ``ref`` is available."""

        def announce(future: Future[Any]) -> None:
            self._calls.put((function, (*args, future)))

        ref.future().add_done_callback(announce)

    def stop(self) -> None:
        """End the thread after the calls made so far."""
        self._calls.put(None)


def _run(calls: queue.SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        function, args = call
        try:
            function(*args)
        except Exception:
            # The outermost shell of this thread. What arrives here was raised by a user's callback: it must be seen,
            # but it must not stop the pool that everybody else's results go through.
            logger.exception("exception in a callback of %s", threading.current_thread().name)
        # Not kept while waiting for the next call: the arguments may be large.
        del call, function, args
