"""Errors of background tasks.

::

    RayServeException
    └── TaskError
        ├── TaskNotFoundError     there is no such task, or its result has expired
        ├── TaskFailedError       it was given up; carries the traceback of its last attempt
        ├── TaskCancelledError    it was cancelled
        ├── TaskStateError        what was asked for does not go together with where the task stands
        └── DoNotRetryError       raised by a task's own code: another attempt would make no sense
"""

from __future__ import annotations

from serve.errors import RayServeException


class TaskError(RayServeException):
    """Base of all errors of background tasks."""


class TaskNotFoundError(TaskError, LookupError):
    """There is no such task, or its result has expired."""


class TaskFailedError(TaskError):
    """The task was given up. ``__cause__`` is the exception of its last attempt, where that could be pickled.

    Args:
        task_id: which task.
        error: the traceback of its last attempt.
    """

    def __init__(self, task_id: str, error: str) -> None:
        super().__init__(task_id, error)
        self.task_id = task_id
        self.error = error

    def __str__(self) -> str:
        return f"task {self.task_id} failed:\n{self.error}"


class TaskCancelledError(TaskError):
    """The task was cancelled, so there is no result."""


class TaskStateError(TaskError):
    """What was asked for does not go together with where the task stands."""


class DoNotRetryError(TaskError):
    """Raise it in a task's code when another attempt would make no sense: the task is given up at once."""
