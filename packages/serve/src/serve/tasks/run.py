"""A submitted task, as whoever submitted it sees it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator
from typing import Any, Generic, TypeVar, cast

from serve.tasks.errors import TaskCancelledError, TaskFailedError, TaskNotFoundError
from serve.tasks.lifecycle import TaskRecord, TaskStatus
from serve.tasks.payload import decode
from serve.tasks.queue import TaskQueue, open_queue

R_co = TypeVar("R_co", covariant=True)

#: seconds between two looks for a result: at first, and at last
LOOK_S = (0.01, 0.25)


class TaskRun(Generic[R_co]):
    """A submitted task: ask for its status, wait for its result (or ``await`` it), cancel it, try it again.

    Comes from ``task.submit(...)`` and ``serve.tasks.get(id)``; any process of this machine can ask.
    """

    def __init__(self, queue: TaskQueue, task_id: str) -> None:
        self._queue = queue
        self._id = task_id

    @property
    def id(self) -> str:
        """The id, by which ``serve.tasks.get`` finds it."""
        return self._id

    def info(self) -> TaskRecord:
        """Return everything known of it but arguments and result: attempts, times, the last error.

        Raises:
            TaskNotFoundError: its result has expired, or it was removed.
        """
        return self._queue.get(self._id)

    def status(self) -> TaskStatus:
        """Return where it stands.

        Raises:
            TaskNotFoundError: its result has expired, or it was removed.
        """
        return self.info().status

    def result(self, timeout_s: float | None = None) -> R_co:
        """Wait for the result and return it.

        Args:
            timeout_s: seconds to wait; None for as long as it takes.

        Raises:
            TimeoutError: the time is over; the task goes on.
            TaskFailedError: it was given up; the text has the traceback, ``__cause__`` the exception.
            serve.tasks.errors.TaskCancelledError: it was cancelled.
            TaskNotFoundError: its result has expired, or it was removed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        wait, longest = LOOK_S
        while not (outcome := self._outcome()):
            left = longest if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no result of task {self._id} within {timeout_s:g} s; it is {self.status()}")
            time.sleep(min(wait, left))
            wait = min(wait * 1.5, longest)
        return cast("R_co", outcome[0])

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._wait().__await__()

    async def _wait(self) -> R_co:
        wait, longest = LOOK_S
        while not (outcome := await asyncio.to_thread(self._outcome)):
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, longest)
        return cast("R_co", outcome[0])

    def _outcome(self) -> tuple[Any] | None:
        """Return the result in a tuple, or None as long as there is none."""
        task, result = self._queue.get_with_result(self._id)
        if not task.status.ended:
            return None
        if task.status is TaskStatus.CANCELLED:
            raise TaskCancelledError(f"task {self._id} was cancelled")
        if task.status is TaskStatus.FAILED:
            raise TaskFailedError(self._id, task.error) from _cause(result)
        return (decode(result or b"jnull"),)

    def cancel(self) -> bool:
        """Cancel it: what waits never runs, what runs is interrupted soon. False if it has ended.

        An ``async`` function is interrupted at its next ``await``; another one runs on (it may ask
        ``serve.tasks.current().cancelled``), and its result is thrown away.
        """
        return not self._queue.cancel(self._id).status.ended or self.status() is TaskStatus.CANCELLED

    def retry(self) -> None:
        """Try it again, with all its attempts, after it failed or was cancelled.

        Raises:
            TaskStateError: it did neither.
        """
        self._queue.requeue(self._id)

    def remove(self) -> None:
        """Forget it, after it has ended.

        Raises:
            TaskStateError: it has not.
        """
        self._queue.remove(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskRun) and (self._queue.path, self._id) == (other._queue.path, other._id)

    def __hash__(self) -> int:
        return hash((self._queue.path, self._id))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._queue.name, str(self._queue.path.parent), self._id)

    def __repr__(self) -> str:
        return f"TaskRun({self._id!r})"


def get(task_id: str, directory: str | os.PathLike[str] | None = None) -> TaskRun[Any]:
    """Return a task that was submitted by whatever process.

    Args:
        task_id: its id.
        directory: where its queue is, if that is not the default.

    Raises:
        TaskNotFoundError: there is none.
    """
    queue_name, dot, _ = task_id.partition(".")
    if not dot:
        raise TaskNotFoundError(f"{task_id!r} is no id of a task; they look like 'queue.0123456789ab'")
    run: TaskRun[Any] = TaskRun(open_queue(queue_name, directory), task_id)
    run.info()
    return run


def _restore(name: str, directory: str, task_id: str) -> TaskRun[Any]:
    return TaskRun(open_queue(name, directory), task_id)


def _cause(result: bytes | None) -> BaseException | None:
    if result is None:
        return None
    try:
        cause = decode(result)
    except Exception:  # noqa: BLE001 - of a class that is no more: the text says it all
        return None
    return cause if isinstance(cause, BaseException) else None
