"""``serve.task_workers``: an application whose replicas work on background tasks."""

from __future__ import annotations

import asyncio
from typing import Any

from serve.api.deployment import Application, Deployment
from serve.api.ingress import ingress
from serve.tasks.decorator import Task
from serve.tasks.worker import Worker


@ingress()
class TaskWorkers:
    """What each replica runs: the work on the queue, and its HTTP face.

    Args:
        tasks: all of one queue.
        concurrency: tasks at a time.
    """

    async def __init__(self, tasks: tuple[Task[..., Any], ...], concurrency: int) -> None:  # type: ignore[misc]
        self._tasks = tasks
        functions = {task.name: task.function for task in tasks}
        self._worker = Worker(tasks[0].queue, functions, concurrency, asyncio.get_running_loop())
        self._worker.start()

    def __serve_build_asgi_app__(self) -> Any:
        from fastapi import FastAPI  # noqa: PLC0415 - slow to import, and needed in replicas only

        from serve.tasks.http import router  # noqa: PLC0415 - likewise

        app = FastAPI(title="Background tasks")
        app.include_router(router(*self._tasks))
        return app

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what `serve.tasks.scale_by_backlog` goes by; it also appears among the metrics."""
        return {
            "due_tasks": float(self._tasks[0].queue.due()),
            "running_tasks": float(self._worker.running),
            "task_concurrency": float(self._worker.concurrency),
        }

    def check_health(self) -> None:
        """Fail if nobody works on the queue any more."""
        if not self._worker.alive:
            raise RuntimeError("the thread that works on the queue has ended")

    async def __serve_drain__(self) -> None:
        await self._worker.drain()

    async def __del__(self) -> None:
        self._worker.stop()
        await asyncio.to_thread(self._worker.join, 10.0)


def task_workers(*tasks: Task[..., Any], concurrency: int = 1, name: str | None = None, **options: Any) -> Application:
    """Return an application whose replicas work on background tasks, for ``serve.run``.

    With a ``route_prefix`` the tasks can also be submitted and asked for by HTTP; see `serve.tasks.router`. A replica
    that stops finishes the tasks it has, within its ``graceful_shutdown_timeout_s``; what is then not done goes back
    to the queue.

    Args:
        *tasks: made by ``@serve.task``, all of one queue.
        concurrency: tasks that a replica works on at a time. Functions that are not ``async`` run in threads.
        name: of the deployment; default: ``TaskWorkers``.
        **options: of the deployment, as for ``@serve.deployment``: ``num_replicas``, ``ray_actor_options``, ...

    Raises:
        TypeError: something is no task.
        ValueError: no tasks, tasks of several queues, two of one name, or a wrong option.
    """
    for each in tasks:
        if not isinstance(each, Task):
            raise TypeError(f"task_workers takes functions decorated with @serve.task, not {each!r}")
    if not tasks:
        raise ValueError("task_workers needs at least one task")
    if len({(each.directory, each.queue_name) for each in tasks}) > 1:
        raise ValueError("tasks of several queues need an application for each queue")
    if len({each.name for each in tasks}) < len(tasks):
        raise ValueError(f"two of these tasks have one name: {', '.join(each.name for each in tasks)}")
    if type(concurrency) is not int or concurrency < 1:
        raise ValueError(f"concurrency is a whole number of at least 1, not {concurrency!r}")
    return Deployment(TaskWorkers, name or "TaskWorkers", options).bind(tasks, concurrency)
