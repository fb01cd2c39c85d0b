"""Cancelling what a thread of an actor runs: an interrupt in user code, never in the middle of the engine's work.

Theory of operation. Signals reach the main thread only (see :mod:`core.runtime.interruption`). For other threads there
is CPython's ``PyThreadState_SetAsyncExc``: the exception is raised at the thread's next look for such requests, and
nothing can be decided there any more. But a thread that does not run has stopped *at* such a look, or in C code called
from there: this is where the interpreter lock changes hands. The exception comes at that look, or, from Python 3.13 on,
at the one after it. Code that changes the marks below looks only before and after. So what must be known is where the
thread stands at the moment of the request:

* :func:`call` marks the time of user code, and takes back what was requested and not raised until its end.
* :class:`Shielded`, the engine that user code in threads sees, counts the calls that are under way. An interrupt that
  finds the thread in there is left for the end of the outermost one.
* A call that waits registers its waiter. It is woken, and raises by itself.
* Finalisers of references run at any moment, unannounced; they never look (see :mod:`core.refs`).

Marks and request are compared and made in one step: between two checks of the interpreter there is no other thread.
An interpreter without that lock would need another way, and this refuses to guess there: the mark of the cancellation
stays, and the call notices when it ends or calls the engine.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from core.runtime.waiting import EventWaiter
from core.worker import running as running_module
from core.worker.running import Running

if TYPE_CHECKING:
    from core.runtime.reactor import Reactor

_request = ctypes.pythonapi.PyThreadState_SetAsyncExc
_INTERRUPT = ctypes.py_object(KeyboardInterrupt)
#: Only with the one lock is a comparison followed by a call a single step.
_ONE_AT_A_TIME: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def call(running: Running, function: Callable[..., Any], args: Any = (), kwargs: Any = None) -> Any:
    """Run user code in this thread, as part of ``running``.

    Raises:
        KeyboardInterrupt: the call was cancelled.
        Whatever the function raises.
    """
    kwargs = kwargs or {}
    identity = ctypes.c_ulong(running.thread)
    running.in_user_code = True
    try:
        if running.interrupted:
            running.interrupted = False
            raise KeyboardInterrupt
        return function(*args, **kwargs)
    finally:
        # From here no interrupt is requested, and before the interpreter looks for one, an earlier request is gone.
        running.in_user_code = False
        if running.cancelled:
            _request(identity, None)


def interrupt(running: Running, reactor: Reactor) -> None:
    """Interrupt a cancelled call (under the lock, which the thread may wait for)."""
    running.interrupted = True
    if running.waiter is not None:
        reactor.complete(running.waiter)
        reactor.wake_if_polling()
        return
    identity, request = ctypes.c_ulong(running.thread), _request
    # One step from here to the request: no call, no loop.
    if _ONE_AT_A_TIME and running.in_user_code and not running.shields:
        running.interrupted = False
        request(identity, _INTERRUPT)


class Items:
    """The values of a stream that user code makes in this thread: an iterator that can be interrupted."""

    def __init__(self, running: Running, values: Any) -> None:
        self._running = running
        self._iterator: Iterator[Any] = call(running, iter, (values,))

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        value = call(self._running, next, (self._iterator,))
        if self._running.cancelled:
            raise KeyboardInterrupt
        return value

    def close(self) -> None:
        """End the user's generator."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            call(self._running, close)


class Shielded:
    """An engine for threads that may be interrupted: no call is left half done.

    Args:
        engine: does the work. Its attributes are seen through this object.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        for name in dir(engine):
            member = None if name.startswith("_") else getattr(engine, name)
            if callable(member):
                setattr(self, name, _shielded(member))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _shielded(function: Callable[..., Any]) -> Callable[..., Any]:
    def shielded(*args: Any, **kwargs: Any) -> Any:
        running = running_module.current.get()
        if running is None:
            return function(*args, **kwargs)
        running.shields += 1
        try:
            return function(*args, **kwargs)
        finally:
            running.shields -= 1
            if running.interrupted and not running.shields and running.in_user_code:
                running.interrupted = False
                raise KeyboardInterrupt

    return shielded


def start_waiting(running: Running, waiter: EventWaiter, reactor: Reactor) -> None:
    """A call of the engine is going to wait: an interrupt ends the wait."""
    with reactor.lock:
        running.waiter = waiter
        if running.interrupted:
            reactor.complete(waiter)


def end_waiting(running: Running, reactor: Reactor) -> None:
    """The wait is over.

    Raises:
        KeyboardInterrupt: because the call was cancelled.
    """
    with reactor.lock:
        running.waiter = None
        interrupted, running.interrupted = running.interrupted, False
    if interrupted:
        raise KeyboardInterrupt
