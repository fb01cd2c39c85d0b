"""ASGI without a server: an application that runs on another event loop than its client's, and its lifespan."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from serve.local.loop_thread import LoopThread

App = Callable[..., Any]


def across_loops(app: App, home: LoopThread, state: dict[str, Any]) -> App:
    """Return an ASGI application that may be called on any event loop and runs on its own.

    Whoever cancels the call cancels the request. Errors of the application are raised to the caller.

    Args:
        app: the application.
        home: where it runs.
        state: of its lifespan.
    """

    async def called(scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":  # it began with the replica
            await no_lifespan(receive, send)
            return
        here = asyncio.get_running_loop()

        async def inner_receive() -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(receive()), here))

        async def inner_send(message: Any) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(send(message)), here))

        await _run(app({**scope, "state": dict(state)}, inner_receive, inner_send), home)

    return called


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _run(work: Coroutine[Any, Any, None], home: LoopThread) -> None:
    """Run on the other loop, and wait here; cancelling here cancels there."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    started: list[asyncio.Task[None]] = []

    def begin() -> None:
        task = home.spawn(work)
        started.append(task)
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            done.cancel()
            return
        error = task.exception()
        if done.set_running_or_notify_cancel():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    if not home.call(begin):
        work.close()
        raise RuntimeError("the application was closed")
    try:
        await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        home.call(lambda: [task.cancel() for task in started])
        raise


async def no_lifespan(receive: Any, send: Any) -> None:
    """Say yes to the beginning and the end of a client's lifespan."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class Lifespan:
    """The lifespan of an application, begun and ended by hand. Applications without one are left alone.

    Args:
        app: the application.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._orders: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        #: what the application's start left for its requests
        self.state: dict[str, Any] = {}

    async def begin(self) -> None:
        """Run what the application does at its start.

        Raises:
            RuntimeError: it failed; the cause is what it raised.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._asked("lifespan.startup")
        if answer == "lifespan.startup.failed":
            await asyncio.wait([self._task])
            raise RuntimeError("the application's lifespan failed at its start") from self._task.exception()

    async def end(self) -> None:
        """Run what the application does at its end."""
        if self._task is not None and not self._task.done():
            await self._asked("lifespan.shutdown")
            await asyncio.wait([self._task], timeout=1)

    async def _asked(self, order: str) -> str:
        assert self._task is not None
        self._orders.put_nowait({"type": order})
        answer = asyncio.get_running_loop().create_task(self._answers.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():  # the application ended without a word: it has no lifespan
            answer.cancel()
            self._task.exception()  # seen: servers take it for the same
            return ""
        return answer.result()["type"]

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._orders.get, self._answers.put)
