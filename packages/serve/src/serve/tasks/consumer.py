"""Ray's names for background tasks: a deployment whose methods work on the tasks of a queue.

::

    config = TaskProcessorConfig(queue_name="videos", adapter_config={"directory": "/var/lib/videos"})


    @serve.deployment
    @task_consumer(task_processor_config=config)
    class Videos:
        def __init__(self) -> None:
            self.model = load()

        @task_handler(name="caption")
        def caption(self, path: str) -> str: ...


    adapter = instantiate_adapter_from_config(config)
    task = adapter.enqueue_task_sync("caption", args=["film.mkv"])
    adapter.get_task_status_sync(task.id).status

Ray's adapters need a broker and its own server; the one here keeps the queue in a file (`serve.tasks.queue`). Dead
letters stay in the queue with the status ``FAILED``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field

from serve.config import Checked
from serve.tasks.errors import TaskNotFoundError
from serve.tasks.lifecycle import Policy, TaskStatus
from serve.tasks.payload import decode, encode
from serve.tasks.queue import TaskQueue, open_queue
from serve.tasks.run import TaskRun
from serve.tasks.worker import Worker

C = TypeVar("C", bound=type)

logger = logging.getLogger("serve.tasks")

_HANDLER = "__serve_task_handler__"
#: Ray's adapters report Celery's words
_CELERY = {
    TaskStatus.PENDING: "PENDING",
    TaskStatus.RUNNING: "STARTED",
    TaskStatus.SUCCEEDED: "SUCCESS",
    TaskStatus.FAILED: "FAILURE",
    TaskStatus.CANCELLED: "REVOKED",
}


class SQLiteAdapterConfig(Checked):
    """Where the queue is, and how many of its tasks a replica works on."""

    #: directory of the queue's file; None for ``~/skate_results/tasks``
    directory: str | None = None
    #: tasks that a replica works on at a time
    concurrency: Annotated[int, Field(ge=1)] = 10


class TaskProcessorConfig(Checked):
    """What a consumer works on, and how. Ray's names."""

    queue_name: str
    #: a class like `SQLiteTaskProcessorAdapter`, or ``module:Class`` (or ``module.Class``) of one
    adapter: Any = "serve.tasks:SQLiteTaskProcessorAdapter"
    #: for the adapter
    adapter_config: Any = None
    max_retries: Annotated[int, Field(ge=0)] = 3
    #: taken for the sake of programs written for Ray: dead letters stay in their queue
    failed_task_queue_name: str | None = None
    #: likewise
    unprocessable_task_queue_name: str | None = None


class TaskResult(Checked):
    """A task as Ray's adapters report it; the status in Celery's words."""

    id: str
    status: str
    created_at: float | None = None
    result: Any = None


class SQLiteTaskProcessorAdapter:
    """Ray's adapter interface over a queue in a file.

    Args:
        config: queue, directory and retries.
    """

    def __init__(self, config: TaskProcessorConfig) -> None:
        given = config.adapter_config
        options = given if isinstance(given, SQLiteAdapterConfig) else None
        self._options = options or SQLiteAdapterConfig.of("adapter_config", dict(given or {}))
        self._policy = Policy(max_retries=config.max_retries)
        self._queue: TaskQueue = open_queue(config.queue_name, self._options.directory)
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._worker: Worker | None = None
        if config.failed_task_queue_name or config.unprocessable_task_queue_name:
            logger.info("dead letters stay in queue %s, with the status FAILED", self._queue.path)

    @property
    def queue(self) -> TaskQueue:
        """The queue, with all that Ray's interface has no name for."""
        return self._queue

    def initialize(self, consumer_concurrency: int | None = None) -> None:
        """Set the number of tasks at a time, if it is not to be the configured one."""
        if consumer_concurrency is not None:
            self._options = self._options.model_copy(update={"concurrency": consumer_concurrency})

    def register_task_handle(self, func: Callable[..., Any], name: str | None = None) -> None:
        """Add a function that works on the tasks of its name."""
        self._handlers[name or func.__name__] = func

    # -- submitting ---------------------------------------------------------------------------------------------------

    def enqueue_task_sync(
        self, task_name: str, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> TaskResult:
        """Submit a task; on return it is on the disk.

        Args:
            task_name: name of its handler.
            args: positional arguments.
            kwargs: keyword arguments.
            **options: ``priority``, ``countdown`` (seconds before it may run), ``task_key``: adds it only once.

        Raises:
            ValueError: an unknown option.
            TypeError: the arguments cannot be kept.
        """
        unknown = options.keys() - {"priority", "countdown", "task_key"}
        if unknown:
            raise ValueError(f"unknown option {min(unknown)!r}; expected priority, countdown or task_key")
        record = self._queue.submit(
            task_name,
            encode([list(args or ()), dict(kwargs or {})]),
            self._policy,
            priority=options.get("priority", 0),
            delay_s=options.get("countdown", 0.0),
            key=options.get("task_key"),
        )
        return TaskResult(id=record.id, status=_CELERY[record.status], created_at=record.created_at)

    def get_task_status_sync(self, task_id: str) -> TaskResult:
        """Return where a task stands; the result is the text of the error if it failed."""
        try:
            task, result = self._queue.get_with_result(task_id)
        except TaskNotFoundError:
            return TaskResult(id=task_id, status="PENDING")  # as Celery says of what it does not know
        value: Any = task.error or None
        if task.status is TaskStatus.SUCCEEDED:
            value = decode(result or b"jnull")
        return TaskResult(id=task_id, status=_CELERY[task.status], created_at=task.created_at, result=value)

    def cancel_task_sync(self, task_id: str) -> bool:
        """Cancel a task; False if it has ended."""
        return TaskRun(self._queue, task_id).cancel()

    def get_metrics_sync(self) -> dict[str, Any]:
        """Return how many tasks stand where."""
        return {str(status): count for status, count in self._queue.counts().items()}

    def health_check_sync(self) -> list[dict[str, Any]]:
        """Return whether the queue can be read, as one entry."""
        return [{"queue": str(self._queue.path), "tasks": sum(self._queue.counts().values()), "at": time.time()}]

    async def enqueue_task_async(
        self, task_name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> TaskResult:
        """As `enqueue_task_sync`, for event loops."""
        return await asyncio.to_thread(functools.partial(self.enqueue_task_sync, task_name, args, kwargs, **options))

    async def get_task_status_async(self, task_id: str) -> TaskResult:
        """As `get_task_status_sync`, for event loops."""
        return await asyncio.to_thread(self.get_task_status_sync, task_id)

    async def cancel_task_async(self, task_id: str) -> bool:
        """As `cancel_task_sync`, for event loops."""
        return await asyncio.to_thread(self.cancel_task_sync, task_id)

    async def get_metrics_async(self) -> dict[str, Any]:
        """As `get_metrics_sync`, for event loops."""
        return await asyncio.to_thread(self.get_metrics_sync)

    async def health_check_async(self) -> list[dict[str, Any]]:
        """As `health_check_sync`, for event loops."""
        return await asyncio.to_thread(self.health_check_sync)

    # -- working ------------------------------------------------------------------------------------------------------

    def start_consumer(self, **_options: Any) -> None:
        """Begin to work on tasks. Asynchronous handlers run on the event loop of the calling thread."""
        loop = asyncio.get_running_loop()
        self._worker = Worker(self._queue, self._handlers, self._options.concurrency, loop)
        self._worker.start()

    async def drain(self) -> None:
        """Take no further tasks, and wait until those there are have ended."""
        if self._worker is not None:
            await self._worker.drain()

    def stop_consumer(self, timeout: float = 10.0) -> None:
        """Stop; what is worked on goes back to the queue.

        Args:
            timeout: seconds to wait for the queue to have it.
        """
        if self._worker is not None:
            self._worker.stop()
            self._worker.join(timeout)


def instantiate_adapter_from_config(task_processor_config: TaskProcessorConfig) -> Any:
    """Return the adapter of a config, ready to submit tasks and to ask for them.

    Raises:
        ValueError: the adapter's path leads nowhere.
    """
    adapter = task_processor_config.adapter
    if isinstance(adapter, str):
        module, _, name = adapter.replace(":", ".").rpartition(".")
        try:
            adapter = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"adapter {task_processor_config.adapter!r} cannot be imported: {error}; left out, the queue is a file"
            ) from error
    made = adapter(task_processor_config)
    made.initialize()
    return made


def task_handler(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Mark a method of a consumer as what works on the tasks of a name; its own name if none is given.

    Raises:
        ValueError: the name is empty.
    """
    if name is not None and not name.strip():
        raise ValueError(f"a task's name is a text that is not empty, not {name!r}")

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        setattr(method, _HANDLER, name or method.__name__)
        return method

    return mark if function is None else mark(function)


def task_consumer(*, task_processor_config: TaskProcessorConfig) -> Callable[[C], C]:
    """Make a class work on the tasks of a queue, with its methods that `task_handler` marks.

    Put it between ``@serve.deployment`` and the class. A replica that stops finishes the tasks it has, within its
    ``graceful_shutdown_timeout_s``; what is then not done goes back to the queue.

    Args:
        task_processor_config: the queue, and how it is worked on.

    Raises:
        TypeError: what is decorated is no class.
        ValueError: no method of it is marked.
    """

    def decorate(cls: C) -> C:
        if not inspect.isclass(cls):
            raise TypeError(f"@task_consumer decorates a class, not {cls!r}")
        members = inspect.getmembers(cls, lambda member: hasattr(member, _HANDLER))
        if not members:
            raise ValueError(f"{cls.__name__} has no method marked with @task_handler")
        handlers = {getattr(method, _HANDLER): name for name, method in members}
        made: C = type(  # type: ignore[assignment]  # a subclass
            cls.__name__,
            (_Consumer, cls),
            {
                "__doc__": cls.__doc__,
                "__module__": cls.__module__,
                "__qualname__": cls.__qualname__,
                "__signature__": inspect.signature(cls),
                "_serve_task_config": task_processor_config,
                "_serve_task_handlers": handlers,
            },
        )
        return made

    return decorate


class _Consumer:
    """Starts and stops the work on the queue with the replica."""

    _serve_task_config: TaskProcessorConfig
    _serve_task_handlers: dict[str, str]

    async def __init__(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # replicas await it
        made: Any = super().__init__(*args, **kwargs)
        if inspect.isawaitable(made):
            await made
        self._serve_task_adapter = adapter = instantiate_adapter_from_config(self._serve_task_config)
        for name, method in self._serve_task_handlers.items():
            adapter.register_task_handle(getattr(self, method), name)
        adapter.start_consumer()

    async def __serve_drain__(self) -> None:
        await self._serve_task_adapter.drain()

    async def __del__(self) -> None:
        await asyncio.to_thread(self._serve_task_adapter.stop_consumer)
        finalizer: Any = getattr(super(), "__del__", None)
        if finalizer is not None:
            made = finalizer()
            if inspect.isawaitable(made):
                await made
