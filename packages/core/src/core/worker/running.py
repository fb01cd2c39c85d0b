"""What a worker is running: the answers of ``get_runtime_context()`` and the target of cancellation."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import Any

from msgspec import Struct

from core.protocol.peer import Extra
from core.runtime.waiting import EventWaiter

monotonic = time.monotonic


class Running(Struct, eq=False):
    """One task or actor call in execution."""

    task: bytes
    name: str
    #: nesting depth of what it submits
    depth: int
    connection: Any
    extra: Extra | None = None
    #: name of the function itself, where ``name`` is the user's own
    function: str = ""
    cancelled: bool = False
    #: with all that it submits
    cancelled_with_children: bool = False
    #: when it began, in monotonic seconds
    started: float = 0.0
    #: identifier of the thread that runs it
    thread: int = 0
    #: asyncio.Task of an async method
    coroutine: Any = None
    #: user code is on the stack: the only time an interrupt may be raised
    in_user_code: bool = False
    #: in a thread of an actor (see ``core.worker.interruptible``): calls of the engine under way
    shields: int = 0
    #: an interrupt that was asked for and could not be raised yet
    interrupted: bool = False
    #: what the call waits for
    waiter: EventWaiter | None = None

    @property
    def short_name(self) -> str:
        """The name without module and outer scopes, as Ray shows it."""
        return self.name.rpartition(".")[2] if self.name == self.function else self.name


#: What the current thread or coroutine runs.
current: contextvars.ContextVar[Running | None] = contextvars.ContextVar("skate_running", default=None)


def begin(running: Running) -> contextvars.Token[Running | None]:
    """Make ``running`` what this thread or coroutine runs."""
    running.thread = threading.get_ident()
    running.started = monotonic()
    return current.set(running)


class ActorExit(SystemExit):
    """Raised by ``exit_actor()``: the actor leaves on its own accord."""
