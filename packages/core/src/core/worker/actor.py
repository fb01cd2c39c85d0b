"""A worker that has become an actor: one instance, and one of three ways to run its methods.

* *ordered*: on the main thread, one at a time, in the order they came (the executor's main loop);
* *threaded* (``max_concurrency > 1`` or concurrency groups): one thread pool per group; the default group is the main
  thread where only groups are given;
* *asyncio* (the class has an ``async def`` method): see :mod:`core.worker.async_actor`.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from core import current, exceptions, ids, refs, remote_errors
from core.protocol import from_node, peer, to_node
from core.runtime.actor_client import ExecutorOptions, InitArguments
from core.runtime.connection import Connection
from core.runtime.waiting import EventWaiter
from core.serialization import loads
from core.specs import RESOURCE_UNIT
from core.worker import interruptible
from core.worker import running as running_module
from core.worker.running import ActorExit, Running

if TYPE_CHECKING:
    from core.engine.base import Engine
    from core.runtime.runtime import Runtime
    from core.worker.executor import Executor


class ActorHost:
    """Owns the instance and runs its methods (see the module's docstring)."""

    def __init__(
        self, runtime: Runtime, executor: Executor, start: from_node.StartActor, options: ExecutorOptions
    ) -> None:
        self._rt = runtime
        self._executor = executor
        self.spec = start.spec
        self.restarts = start.restarts
        self._instance: Any = None
        self._methods: dict[str, Callable[..., Any]] = {}
        self._options = options
        self._groups = dict(options.concurrency_groups)
        self._threaded = not options.is_async and (options.max_concurrency > 1 or bool(self._groups))
        if self._threaded and current.engine is not None:
            current.set_engine(cast("Engine", interruptible.Shielded(current.engine)))
        self._main = threading.get_ident()
        #: a pool per group
        self._pools: dict[str, concurrent.futures.ThreadPoolExecutor] = {}
        #: calls that wait for a thread
        self._queued: dict[bytes, tuple[concurrent.futures.Future[None], Connection, peer.Call]] = {}

    # -- construction -----------------------------------------------------------------------------------------------

    def construct(self) -> bool:
        """Make the instance; tell the node and return False if ``__init__`` fails."""
        spec = self.spec
        init = msgspec.msgpack.decode(spec.init_blob, type=InitArguments)
        running = Running(init.task, f"{spec.class_name}.__init__", 2, None)
        self._executor.running = running
        token = running_module.begin(running)
        try:
            cls = loads(spec.class_blob)
            args, kwargs = self._init_arguments(init)
            self._instance = cls(*args, **kwargs)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            self._init_failed(error)
            return False
        finally:
            running_module.current.reset(token)
            self._executor.running = None
        return True

    def _init_arguments(self, init: InitArguments) -> tuple[Any, dict[str, Any]]:
        rt = self._rt
        if init.stored:
            loaded = self._executor.outcomes.stored(init.task + ids.ARGUMENTS_INDEX)
        else:
            loaded = loads(init.args) if init.args else ()
        args, kwargs = (loaded, {}) if type(loaded) is tuple else loaded
        if init.dependencies:
            args = list(args)
            values = rt.values.get_many(
                [rt.exchange.adopt_ref(object_id) for object_id, _, _ in init.dependencies], None
            )
            for (_, index, name), value in zip(init.dependencies, values, strict=True):
                if name:
                    kwargs[name] = value
                else:
                    args[index] = value
        return args, kwargs

    def _init_failed(self, error: BaseException) -> None:
        spec = self.spec
        cause = remote_errors.unpack_error(
            remote_errors.pack_error(error, f"{spec.class_name}.__init__", pid=os.getpid())
        )
        died = exceptions.ActorDiedError(
            cause if isinstance(cause, exceptions.RayTaskError) else str(cause),
            actor_id=spec.actor_id.hex(),
            class_name=spec.class_name,
            actor_init_failed=True,
        )
        blob = remote_errors.pack_error(died, "", pid=os.getpid())
        with self._rt.lock:
            self._rt.to_node(to_node.ActorInitFailed(spec.actor_id, blob))
            self._rt.reactor.flush_dirty()

    # -- methods ----------------------------------------------------------------------------------------------------

    def method(self, name: str) -> Callable[..., Any]:
        """Return a bound method, or one of the built-in ones every actor has."""
        method = self._methods.get(name)
        if method is None:
            if name == "__ray_ready__":
                method = _ready
            elif name == "__ray_call__":
                method = self._call_with_instance
            elif name == "__ray_terminate__":
                method = self._terminate
            else:
                method = getattr(self._instance, name)
            self._methods[name] = method
        return method

    def _call_with_instance(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(self._instance, *args, **kwargs)

    def _terminate(self) -> None:
        raise ActorExit

    def display_name(self, call: peer.Call) -> str:
        """Return what people should see as the name of a call."""
        if call.extra is not None and call.extra.name:
            return call.extra.name
        return f"{self.spec.class_name}.{call.method}"

    @staticmethod
    def _group(call: peer.Call) -> str:
        return call.extra.group if call.extra is not None else ""

    # -- running ----------------------------------------------------------------------------------------------------

    def takes(self, connection: Connection, call: peer.Call) -> bool:
        """Take a call that does not go through the main loop's queue (under the lock)."""
        wanted = self._group(call)
        if wanted and wanted not in self._groups:
            names = ", ".join(self._groups) or "none"
            running = Running(call.task, self.display_name(call), 2, connection, call.extra)
            error = ValueError(f"{self.spec.class_name} has no concurrency group {wanted!r}; it has: {names}")
            self._executor.outcomes.send_error(running, error, 0)
            return True
        return self._start(connection, call)

    def _start(self, connection: Connection, call: peer.Call) -> bool:
        """Start a call unless the main loop is to run it (under the lock)."""
        if not self._threaded:
            return False
        group = self._group(call)
        if not group and self._options.max_concurrency <= 1:
            # Beside named groups, a default group of one is the main thread (not so in Ray): the thread that signal
            # handlers and some native libraries need, while the groups answer.
            return False
        pool = self._pool(group)
        future = pool.submit(self._run_in_thread, connection, call)
        self._queued[call.task] = (future, connection, call)
        return True

    def _pool(self, group: str) -> concurrent.futures.ThreadPoolExecutor:
        pool = self._pools.get(group)
        if pool is None:
            size = self._groups.get(group, 0) or max(1, self._options.max_concurrency)
            pool = self._pools[group] = concurrent.futures.ThreadPoolExecutor(size, f"skate-{group or 'default'}")
        return pool

    def _run_in_thread(self, connection: Connection, call: peer.Call) -> None:
        executor = self._executor
        running = Running(call.task, self.display_name(call), 2, connection, call.extra)
        with self._rt.lock:
            self._queued.pop(call.task, None)
            executor.active[call.task] = running
        token = running_module.begin(running)
        started = time.perf_counter()
        try:
            method = self.method(call.method)
            args, kwargs = executor.outcomes.arguments(call.task, call.args, call.extra)
            value = interruptible.call(running, method, args, kwargs)
            del args, kwargs
            if call.extra is not None and call.extra.returns < 0:
                executor.producers.run(running, interruptible.Items(running, value))
            else:
                if running.cancelled:
                    raise KeyboardInterrupt  # noqa: TRY301 - one place decides what the caller gets
                executor.outcomes.send_value(running, value, int((time.perf_counter() - started) * 1e6))
            del value
        except ActorExit:
            executor.announce_exit("exit_actor() was called")
            executor.leave(0)
        except SystemExit as request:
            executor.system_exit(request)
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            executor.fail(running, error, int((time.perf_counter() - started) * 1e6))
        finally:
            executor.ended(running)
            running_module.current.reset(token)
        if refs.dropped:
            with self._rt.lock:
                self._rt.drain()

    def cancel_queued(self, task: bytes) -> bool:
        """Cancel a call that no thread has taken yet (under the lock)."""
        queued = self._queued.get(task)
        if queued is None or not queued[0].cancel():
            return False
        del self._queued[task]
        self._executor.outcomes.send_cancelled(queued[1], task, self.display_name(queued[2]))
        return True

    def interrupt_thread(self, running: Running) -> None:
        """Raise KeyboardInterrupt in the user code of a cancelled call that a pool thread runs (under the lock)."""
        interruptible.interrupt(running, self._rt.reactor)

    def blocking(self, waiter: EventWaiter) -> bool:
        """A call is going to wait; return whether :meth:`resumed` must follow."""
        running = running_module.current.get()
        if not self._threaded or running is None or running.thread == self._main:
            return False
        interruptible.start_waiting(running, waiter, self._rt.reactor)
        return True

    def resumed(self) -> None:
        """The call waits no more.

        Raises:
            KeyboardInterrupt: because it was cancelled.
        """
        running = running_module.current.get()
        assert running is not None, "see blocking()"
        interruptible.end_waiting(running, self._rt.reactor)

    def cancel_coroutine(self, running: Running) -> None:
        """Cancel an async call (any thread): there are none here."""

    def idle(self) -> bool:
        """Tell whether results should be sent at once, instead of together with others."""
        return True

    # -- serving ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Take over what waits in the executor's queue, or the main thread itself, unless the actor is ordered."""
        if self._threaded:
            self._take_queued()

    def _take_queued(self) -> None:
        executor = self._executor
        with self._rt.lock:
            # In place: the main loop has its own name for the queue.
            queued = list(executor.queue)
            executor.queue.clear()
            for connection, message in queued:
                if type(message) is not peer.Call or not self.takes(connection, message):
                    executor.queue.append((connection, message))

    def finish(self) -> None:
        """Let the calls at hand end (threaded actors; ordered ones have none left when this is called)."""
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    def facts(self) -> dict[str, Any]:
        """Return what the runtime context tells of the actor."""
        return {
            "actor_id": self.spec.actor_id.hex(),
            "actor_name": self.spec.name,
            "was_reconstructed": self.restarts > 0,
            "assigned_resources": {name: amount / RESOURCE_UNIT for name, amount in self.spec.held},
            "placement_group_id": self.spec.placement.strategy.placement_group.hex() or None,
            "capture_child_tasks": self.spec.placement.strategy.capture_child_tasks,
        }


def _ready() -> bool:
    return True
