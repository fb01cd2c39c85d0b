"""An actor whose class has an ``async def`` method: everything runs on the main thread's event loop.

The loop also reads the sockets. At most ``max_concurrency`` coroutines of a group run at a time; each concurrency group
has a loop and a thread of its own. Apart from :mod:`core.worker.actor`, because asyncio costs a process 10 ms and 2 MB.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import threading
import time
from typing import TYPE_CHECKING

from core.protocol import from_node, peer
from core.runtime.actor_client import ExecutorOptions
from core.runtime.connection import Connection
from core.worker import running as running_module
from core.worker.actor import ActorHost
from core.worker.running import ActorExit, Running

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime
    from core.worker.executor import Executor

#: Coroutines of one asyncio actor at a time, unless it says otherwise (Ray's figure).
ASYNC_CONCURRENCY = 1000
#: Names a module whose ``new_event_loop()`` makes the loops of asyncio actors, in place of asyncio's: ``uvloop``. Given
#: to an actor by ``runtime_env={"env_vars": {...}}``.
LOOP_VARIABLE = "SKATE_EVENT_LOOP"
#: Seconds between two looks of an idle asyncio actor at what died meanwhile.
HOUSEKEEPING = 0.2


class AsyncActorHost(ActorHost):
    """See the module's docstring."""

    def __init__(
        self, runtime: Runtime, executor: Executor, start: from_node.StartActor, options: ExecutorOptions
    ) -> None:
        super().__init__(runtime, executor, start, options)
        self._loop = new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._limits: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: loops that will send their results at the end of their turn
        self._flushing: set[asyncio.AbstractEventLoop] = set()
        #: loops of the concurrency groups
        self._loops: dict[str, asyncio.AbstractEventLoop] = {}

    def _start(self, connection: Connection, call: peer.Call) -> bool:
        running = Running(call.task, self.display_name(call), 2, connection, call.extra)
        self._executor.active[call.task] = running
        group = self._group(call)
        if group:
            loop = self._group_loop(group)
            loop.call_soon_threadsafe(self._spawn, running, call, loop)
        else:
            # Messages are handled by the main loop's own thread, which keeps the reading role.
            self._loop.call_soon(self._spawn, running, call, self._loop)
        return True

    def _group_loop(self, group: str) -> asyncio.AbstractEventLoop:
        """Return the event loop of a concurrency group: each has a thread of its own, so none blocks another."""
        loop = self._loops.get(group)
        if loop is None:
            loop = self._loops[group] = new_event_loop()
            threading.Thread(target=loop.run_forever, name=f"skate-{group}", daemon=True).start()
        return loop

    def _spawn(self, running: Running, call: peer.Call, loop: asyncio.AbstractEventLoop) -> None:
        if running.cancelled:
            # A task that is cancelled before its first step runs nothing of its coroutine, which so could not answer.
            self._executor.outcomes.send_error(running, KeyboardInterrupt(), 0)
            self._executor.ended(running)
            return
        task = loop.create_task(self._run_coroutine(running, call))
        running.coroutine = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_coroutine(self, running: Running, call: peer.Call) -> None:
        limit = self._limit(self._group(call))
        try:
            if limit.locked():
                async with limit:
                    await self._run_limited(running, call)
            else:
                # Nobody waits, so nothing can come between the look and the taking: no await in acquire().
                await limit.acquire()
                try:
                    await self._run_limited(running, call)
                finally:
                    limit.release()
        except asyncio.CancelledError as error:
            self._executor.fail(running, error if not running.cancelled else KeyboardInterrupt(), 0)
        finally:
            self._executor.ended(running)

    async def _run_limited(self, running: Running, call: peer.Call) -> None:
        executor = self._executor
        running_module.begin(running)
        started = time.perf_counter()
        try:
            method = self.method(call.method)
            args, kwargs = executor.outcomes.arguments(call.task, call.args, call.extra)
            running.in_user_code = True
            value = method(*args, **kwargs)
            del args, kwargs
            if inspect.iscoroutine(value):
                value = await value
            running.in_user_code = False
            if call.extra is not None and call.extra.returns < 0:
                if inspect.isasyncgen(value):
                    await executor.producers.run_async(running, value)
                else:
                    executor.producers.run(running, value)
            else:
                executor.outcomes.send_value(running, value, int((time.perf_counter() - started) * 1e6))
                self._flush_soon()
        except ActorExit:
            executor.announce_exit("exit_actor() was called")
            executor.leave(0)
        except SystemExit as request:
            executor.system_exit(request)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            running.in_user_code = False
            executor.fail(running, error, int((time.perf_counter() - started) * 1e6))

    def _limit(self, group: str) -> asyncio.Semaphore:
        limit = self._limits.get(group)
        if limit is None:
            size = self._groups.get(group, 0) or self._options.max_concurrency or ASYNC_CONCURRENCY
            limit = self._limits[group] = asyncio.Semaphore(size)
        return limit

    def _flush_soon(self) -> None:
        """Send the results of one turn of the loop together."""
        loop = asyncio.get_running_loop()
        if loop not in self._flushing:
            self._flushing.add(loop)
            loop.call_soon(self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if loop is not None:
            self._flushing.discard(loop)
        with self._rt.lock:
            self._rt.reactor.flush_dirty()

    def cancel_coroutine(self, running: Running) -> None:
        """Cancel an async call (any thread)."""
        if running.coroutine is not None:
            running.coroutine.get_loop().call_soon_threadsafe(running.coroutine.cancel)

    def idle(self) -> bool:
        """Tell whether results should be sent at once: no, a turn of the loop collects them."""
        return False

    def serve(self) -> None:
        """Serve for good, on the main thread."""
        self._take_queued()
        self._rt.reactor.run_in_loop(self._loop, self._turn, HOUSEKEEPING)

    def _turn(self) -> None:
        """After each reading: look for orders from the node."""
        executor = self._executor
        while executor.queue:
            _, message = executor.queue.popleft()
            if type(message) is from_node.EndActor:
                self._loop.create_task(self._finish_async())
            elif type(message) is from_node.Exit:
                executor.leave(0)

    async def _finish_async(self) -> None:
        while self._tasks:  # noqa: ASYNC110 - tasks of several loops; nothing tells of the last end
            await asyncio.sleep(0.01)
        self._flush()
        self._executor.leave(0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of the kind that the environment asks for.

    Raises:
        ModuleNotFoundError: it asks for a module that is not installed.
    """
    name = os.environ.get(LOOP_VARIABLE)
    if not name:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = importlib.import_module(name).new_event_loop()
    return loop
