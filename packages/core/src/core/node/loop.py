"""The daemon's event loop: one thread, readiness callbacks, work posted from other threads."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable


class Loop:
    """A minimal ``selectors`` loop.

    After each batch of callbacks :attr:`after_batch` runs: connections flush there, so that all messages one batch
    caused for a peer travel in one frame.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.watch(self._wake_read.fileno(), selectors.EVENT_READ, self._drain_wake)
        self._stopped = False
        #: runs after every batch of callbacks
        self.after_batch: Callable[[], None] = lambda: None
        #: returns when to run ``on_timer`` next (monotonic seconds), or None
        self.next_timer: Callable[[], float | None] = lambda: None
        self.on_timer: Callable[[float], None] = lambda now: None

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(ready_events)`` whenever ``fd`` is ready; replaces an earlier watch."""
        try:
            self._selector.modify(fd, events, callback)
        except KeyError:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``; call before closing it."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def post(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` in the loop's thread. The only method that other threads may call."""
        self._posted.append(callback)
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def stop(self) -> None:
        """Leave :meth:`run` after the current batch."""
        self._stopped = True

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while not self._stopped:
            for key, events in self._selector.select(self._timeout()):
                # A callback earlier in the batch may have closed this one.
                if self._selector.get_map().get(key.fd) is key:
                    key.data(events)
            while self._posted:
                self._posted.popleft()()
            at = self.next_timer()
            now = time.monotonic()
            if at is not None and at <= now:
                self.on_timer(now)
            self.after_batch()

    def _timeout(self) -> float | None:
        at = self.next_timer()
        return None if at is None else max(0.0, at - time.monotonic())

    def _drain_wake(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
