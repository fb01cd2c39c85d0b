"""What may become of a task: a pure machine.

::

                 claimed                        succeeded
    PENDING ---------------> RUNNING -----------------------------> SUCCEEDED
      ^  | cancelled          |  |   failed for the last time ----> FAILED  (a dead letter)
      |  +----> CANCELLED <---+  |   cancelled
      |                          |
      +--------------------------+  failed, lost with its worker, given back
      +---- requeued: FAILED, CANCELLED

A task that is claimed is leased to one worker under a new *token*. Whoever reports with an old token is not heard: his
lease was over, and the task may run elsewhere by now. So a task may run more than once (at least once, never lost),
but ends once.
"""

from __future__ import annotations

import enum

import msgspec


class TaskStatus(enum.StrEnum):
    """Where a task stands."""

    #: waits for a worker, or for its time
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    #: given up: a dead letter, kept until somebody requeues or removes it
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing happens any more unless somebody asks for it."""
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)


class Policy(msgspec.Struct, frozen=True):
    """How a task is treated; part of the task, so that a queue outlives changes of the code."""

    #: further attempts after one that failed
    max_retries: int = 3
    #: seconds before the first further attempt; each later one waits twice as long
    retry_backoff_s: float = 1.0
    #: no wait is longer
    retry_backoff_max_s: float = 600.0
    #: seconds that an attempt may take; None for any time
    timeout_s: float | None = None
    #: seconds without a sign of life from its worker after which another gets it
    lease_s: float = 30.0
    #: seconds that a result is kept; None for ever
    result_ttl_s: float | None = 86400.0


class TaskRecord(msgspec.Struct, frozen=True):
    """A task without its arguments and result. Times are seconds since the epoch."""

    id: str
    #: of the function that works on it
    name: str
    created_at: float
    #: not before
    run_at: float
    #: higher first
    priority: int = 0
    policy: Policy = Policy()
    status: TaskStatus = TaskStatus.PENDING
    #: attempts begun since it was submitted or requeued
    attempts: int = 0
    #: counts the claims; the token of the lease
    token: int = 0
    #: the worker's process, while it runs
    owner: str = ""
    lease_until: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    cancel_requested: bool = False
    #: why the last attempt failed, with its traceback
    error: str = ""
    key: str | None = None


def claim(task: TaskRecord, now: float, owner: str) -> TaskRecord:
    """A worker takes it."""
    assert task.status is TaskStatus.PENDING and task.run_at <= now
    return msgspec.structs.replace(
        task,
        status=TaskStatus.RUNNING,
        attempts=task.attempts + 1,
        token=task.token + 1,
        owner=owner,
        lease_until=now + task.policy.lease_s,
        started_at=now,
    )


def holds(task: TaskRecord, token: int) -> bool:
    """Tell whether this token is the current lease's."""
    return task.status is TaskStatus.RUNNING and task.token == token


def extend(task: TaskRecord, now: float) -> TaskRecord:
    """Its worker lives and works on it."""
    return msgspec.structs.replace(task, lease_until=now + task.policy.lease_s)


def succeed(task: TaskRecord, now: float) -> TaskRecord:
    """It has a result. One that was cancelled meanwhile is cancelled."""
    return _end(task, TaskStatus.CANCELLED if task.cancel_requested else TaskStatus.SUCCEEDED, now, "")


def fail(task: TaskRecord, now: float, error: str, draw: float, *, retry: bool = True) -> TaskRecord:
    """An attempt failed.

    Args:
        task: the task.
        now: the time.
        error: why.
        draw: from 0 up to 1, at random: spreads retries that failed together.
        retry: whether another attempt makes sense.
    """
    if task.cancel_requested:
        return _end(task, TaskStatus.CANCELLED, now, error)
    if not retry or task.attempts > task.policy.max_retries:
        return _end(task, TaskStatus.FAILED, now, error)
    wait = backoff(task.policy, task.attempts) * (0.75 + 0.5 * draw)
    return _pending(task, now + wait, error)


def lose(task: TaskRecord, now: float) -> TaskRecord:
    """Its worker died, or gave no sign of life for too long. That counts as an attempt: it may have been the cause."""
    error = f"the worker that had it ended or gave no sign of life (attempt {task.attempts})"
    if task.cancel_requested:
        return _end(task, TaskStatus.CANCELLED, now, error)
    if task.attempts > task.policy.max_retries:
        return _end(task, TaskStatus.FAILED, now, error)
    # most workers die for reasons of their own: the first time, nobody has to wait
    return _pending(task, now + (backoff(task.policy, task.attempts - 1) if task.attempts > 1 else 0.0), error)


def give_back(task: TaskRecord, now: float) -> TaskRecord:
    """Its worker stops before it was done. That is no attempt."""
    if task.cancel_requested:
        return _end(task, TaskStatus.CANCELLED, now, task.error)
    return msgspec.structs.replace(_pending(task, now, task.error), attempts=task.attempts - 1)


def cancel(task: TaskRecord, now: float) -> TaskRecord:
    """Somebody does not want it any more."""
    if task.status is TaskStatus.PENDING:
        return _end(task, TaskStatus.CANCELLED, now, task.error)
    if task.status is TaskStatus.RUNNING:
        return msgspec.structs.replace(task, cancel_requested=True)
    return task


def requeue(task: TaskRecord, now: float) -> TaskRecord:
    """Try again what failed or was cancelled, as if it were new."""
    assert task.status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
    return msgspec.structs.replace(_pending(task, now, task.error), attempts=0, cancel_requested=False)


def expires_at(task: TaskRecord) -> float | None:
    """Return when it is forgotten; None for never. Dead letters are kept until somebody decides."""
    if task.finished_at is None or task.status is TaskStatus.FAILED or task.policy.result_ttl_s is None:
        return None
    return task.finished_at + task.policy.result_ttl_s


def backoff(policy: Policy, failures: int) -> float:
    """Return the seconds to wait after so many failures, before any spreading."""
    doublings = min(failures - 1, 60)  # beyond, the power would be larger than any float
    return min(policy.retry_backoff_s * 2.0**doublings, policy.retry_backoff_max_s)


def _pending(task: TaskRecord, run_at: float, error: str) -> TaskRecord:
    return msgspec.structs.replace(
        task,
        status=TaskStatus.PENDING,
        run_at=run_at,
        owner="",
        lease_until=0.0,
        started_at=None,
        finished_at=None,
        error=error,
    )


def _end(task: TaskRecord, status: TaskStatus, now: float, error: str) -> TaskRecord:
    return msgspec.structs.replace(task, status=status, owner="", lease_until=0.0, finished_at=now, error=error)
