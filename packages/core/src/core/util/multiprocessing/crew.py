"""The workers of a pool and the jobs they wait for.

All state lives on one :class:`~core.util.serial_thread.SerialThread`: methods without an underscore may be called from
anywhere and only hand over; the others run on that thread. Each worker has one job at a time and takes the next from
a common backlog, so a short job never waits behind a long one while another worker is idle.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import core
from core.exceptions import RayActorError, RayError
from core.refs import ObjectRef
from core.util.multiprocessing.worker import Call, Outcome, PoolWorker
from core.util.serial_thread import SerialThread


@dataclass(slots=True)
class Job:
    """Calls of one function that go to a worker together."""

    function: ObjectRef[Any]
    calls: list[Call]
    #: takes one outcome per call, once; runs on the crew's thread
    deliver: Callable[[Sequence[Outcome]], None]

    def fail(self, error: BaseException) -> None:
        """Deliver ``error`` as the outcome of every call."""
        self.deliver([Outcome(error=error)] * len(self.calls))


@dataclass(eq=False, slots=True)
class _Worker:
    actor: Any
    jobs_done: int = 0


@dataclass(frozen=True)
class CrewOptions:
    """How to start workers."""

    size: int
    initializer: Callable[..., Any] | None = None
    initargs: tuple[Any, ...] = ()
    #: jobs after which a worker is replaced by a fresh process; None for never
    max_jobs: int | None = None
    #: actor options
    remote_args: dict[str, Any] = field(default_factory=dict)


class Crew:
    """Starts the workers, feeds them and replaces those that die or have done their share."""

    def __init__(self, options: CrewOptions) -> None:
        self.options = options
        #: set when the crew was closed or terminated and all its workers are gone
        self.finished: threading.Event = threading.Event()
        self._thread = SerialThread("pool")
        self._actor_class = core.remote(PoolWorker).options(**{"num_cpus": 1, **options.remote_args})
        self._backlog: deque[Job] = deque()
        self._idle: list[_Worker] = [self._start_worker() for _ in range(options.size)]
        self._busy: dict[_Worker, Job] = {}
        #: how many workers were asked to leave and are not gone yet
        self._leaving = 0
        self._closing = False

    def submit(self, job: Job) -> None:
        """Have the job done by the next free worker."""
        self._thread.call(self._submit, job)

    def close(self) -> None:
        """Let the workers go when all jobs are done."""
        self._thread.call(self._close)

    def terminate(self) -> None:
        """End the workers now; unfinished jobs fail. May be called from a finaliser."""
        self._thread.call(self._terminate)

    def _start_worker(self) -> _Worker:
        return _Worker(self._actor_class.remote(self.options.initializer, self.options.initargs))

    def _submit(self, job: Job) -> None:
        if self.finished.is_set():
            job.fail(_terminated())
            return
        self._backlog.append(job)
        self._assign()

    def _assign(self) -> None:
        while self._backlog and self._idle:
            job = self._backlog.popleft()
            worker = self._idle.pop()
            try:
                ref = worker.actor.run.remote([job.function], job.calls)
            except Exception as error:  # noqa: BLE001 - pickling the arguments runs the user's code
                self._idle.append(worker)
                job.fail(error)
                continue
            self._busy[worker] = job
            self._thread.call_when_done(ref, self._done, worker)
        if self._closing and not self._backlog:
            self._dismiss_idle()

    def _done(self, worker: _Worker, future: Future[list[Outcome]]) -> None:
        job = self._busy.pop(worker, None)
        if job is None:  # the crew was terminated meanwhile
            return
        error = future.exception()
        try:
            if error is None:
                job.deliver(future.result())
            else:
                job.fail(error)
        finally:
            self._take_back(worker, dead=isinstance(error, RayActorError))
            self._assign()

    def _take_back(self, worker: _Worker, *, dead: bool) -> None:
        worker.jobs_done += 1
        worn_out = self.options.max_jobs is not None and worker.jobs_done >= self.options.max_jobs
        if worn_out and not dead:
            self._dismiss(worker)
        # When nothing is left to do, no new process is started only to leave again.
        if not dead and not worn_out:
            self._idle.append(worker)
        elif not self._closing or self._backlog:
            self._idle.append(self._start_worker())

    def _close(self) -> None:
        self._closing = True
        self._assign()

    def _dismiss_idle(self) -> None:
        while self._idle:
            self._dismiss(self._idle.pop())
        self._finish_if_empty()

    def _dismiss(self, worker: _Worker) -> None:
        try:
            gone = worker.actor.__ray_terminate__.remote()
        except RayError:  # the session is over, and the worker with it
            return
        self._leaving += 1
        self._thread.call_when_done(gone, self._left)

    def _left(self, _future: Future[Any]) -> None:
        self._leaving -= 1
        self._finish_if_empty()

    def _finish_if_empty(self) -> None:
        if self._closing and not (self._idle or self._busy or self._backlog or self._leaving):
            self._finish()

    def _finish(self) -> None:
        if not self.finished.is_set():
            self.finished.set()
            self._thread.stop()

    def _terminate(self) -> None:
        if self.finished.is_set():
            return
        jobs = [*self._busy.values(), *self._backlog]
        workers = [*self._busy, *self._idle]
        self._busy.clear()
        self._backlog.clear()
        self._idle.clear()
        for worker in workers:
            _kill(worker.actor)
        for job in jobs:
            job.fail(_terminated())
        self._finish()


def _kill(actor: Any) -> None:
    """End a worker, if its session is not over already (then it is gone)."""
    if not core.is_initialized():
        return
    try:
        core.kill(actor)
    except (RayError, ValueError):  # the session ended, or the actor died, meanwhile
        return


def _terminated() -> RuntimeError:
    return RuntimeError("the pool was terminated before this call was finished")
