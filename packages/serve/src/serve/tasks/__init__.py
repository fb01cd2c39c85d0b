"""Background tasks that survive: ``@serve.task``, their queue on the disk, and Ray's names for such things.

``serve.tasks.get(id)`` finds a task; ``serve.tasks.open_queue(name)`` lists and counts them, and gives dead letters
another chance; ``serve.tasks.current()`` tells a task's code about itself; ``serve.tasks.router(...)`` serves HTTP.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.tasks.consumer import (
        SQLiteTaskProcessorAdapter,
        TaskProcessorConfig,
        TaskResult,
        instantiate_adapter_from_config,
        task_consumer,
        task_handler,
    )
    from serve.tasks.decorator import Task
    from serve.tasks.errors import (
        DoNotRetryError,
        TaskCancelledError,
        TaskError,
        TaskFailedError,
        TaskNotFoundError,
        TaskStateError,
    )
    from serve.tasks.http import router
    from serve.tasks.lifecycle import TaskRecord, TaskStatus
    from serve.tasks.queue import TaskQueue, open_queue
    from serve.tasks.run import TaskRun, get
    from serve.tasks.scaling import scale_by_backlog
    from serve.tasks.worker import CurrentTask, current

#: name -> module that defines it
_HOMES = {
    "CurrentTask": "worker",
    "DoNotRetryError": "errors",
    "SQLiteTaskProcessorAdapter": "consumer",
    "Task": "decorator",
    "TaskCancelledError": "errors",
    "TaskError": "errors",
    "TaskFailedError": "errors",
    "TaskNotFoundError": "errors",
    "TaskProcessorConfig": "consumer",
    "TaskQueue": "queue",
    "TaskRecord": "lifecycle",
    "TaskResult": "consumer",
    "TaskRun": "run",
    "TaskStateError": "errors",
    "TaskStatus": "lifecycle",
    "current": "worker",
    "get": "run",
    "instantiate_adapter_from_config": "consumer",
    "open_queue": "queue",
    "router": "http",
    "scale_by_backlog": "scaling",
    "task_consumer": "consumer",
    "task_handler": "consumer",
}

__all__ = [
    "CurrentTask",
    "DoNotRetryError",
    "SQLiteTaskProcessorAdapter",
    "Task",
    "TaskCancelledError",
    "TaskError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TaskProcessorConfig",
    "TaskQueue",
    "TaskRecord",
    "TaskResult",
    "TaskRun",
    "TaskStateError",
    "TaskStatus",
    "current",
    "get",
    "instantiate_adapter_from_config",
    "open_queue",
    "router",
    "scale_by_backlog",
    "task_consumer",
    "task_handler",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
