"""``concurrent.futures.Executor`` on the cluster: each submission is a task."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as _FuturesExecutor
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import core
from core.argument_checks import whole_number
from core.exceptions import RayTaskError
from core.refs import ObjectRef
from core.util.joining import join_session
from core.util.multiprocessing.worker import Initialised
from core.util.serial_thread import SerialThread

P = ParamSpec("P")
T = TypeVar("T")


class SkateExecutor(_FuturesExecutor):
    """Runs calls as tasks, with the interface of ``concurrent.futures.ProcessPoolExecutor``.

    At most ``max_workers`` calls run at a time; the others wait in this process, where they can be cancelled. A call
    whose worker dies fails with ``WorkerCrashedError`` and is not repeated (set ``max_retries`` in ``task_options``
    to have it repeated); the executor goes on working. An idle executor holds no resources.

    Args:
        max_workers: default: as many as the session has CPUs. Starts a session with as many CPUs if none runs.
        mp_context: accepted for compatibility; without effect.
        initializer: called with ``initargs`` in each worker process before its first call.
        initargs: its arguments.
        max_tasks_per_child: after so many calls a worker process is replaced; default: never.
        task_options: options of the tasks, for example ``{"num_cpus": 2}``.

    Raises:
        ValueError: ``max_workers`` or ``max_tasks_per_child`` is below 1.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        task_options: dict[str, Any] | None = None,
    ) -> None:
        if max_workers is not None and whole_number("max_workers", max_workers) < 1:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None and whole_number("max_tasks_per_child", max_tasks_per_child) < 1:
            raise ValueError("max_tasks_per_child must be >= 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        cpus = join_session(max_workers)
        self._max_workers = max_workers or max(cpus, 1)
        options = {"max_retries": 0, **(task_options or {})}
        if max_tasks_per_child is not None:
            options["max_calls"] = max_tasks_per_child
        setup = None if initializer is None else _Setup(os.urandom(16), [core.put((initializer, tuple(initargs)))])
        self._tasks = _Tasks(core.remote(**options)(_run), setup, self._max_workers)
        self._is_shut_down = False
        #: orders submissions and the shutdown, which may come from different threads
        self._lock = threading.Lock()
        weakref.finalize(self, self._tasks.close, False)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)``; arguments that are ``ObjectRef`` arrive as their values.

        Raises:
            RuntimeError: the executor was shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._tasks.submit(_Item(future, fn, args, kwargs))
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Return an iterator over ``fn(*items)`` in order; all calls are submitted at once.

        Args:
            fn: what to call.
            iterables: one for each argument.
            timeout: how long, in seconds from now, until ``__next__`` raises ``TimeoutError``.
            chunksize: how many calls go into one task.

        Raises:
            ValueError: ``chunksize`` is below 1.
        """
        if whole_number("chunksize", chunksize) < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = super().map(
            functools.partial(_call_each, fn), _chunks(zip(*iterables, strict=False), chunksize), timeout=timeout
        )
        return itertools.chain.from_iterable(chunks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls.

        Args:
            wait: return only when every call is finished.
            cancel_futures: cancel the calls that have not been started.
        """
        with self._lock:
            self._is_shut_down = True
        self._tasks.close(cancel_futures)
        if wait:
            self._tasks.finished.wait()


#: The same under the field's own name for it.
Executor = SkateExecutor


@dataclass(eq=False, slots=True)
class _Item:
    """A call that was submitted."""

    future: Future[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Setup:
    """What a worker process must do before its first call for an executor."""

    key: bytes
    #: holds a reference to (initializer, initargs); in a list so that it is fetched only where it is needed
    boxed: list[ObjectRef[Any]]


class _Tasks:
    """The calls of one executor: waiting, then running. State lives on a thread of its own (see SerialThread)."""

    def __init__(self, task: Any, setup: _Setup | None, limit: int) -> None:
        #: set when the executor was shut down and nothing is left to do
        self.finished = threading.Event()
        self._thread = SerialThread("executor")
        self._task = task
        self._setup = setup
        self._limit = limit
        self._waiting: deque[_Item] = deque()
        self._running = 0
        self._closing = False

    def submit(self, item: _Item) -> None:
        self._thread.call(self._submit, item)

    def close(self, cancel_futures: bool) -> None:
        self._thread.call(self._close, cancel_futures)

    def _submit(self, item: _Item) -> None:
        self._waiting.append(item)
        self._start()

    def _start(self) -> None:
        while self._waiting and self._running < self._limit:
            item = self._waiting.popleft()
            if not item.future.set_running_or_notify_cancel():
                continue
            try:
                ref = self._task.remote(self._setup, item.fn, *item.args, **item.kwargs)
            except Exception as error:  # noqa: BLE001 - pickling the arguments runs the user's code
                item.future.set_exception(error)
                continue
            self._running += 1
            self._thread.call_when_done(ref, self._done, item.future)
        if self._closing and not self._waiting and not self._running and not self.finished.is_set():
            self.finished.set()
            self._thread.stop()

    def _done(self, future: Future[Any], outcome: Future[Any]) -> None:
        self._running -= 1
        # First the next call, then the news: callbacks of the user's run in this thread.
        self._start()
        error = outcome.exception()
        if error is None:
            future.set_result(outcome.result())
        else:
            future.set_exception(_original(error))

    def _close(self, cancel_futures: bool) -> None:
        self._closing = True
        if cancel_futures:
            for item in self._waiting:
                item.future.cancel()
                item.future.set_running_or_notify_cancel()  # wakes those who wait for it
            self._waiting.clear()
        self._start()


def _original(error: BaseException) -> BaseException:
    """Return the exception the call itself raised, as other executors do; its cause is the one with the traceback."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        original: BaseException = error.cause
        original.__cause__ = error
        return original
    return error


def _chunks(items: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _call_each(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in chunk]


def _run(setup: _Setup | None, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Do one call in a worker process."""
    if setup is not None:
        done = _done_here(setup.key)
        if not done:
            done.append(Initialised(*core.get(setup.boxed[0])))
        done[0].share_with(fn)
    return fn(*args, **kwargs)


@functools.cache
def _done_here(key: bytes) -> list[Initialised]:
    """Return this process's record for one executor: empty until its initializer ran here."""
    return []
