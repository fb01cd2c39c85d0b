"""Background tasks by HTTP: submit, look, fetch, cancel, try again. A router for any FastAPI application.

==============================  ====================================================================================
``POST /NAME``                  submit; the body is an object of keyword arguments or an array of positional ones;
                                202 with ``Location``. ``Idempotency-Key`` in the header, ``?priority=&delay_s=``
``GET /``                       the newest tasks; ``?status=FAILED`` for the dead letters
``GET /ID``                     where it stands
``GET /ID/result``              200 with the result as JSON, 202 if there is none yet (``?wait_s=`` waits), 410 if it
                                was cancelled, 500 if it failed, 404 if it is unknown or expired
``DELETE /ID``                  cancel
``POST /ID/retry``              try again what failed or was cancelled
==============================  ====================================================================================
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from serve.tasks.decorator import Task
from serve.tasks.errors import TaskCancelledError, TaskError, TaskFailedError, TaskNotFoundError, TaskStateError
from serve.tasks.lifecycle import TaskRecord, TaskStatus
from serve.tasks.queue import TaskQueue
from serve.tasks.run import LOOK_S, TaskRun

#: seconds that a client may wait for a result in one request
LONGEST_WAIT_S = 60.0
#: seconds after which a client is told to look again
RETRY_AFTER = {"Retry-After": "1"}


def router(*tasks: Task[..., Any]) -> APIRouter:
    """Return a router that submits these tasks and answers for them; see the module's docstring.

    ::

        app = FastAPI()
        app.include_router(serve.tasks.router(transcode), prefix="/jobs")

    Args:
        *tasks: made by ``@serve.task``.

    Raises:
        ValueError: two have one name.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"tasks are told apart by their names, and two of these are the same: {names}")
    return _Routes(tasks).router


class _Routes:
    def __init__(self, tasks: tuple[Task[..., Any], ...]) -> None:
        self._tasks = {task.name: task for task in tasks}
        self.router = router = APIRouter(tags=["tasks"])
        for task in tasks:
            router.add_api_route(
                f"/{task.name}",
                self._submit_to(task),
                methods=["POST"],
                status_code=202,
                name=f"submit {task.name}",
                description=inspect.getdoc(task.function) or f"Have {task.name} called in the background.",
                responses={422: {"description": "The body does not fit the function's parameters"}},
            )
        router.add_api_route("/", self._list, methods=["GET"], name="list tasks")
        router.add_api_route("/{task_id}", self._look, methods=["GET"], name="look at a task")
        router.add_api_route("/{task_id}", self._cancel, methods=["DELETE"], name="cancel a task")
        router.add_api_route("/{task_id}/result", self._result, methods=["GET"], name="fetch a result")
        router.add_api_route("/{task_id}/retry", self._retry, methods=["POST"], status_code=202, name="try again")

    def _submit_to(self, task: Task[..., Any]) -> Callable[..., Any]:
        async def submit(
            request: Request,
            response: Response,
            idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
            priority: int | None = None,
            delay_s: Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)] = 0.0,
        ) -> dict[str, Any]:
            args, kwargs = _arguments(await request.body() and await _json(request))
            options = task.options(priority=priority, delay_s=delay_s, idempotency_key=idempotency_key)
            try:
                run = await asyncio.to_thread(options.submit, *args, **kwargs)
            except TypeError as error:
                raise HTTPException(422, str(error)) from None
            response.headers["Location"] = f"{request.scope['path'].rpartition('/')[0]}/{run.id}"
            return describe(await asyncio.to_thread(run.info))

        return submit

    def _queues(self) -> list[TaskQueue]:
        return list({task.queue.path: task.queue for task in self._tasks.values()}.values())

    def _run(self, task_id: str) -> TaskRun[Any]:
        """Return a task, if it is one of ours."""
        for queue in self._queues():
            if queue.name == task_id.partition(".")[0]:
                try:
                    task = queue.get(task_id)
                except TaskNotFoundError:
                    continue
                if task.name in self._tasks:
                    return TaskRun(queue, task_id)
        raise HTTPException(404, f"there is no task {task_id!r}; its result may have expired")

    def _list(
        self,
        status: TaskStatus | None = None,
        name: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[dict[str, Any]]:
        found = [
            record
            for queue in self._queues()
            for each in ([name] if name else self._tasks)
            if each in self._tasks and self._tasks[each].queue.path == queue.path
            for record in queue.tasks(status, each, limit)
        ]
        found.sort(key=lambda record: record.created_at, reverse=True)
        return [describe(record) for record in found[:limit]]

    def _look(self, task_id: str, response: Response) -> dict[str, Any]:
        task = self._run(task_id).info()
        if not task.status.ended:
            response.headers.update(RETRY_AFTER)
        return describe(task)

    async def _result(
        self, task_id: str, wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, allow_inf_nan=False)] = 0.0
    ) -> Response:
        run = await asyncio.to_thread(self._run, task_id)
        deadline = time.monotonic() + wait_s
        while not (task := await asyncio.to_thread(run.info)).status.ended:
            if time.monotonic() >= deadline:
                return JSONResponse(describe(task), 202, RETRY_AFTER)
            await asyncio.sleep(LOOK_S[1] / 2)
        try:
            result = await asyncio.to_thread(run.result, 0)
        except TaskCancelledError as error:
            raise HTTPException(410, str(error)) from None
        except TaskFailedError:
            raise HTTPException(500, describe(task)) from None
        except TaskNotFoundError as error:
            raise HTTPException(404, str(error)) from None
        try:
            return JSONResponse(jsonable_encoder(result))
        except (ValueError, TypeError):
            raise HTTPException(
                406, "the result is no JSON; Python gets it with serve.tasks.get(id).result()"
            ) from None

    def _cancel(self, task_id: str) -> dict[str, Any]:
        run = self._run(task_id)
        if not run.cancel():
            raise HTTPException(409, f"task {task_id} is {run.status()}: there is nothing to cancel")
        return describe(run.info())

    def _retry(self, task_id: str) -> dict[str, Any]:
        run = self._run(task_id)
        try:
            run.retry()
        except TaskStateError as error:
            raise HTTPException(409, str(error)) from None
        except TaskError as error:
            raise HTTPException(404, str(error)) from None
        return describe(run.info())


def describe(task: TaskRecord) -> dict[str, Any]:
    """Return what clients learn of a task: no tracebacks, which belong to the server, but the error's last line."""
    return {
        "id": task.id,
        "name": task.name,
        "status": "CANCELLING" if task.cancel_requested and not task.status.ended else str(task.status),
        "attempts": task.attempts,
        "priority": task.priority,
        "created_at": task.created_at,
        "run_at": task.run_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "error": task.error.strip().rpartition("\n")[2] or None,
    }


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError:
        raise HTTPException(422, "the body is no JSON") from None


def _arguments(body: Any) -> tuple[list[Any], dict[str, Any]]:
    match body:
        case None | b"":
            return [], {}
        case list():
            return body, {}
        case dict():
            return [], body
    raise HTTPException(422, "the body is an object of keyword arguments, or an array of positional ones")
