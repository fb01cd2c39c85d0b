"""Long waits: after some seconds the node is asked for the reason, and the user is told if it does not even answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.protocol import from_node, to_node
from core.runtime.waiting import EventWaiter, ReplyWaiter

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

monotonic = time.monotonic

#: Seconds after which a waiting thread asks the node whether it knows why.
STALL = 4.0
#: Seconds that the node has for any answer; a living one needs milliseconds.
SILENCE = 4.0


class Patience:
    """Waits for what may take long. Called without the runtime's lock."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        #: the user has been told that the node does not answer
        self._told = False

    def wait(self, waiter: EventWaiter, deadline: float | None, what: str, on: Callable[[], bytes] = bytes) -> bool:
        """Wait until ``waiter.done`` or the deadline (monotonic); return ``waiter.done``.

        Args:
            waiter: completed when the wait is over.
            deadline: None for no limit.
            what: what is waited for, for people.
            on: returns the address of the process that is waited for, if it is an actor call; asked after some seconds,
                since actors may have to start first.
        """
        wait = self._rt.reactor.wait
        if wait(waiter, _earlier(deadline, STALL)) or _past(deadline):
            return waiter.done
        number, answer = self._rt.open_request(lambda number: to_node.Stall(what, on(), number))
        try:
            if wait(waiter, _earlier(deadline, SILENCE)) or _past(deadline):
                return waiter.done
        finally:
            self._rt.close_request(number)
        self._listen(answer)
        return wait(waiter, deadline)

    def _listen(self, answer: ReplyWaiter) -> None:
        """Tell the user if the node has not answered in time, once per silence."""
        if answer.done:
            self._told = False
        elif not self._told:
            self._told = True
            pid = self._rt.node_pid()
            self._rt.notify(
                from_node.Notice(
                    "warning",
                    f"the node daemon{f' (process {pid})' if pid else ''} has not answered for {SILENCE:g} s: it is "
                    "stopped, or the machine is overloaded. Calls of running actors go on; new workers, actors and "
                    "large objects wait for it.",
                )
            )


def _earlier(deadline: float | None, seconds: float) -> float:
    soon = monotonic() + seconds
    return soon if deadline is None else min(soon, deadline)


def _past(deadline: float | None) -> bool:
    return deadline is not None and monotonic() >= deadline
