"""What threads wait for: records that the reading thread completes (see :mod:`core.runtime.reactor`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.runtime.objects import FAILED, Entry

if TYPE_CHECKING:
    from core.runtime.reactor import Reactor


class EventWaiter:
    """Waits for one event; completed by ``reactor.complete``."""

    __slots__ = ("done", "gate")

    def __init__(self) -> None:
        self.done = False
        self.gate: threading.Lock | None = None


class ReplyWaiter(EventWaiter):
    """Waits for the reply to a request."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        super().__init__()
        self.reply: object = None


class GetWaiter(EventWaiter):
    """Waits until all of several objects are there, or one has failed."""

    __slots__ = ("_reactor", "remaining")

    def __init__(self, reactor: Reactor, remaining: int) -> None:
        super().__init__()
        self._reactor = reactor
        self.remaining = remaining

    def __call__(self, object_id: bytes, entry: Entry) -> None:
        self.remaining -= 1
        if not self.done and (self.remaining <= 0 or entry.state == FAILED):
            self._reactor.complete(self)


class WaitWaiter(EventWaiter):
    """Waits until ``remaining`` of the objects in ``pending`` are there, whatever came of them."""

    __slots__ = ("_reactor", "pending", "remaining")

    def __init__(self, reactor: Reactor, pending: set[bytes], remaining: int) -> None:
        super().__init__()
        self._reactor = reactor
        self.pending = pending
        self.remaining = remaining

    def settled(self, object_id: bytes) -> None:
        """An object of this process has left PENDING (under the lock)."""
        if object_id in self.pending:
            self.pending.discard(object_id)
            self.remaining -= 1
            if self.remaining <= 0 and not self.done:
                self._reactor.complete(self)


class FutureWaiter(ReplyWaiter):
    """Nobody waits, but something is to be called when the reply is there or will not come (without the lock)."""

    __slots__ = ("_deliver", "_done", "_reactor")

    def __init__(self, reactor: Reactor, deliver: Callable[[], None]) -> None:
        self._reactor = reactor
        self._deliver = deliver
        self._done = False
        super().__init__()

    @property
    def done(self) -> bool:
        """Whether it was completed."""
        return self._done

    @done.setter
    def done(self, value: bool) -> None:
        if value and not self._done:  # an answer, a cancellation and the session's end may come together
            self._reactor.after.append(self._deliver)
        self._done = value
