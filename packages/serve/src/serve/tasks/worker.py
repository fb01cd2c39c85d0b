"""Works on the tasks of a queue, so many at a time, until it is told to stop.

One thread talks to the queue: it claims what is due while there is room, extends the leases of what runs, hears of what
is to be cancelled, reports what ended, and takes back what dead workers had. Asynchronous functions run on the event
loop of whoever started the worker, others in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import itertools
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from serve.tasks.errors import DoNotRetryError
from serve.tasks.owner import this_process
from serve.tasks.payload import decode, encode
from serve.tasks.queue import Claim, TaskQueue

logger = logging.getLogger("serve.tasks")

#: seconds between two looks for tasks that other processes submitted
POLL_S = 0.1
#: seconds between two looks for what is to be cancelled, and whose lease needs to be extended
LOOK_AFTER_S = 0.25
#: seconds between two looks for what dead workers had
REAP_S = 1.0
#: seconds between two looks for expired results
PURGE_S = 30.0


@dataclass
class CurrentTask:
    """The task that the calling code works on (`serve.tasks.current`)."""

    id: str
    name: str
    #: 1 for the first
    attempt: int
    interrupted: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it, or its time is over: code that is not ``async`` looks here and returns."""
        return self.interrupted.is_set()


_current: contextvars.ContextVar[CurrentTask | None] = contextvars.ContextVar("serve_task", default=None)


def current() -> CurrentTask | None:
    """Return the task that the calling code works on; None outside of tasks."""
    return _current.get()


@dataclass(eq=False)
class _Running:
    claim: Claim
    about: CurrentTask
    #: when its lease was extended last, by the monotonic clock
    extended: float
    #: stops it, as far as that goes
    stop: Callable[[], object] = lambda: None
    #: its outcome was reported, or nobody wants to hear it: its lease was lost, or its worker stops
    silent: bool = False


class Worker:
    """See the module's docstring.

    Args:
        queue: what to work on.
        functions: by name; tasks of other names are left to others.
        concurrency: tasks at a time.
        loop: where asynchronous functions run.
    """

    def __init__(
        self,
        queue: TaskQueue,
        functions: Mapping[str, Callable[..., Any]],
        concurrency: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._queue = queue
        self._functions = dict(functions)
        self._concurrency = concurrency
        self._loop = loop
        self._owner = this_process()
        #: by id and token, since a task whose thread cannot be ended may be here a second time
        self._running: dict[tuple[str, int], _Running] = {}
        self._reports: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._claiming = True
        self._stopping = False
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="serve-task")
        self._thread = threading.Thread(target=self._run, name="serve-tasks", daemon=True)
        self._due = {self._look_after: 0.0, self._reap: 0.0, self._purge: 0.0}

    @property
    def concurrency(self) -> int:
        """Tasks at a time, at most."""
        return self._concurrency

    @property
    def running(self) -> int:
        """Tasks that are worked on."""
        return len(self._running)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    async def drain(self) -> None:
        """Take no further tasks, and wait until those there are have ended."""
        self._claiming = False
        while self._running or self._reports:  # noqa: ASYNC110 - a thread of its own is what empties them
            await asyncio.sleep(POLL_S)

    def stop(self) -> None:
        """Stop: what is worked on goes back to the queue, for others. Does not wait."""
        self._claiming = False
        self._stopping = True
        self._wake.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until everything was given back, after `stop`, for so many seconds at most."""
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._round(time.monotonic())
            except Exception:  # the disk may be full, and then not: nobody else would go on
                logger.exception("the worker of queue %s could not go on; it tries again", self._queue.path)
                self._wake.wait(REAP_S)
            self._wake.wait(POLL_S)
        self._give_back()
        self._report()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _round(self, now: float) -> None:
        self._report()
        for look, due in self._due.items():
            if due <= now:
                self._due[look] = now + look()
        while self._claiming and (room := self._concurrency - len(self._running)) > 0:
            claims = self._queue.claim(self._functions, room, self._owner)
            for claim in claims:
                self._begin(claim)
            if len(claims) < room:
                return

    def _report(self) -> None:
        count = len(self._reports)
        if not count:
            return
        with self._queue.together():
            for report in list(itertools.islice(self._reports, count)):
                report()
        for _ in range(count):  # only now: if that failed, all are tried again
            self._reports.popleft()

    def _look_after(self) -> float:
        """Extend leases that need it, and interrupt what is to be cancelled or was lost."""
        now = time.monotonic()
        leases = {each.claim.task.id: each for each in list(self._running.values()) if not each.silent}
        stop = self._queue.cancel_requests({task_id: each.claim.task.token for task_id, each in leases.items()})
        old = {
            task_id: each.claim.task.token
            for task_id, each in leases.items()
            if now - each.extended >= each.claim.task.policy.lease_s / 3
        }
        lost = self._queue.extend(old) if old else set()
        for task_id in old:
            leases[task_id].extended = now
            leases[task_id].silent |= task_id in lost
        for task_id in stop | lost:
            self._interrupt(leases[task_id])
        return LOOK_AFTER_S

    def _reap(self) -> float:
        self._queue.reap()
        return REAP_S

    def _purge(self) -> float:
        self._queue.purge()
        return PURGE_S

    def _give_back(self) -> None:
        for running in list(self._running.values()):
            was_silent, running.silent = running.silent, True
            self._interrupt(running)
            task = running.claim.task
            if not was_silent:
                with contextlib.suppress(Exception):  # the lease decides then
                    self._queue.give_back(task.id, task.token)

    # -- one task -----------------------------------------------------------------------------------------------------

    def _begin(self, claim: Claim) -> None:
        task = claim.task
        running = _Running(claim, CurrentTask(task.id, task.name, task.attempts), time.monotonic())
        self._running[task.id, task.token] = running
        context = contextvars.copy_context()
        context.run(_current.set, running.about)
        try:
            args, kwargs = decode(claim.arguments)
        except Exception:  # noqa: BLE001 - whatever unpickling raises: a class that is no more, for example
            self._failed(running, traceback.format_exc(), retry=False)
            return
        function = functools.partial(self._functions[task.name], *args, **kwargs)
        if inspect.iscoroutinefunction(function.func):
            self._loop.call_soon_threadsafe(self._begin_in_loop, running, function, context)
        else:
            work = self._threads.submit(context.run, self._in_thread, running, function)
            running.stop = work.cancel
            work.add_done_callback(lambda done: self._unbegun(running) if done.cancelled() else None)

    def _begin_in_loop(
        self, running: _Running, function: Callable[[], Awaitable[Any]], context: contextvars.Context
    ) -> None:
        work = self._loop.create_task(self._in_loop(running, function), context=context)
        running.stop = functools.partial(self._loop.call_soon_threadsafe, work.cancel)
        if running.about.cancelled:
            work.cancel()
        work.add_done_callback(lambda done: self._unbegun(running) if done.cancelled() else None)

    def _unbegun(self, running: _Running) -> None:
        """It was cancelled, maybe before it had begun."""
        self._failed(running, "cancelled")

    async def _in_loop(self, running: _Running, function: Callable[[], Awaitable[Any]]) -> None:
        limit = running.claim.task.policy.timeout_s
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                result = await function()
        except TimeoutError as error:
            self._failed(running, f"no result within {limit:g} s" if deadline.expired() else _traceback(error), error)
        except Exception as error:  # noqa: BLE001 - the user's code raises what it likes
            self._failed(running, _traceback(error), error)
        else:
            self._succeeded(running, result)

    def _in_thread(self, running: _Running, function: Callable[[], Any]) -> None:
        limit = running.claim.task.policy.timeout_s
        timer = None
        if limit is not None:
            timer = threading.Timer(limit, self._thread_timed_out, (running, limit))
            timer.daemon = True
            timer.start()
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - the user's code raises what it likes, SystemExit too
            self._failed(running, _traceback(error), error)
        else:
            self._succeeded(running, result)
        finally:
            if timer is not None:
                timer.cancel()

    def _thread_timed_out(self, running: _Running, limit: float) -> None:
        """A thread cannot be ended: the attempt counts as failed, and the thread keeps its place until it returns."""
        self._interrupt(running)
        self._failed(running, f"no result within {limit:g} s", keep=True)

    def _succeeded(self, running: _Running, result: Any) -> None:
        try:
            encoded = encode(result)
        except TypeError as error:
            self._failed(running, str(error), error, retry=False)
            return
        task = running.claim.task
        self._done(running, lambda: self._queue.succeed(task.id, task.token, encoded))

    def _failed(
        self,
        running: _Running,
        error: str,
        cause: BaseException | None = None,
        *,
        retry: bool = True,
        keep: bool = False,
    ) -> None:
        try:
            encoded = None if cause is None else encode(cause)
        except TypeError:
            encoded = None
        task = running.claim.task
        again = retry and not isinstance(cause, DoNotRetryError)
        report = functools.partial(self._queue.fail, task.id, task.token, error, retry=again, cause=encoded)
        self._done(running, report, keep=keep)

    def _done(self, running: _Running, report: Callable[[], object], *, keep: bool = False) -> None:
        """Report the outcome, once."""
        with self._lock:
            if not running.silent:
                running.silent = True
                self._reports.append(report)
            if not keep:
                self._running.pop((running.claim.task.id, running.claim.task.token), None)
        self._wake.set()

    def _interrupt(self, running: _Running) -> None:
        running.about.interrupted.set()
        with contextlib.suppress(RuntimeError):  # the loop was closed
            running.stop()


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
