"""A worker's main loop: takes tasks from its queue and runs them, or becomes an actor.

The main thread runs normal tasks and the methods of ordinary actors, one at a time, and reads the sockets itself
whenever it has nothing to run. While it runs user code the reactor's background thread takes over after a few
milliseconds, so that cancellations, steals and questions of borrowers are answered during long tasks.
"""

from __future__ import annotations

import atexit
import inspect
import os
import signal
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from core import refs
from core.protocol import from_node, peer, to_node
from core.protocol.framing import ProtocolError
from core.protocol.records import ActorSpec
from core.protocol.zygote import WorkerStart
from core.runtime.actor_client import ExecutorOptions
from core.runtime.connection import Connection
from core.runtime.inbox import Inbox
from core.runtime.interruption import may_interrupt
from core.runtime.waiting import EventWaiter
from core.runtime_env import env_dict
from core.specs import RESOURCE_UNIT
from core.worker import accelerators, prints
from core.worker import running as running_module
from core.worker.actor import ActorHost
from core.worker.functions import FunctionTable
from core.worker.outcome import Outcomes, end_forked_child
from core.worker.running import ActorExit, Running
from core.worker.streaming import Producers

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

#: Sent to the main thread to interrupt what it runs.
INTERRUPT = signal.SIGINT

perf_counter = time.perf_counter


class Executor(Inbox):
    """See the module's docstring."""

    def __init__(self, start: WorkerStart) -> None:
        self.start = start
        self._rt: Runtime
        self.outcomes: Outcomes
        self.producers: Producers
        self._functions = FunctionTable()
        #: what is to run on the main thread: (connection, message)
        self.queue: deque[tuple[Connection, Any]] = deque()
        self._idle: EventWaiter | None = None
        #: what the main thread runs
        self.running: Running | None = None
        #: everything in execution here, by task id (several in threaded and asyncio actors)
        self.active: dict[bytes, Running] = {}
        #: the last tasks to be cancelled: some may have been about to start
        self._missed: deque[bytes] = deque(maxlen=64)
        self.actor: ActorHost | None = None
        self._main = threading.get_ident()
        self._told_blocked = False
        self.gpu_ids: list[int] = []

    def attach(self, runtime: Runtime) -> None:
        """Connect to the runtime that feeds this executor."""
        self._rt = runtime
        self.outcomes = Outcomes(runtime)
        self.producers = Producers(runtime, self.outcomes)
        signal.signal(INTERRUPT, self._interrupt)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    # -- what comes in (under the lock) -----------------------------------------------------------------------------

    def received(self, connection: Connection, message: Any) -> None:
        """``Inbox.received``."""
        kind = type(message)
        if kind is peer.Push:
            if self._told_blocked:
                # Sent before the caller knew: it must not wait behind the blocked task, which may wait for it.
                self._rt.send(connection, peer.Returned([message.task], True))
            elif message.function not in connection.defined:
                raise ProtocolError(f"a task of function {message.function}, which was not defined")
            else:
                self._enqueue(connection, message)
        elif kind is peer.Call:
            if self.actor is None:
                raise ProtocolError("a call came to a worker that is no actor")
            if not self.actor.takes(connection, message):
                self._enqueue(connection, message)
        elif kind is peer.DefineFunction:
            connection.defined[message.number] = self._functions.define(message)
        elif kind is peer.Steal:
            self._hand_back(connection, blocked=False)
        elif kind is peer.Cancel:
            self._cancel(connection, message)
        elif kind is peer.Consumed:
            self.producers.consumed(message)
        elif kind is from_node.StartActor or kind is from_node.EndActor or kind is from_node.Exit:
            self._enqueue(connection, message)
        else:
            raise ProtocolError(f"a worker takes no {kind.__name__}")

    def _enqueue(self, connection: Connection, message: Any) -> None:
        self.queue.append((connection, message))
        idle = self._idle
        if idle is not None:
            self._idle = None
            self._rt.reactor.complete(idle)

    def idle(self) -> bool:
        """Tell whether nothing waits to run, so that a result should not wait for company."""
        actor = self.actor
        return not self.queue and (actor is None or actor.idle())

    def _hand_back(self, connection: Connection, *, blocked: bool) -> None:
        """Give unstarted tasks back to the caller(s)."""
        by_connection: dict[Connection, list[bytes]] = {connection: []}
        kept: list[tuple[Connection, Any]] = []
        while self.queue:
            try:
                item = self.queue.popleft()
            except IndexError:
                break
            if type(item[1]) is peer.Push and (blocked or item[0] is connection):
                by_connection.setdefault(item[0], []).append(item[1].task)
            else:
                kept.append(item)
        self.queue.extend(kept)
        for target, tasks in by_connection.items():
            if not target.closed:
                self._rt.send(target, peer.Returned(tasks, blocked))

    def _cancel(self, connection: Connection, message: peer.Cancel) -> None:
        task = message.task
        for item in list(self.queue):
            if getattr(item[1], "task", None) == task:
                try:
                    self.queue.remove(item)
                except ValueError:
                    break  # the main thread took it this moment
                self.outcomes.send_cancelled(item[0], task, self._name_of(item[0], item[1]))
                return
        if self.actor is not None and self.actor.cancel_queued(task):
            return
        # Noted before the look: a task between the queue and ``active`` finds the note when it gets there.
        self._missed.append(task)
        running = self.active.get(task)
        if running is None:
            return
        running.cancelled = True
        running.cancelled_with_children = running.cancelled_with_children or message.recursive
        self._cancel_children(running)
        self._interrupt_running(running)

    def _cancel_children(self, running: Running) -> None:
        if running.cancelled_with_children:
            for child in self._rt.history.children(running.task):
                self._rt.cancel_task(child, force=False, recursive=True)

    def ended(self, running: Running) -> None:
        """A task or call is over; what it submitted after it was cancelled, cleaning up, goes with it."""
        self.active.pop(running.task, None)
        if running.cancelled_with_children:
            with self._rt.lock:
                self._cancel_children(running)
                self._rt.reactor.flush_dirty()

    def _interrupt_running(self, running: Running) -> None:
        if running.coroutine is not None:
            assert self.actor is not None
            self.actor.cancel_coroutine(running)
        elif running.thread == self._main:
            self._rt.reactor.interrupt_main_thread(INTERRUPT)
        elif self.actor is not None:
            self.actor.interrupt_thread(running)

    def _interrupt(self, number: int, frame: Any) -> None:
        """Signal handler: raise in user code if (and only if) what runs was cancelled."""
        self._rt.reactor.signal_seen()
        running = self.running
        if running is None or not running.cancelled or not running.in_user_code:
            return
        if self._rt.reactor.lock_is_mine() or not may_interrupt(frame, _LOOP, _CALLERS):
            self._rt.reactor.defer_signal(number)
            return
        running.in_user_code = False
        raise KeyboardInterrupt

    def _name_of(self, connection: Connection, message: Any) -> str:
        if type(message) is peer.Push:
            function = connection.defined.get(message.function)
            return (message.extra.name if message.extra else "") or (function.name if function else "task")
        return getattr(message, "method", "task")

    def process_died(self, address: bytes) -> None:
        """``Inbox.process_died``: without the node there is nothing left to do; a dead caller's tasks are pointless."""
        if address == b"node":
            os._exit(1)
        for item in list(self.queue):
            if item[0].address == address:
                try:
                    self.queue.remove(item)
                except ValueError:
                    continue
        self.producers.caller_gone(address)

    def exit_actor(self) -> None:
        """``Inbox.exit_actor``."""
        if self.actor is None:
            super().exit_actor()
        raise ActorExit

    def actor_spec(self) -> ActorSpec | None:
        """``Inbox.actor_spec``."""
        return None if self.actor is None else self.actor.spec

    def captured_group(self) -> bytes:
        """``Inbox.captured_group``."""
        if self.actor is not None:
            strategy = self.actor.spec.placement.strategy
            return strategy.placement_group if strategy.capture_child_tasks else b""
        running = running_module.current.get() or self.running
        if running is None or running.extra is None or not running.extra.capture_child_tasks:
            return b""
        return running.extra.placement_group

    def facts(self) -> dict[str, Any]:
        """``Inbox.facts``."""
        running = running_module.current.get() or self.running
        facts: dict[str, Any] = {"runtime_env": env_dict(self.start.runtime_env), "gpu_ids": self.gpu_ids}
        if self.actor is not None:
            facts |= self.actor.facts()
        if running is not None:
            facts |= {"task_id": running.task.hex(), "task_name": running.short_name, "is_canceled": running.cancelled}
            facts["task_function_name"] = running.function or running.name
            extra = running.extra
            if self.actor is None:
                facts["assigned_resources"] = {"CPU": 1.0}
                if extra is not None:
                    if extra.resources:
                        facts["assigned_resources"] = {name: amount / RESOURCE_UNIT for name, amount in extra.resources}
                    facts["gpu_ids"] = accelerators.ids(extra.gpu_ids)
                    facts["placement_group_id"] = extra.placement_group.hex() or None
                    facts["capture_child_tasks"] = extra.capture_child_tasks
        return facts

    def running_since(self) -> list[tuple[bytes, int]]:
        """``Inbox.running_since``."""
        to_wall = time.time() - time.monotonic()
        active = list(self.active.items())
        return [(task, round((running.started + to_wall) * 1000)) for task, running in active if running.started]

    # -- waiting inside a task --------------------------------------------------------------------------------------

    def current(self) -> tuple[bytes, int]:
        """``Inbox.current``."""
        running = running_module.current.get() or self.running
        if running is None:
            return b"", 1
        return running.task, running.depth

    def blocking(self, waiter: EventWaiter) -> bool:
        """``Inbox.blocking``: lend the CPU share, hand back what waits behind the blocked task."""
        if self.actor is not None:
            return self.actor.blocking(waiter)
        running = self.running
        if running is None or running.connection is None or self._told_blocked or threading.get_ident() != self._main:
            return False  # no connection: an actor's __init__, which has no share to lend and nobody waiting behind it
        self._told_blocked = True
        with self._rt.lock:
            self._hand_back(running.connection, blocked=True)
            self._rt.to_node(to_node.Blocked())
            self._rt.reactor.flush_dirty()
        return True

    def resumed(self) -> None:
        """``Inbox.resumed``."""
        if self.actor is not None:
            self.actor.resumed()
            return
        self._told_blocked = False
        running = self.running
        with self._rt.lock:
            self._rt.to_node(to_node.Unblocked())
            self._rt.flush_node()
            if running is not None and not running.connection.closed:
                self._rt.send(running.connection, peer.Resumed())

    # -- the main loop ----------------------------------------------------------------------------------------------

    def run(self) -> NoReturn:
        """Run tasks until told to leave."""
        queue = self.queue
        reactor = self._rt.reactor
        while True:
            try:
                connection, message = queue.popleft()
            except IndexError:
                waiter = EventWaiter()
                with reactor.lock:
                    if queue:
                        continue
                    self._idle = waiter
                reactor.wait(waiter, None)
                continue
            if type(message) is peer.Push:
                self._run_task(connection, message)
            elif type(message) is peer.Call:
                self._run_call(connection, message)
            elif type(message) is from_node.StartActor:
                self._start_actor(message)
            elif type(message) is from_node.EndActor:
                if self.actor is not None:
                    self.actor.finish()
                self.leave(0)
            else:
                self._asked_to_exit(message)

    def _run_task(self, connection: Connection, push: peer.Push) -> None:
        function = connection.defined[push.function]
        extra = push.extra
        name = (extra.name if extra is not None else "") or function.name
        running = Running(push.task, name, push.depth + 1, connection, extra, function=function.name)
        if extra is not None and extra.gpu_ids:
            accelerators.show(extra.gpu_ids)
        function.calls += 1
        exiting = 0 < function.max_calls <= function.calls
        self.execute(running, function.load, push.args, exiting)
        self._rt.tasks.return_idle()
        if exiting:
            self.announce_exit(f"max_calls={function.max_calls} of {function.name} is reached")
            self.leave(0)

    def _run_call(self, connection: Connection, call: peer.Call) -> None:
        actor = self.actor
        assert actor is not None, "see received()"
        running = Running(call.task, actor.display_name(call), 2, connection, call.extra)
        self.execute(running, lambda: actor.method(call.method), call.args, False)

    def execute(self, running: Running, load: Any, args_blob: bytes, exiting: bool) -> None:
        """Run one task or call on the main thread, and send its outcome."""
        self.running = running
        self.active[running.task] = running
        if self._missed and running.task in self._missed:
            running.cancelled = True
        token = running_module.begin(running)
        started = perf_counter()
        try:
            function = load()
            args, kwargs = self.outcomes.arguments(running.task, args_blob, running.extra)
            started = perf_counter()
            running.in_user_code = True
            if running.cancelled:
                raise KeyboardInterrupt  # noqa: TRY301 - the signal came before there was user code to interrupt
            value = function(*args, **kwargs)
            del args, kwargs
            if running.extra is not None and running.extra.returns < 0:
                self.producers.run(running, value)
                running.in_user_code = False
            else:
                running.in_user_code = False
                micros = int((perf_counter() - started) * 1e6)
                if running.cancelled:
                    raise KeyboardInterrupt  # noqa: TRY301 - one place decides what the caller gets
                if inspect.iscoroutine(value):
                    value.close()
                    raise TypeError(f"{running.name} returned a coroutine: async functions run in actors only")  # noqa: TRY301 - one place decides what the caller gets
                if inspect.isgenerator(value) and (running.extra is None or running.extra.returns > 0):
                    value = tuple(value)
                self.outcomes.send_value(running, value, micros, exiting=exiting)
            del value
        except ActorExit:
            running.in_user_code = False
            self.announce_exit("exit_actor() was called")
            self.leave(0)
        except SystemExit as request:
            running.in_user_code = False
            self.system_exit(request)
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            running.in_user_code = False
            self.fail(running, error, int((perf_counter() - started) * 1e6))
        finally:
            self.running = None
            self.ended(running)
            running_module.current.reset(token)
        if refs.dropped or self._rt.must_drain():
            with self._rt.lock:
                self._rt.drain()

    def fail(self, running: Running, error: BaseException, micros: int) -> None:
        if running.extra is not None and running.extra.returns < 0:
            self.producers.abandon(running)
        self.outcomes.send_error(running, error, micros)

    def system_exit(self, request: SystemExit) -> NoReturn:
        code = request.code
        if self.actor is not None:
            self.announce_exit(f"sys.exit({code!r}) was called")
        if isinstance(code, str):
            print(code, file=sys.stderr)  # noqa: T201 - what the interpreter does
            code = 1
        self.leave(code or 0)

    # -- actors -----------------------------------------------------------------------------------------------------

    def _start_actor(self, message: from_node.StartActor) -> None:
        self.gpu_ids = accelerators.ids(message.gpu_ids)
        if message.gpu_ids:
            accelerators.show(message.gpu_ids)
        options = msgspec.msgpack.decode(message.spec.executor, type=ExecutorOptions)
        host: ActorHost
        prints.TaskOutput.of_tasks = False
        if options.is_async:
            from core.worker.async_actor import AsyncActorHost  # noqa: PLC0415 - asyncio costs 10 ms and 2 MB

            host = AsyncActorHost(self._rt, self, message, options)
        else:
            host = ActorHost(self._rt, self, message, options)
        if host.construct():
            self.actor = host
            with self._rt.lock:
                self._rt.to_node(to_node.ActorReady(message.spec.actor_id))
                self._rt.flush_node()
            host.serve()
        else:
            self.leave(0)

    # -- leaving ----------------------------------------------------------------------------------------------------

    def _asked_to_exit(self, message: from_node.Exit) -> None:
        if message.soft:
            with self._rt.lock:
                self._rt.drain()
                if self.queue or self._rt.exchange.owns_anything() or self._rt.history.any_unfinished():
                    self._rt.to_node(to_node.ExitDeclined())
                    self._rt.flush_node()
                    return
            self.announce_exit(message.reason)
        self.leave(0)

    def announce_exit(self, reason: str) -> None:
        """Tell the node that what follows is intended."""
        if self._rt.forked:
            return
        with self._rt.lock:
            self._rt.to_node(to_node.Exiting(reason))
            self._rt.reactor.flush_dirty()

    def leave(self, code: int) -> NoReturn:
        """Send what is queued, run exit handlers, end the process."""
        if self._rt.forked:
            end_forked_child(SystemExit(code))
        with self._rt.lock:
            self._rt.reactor.flush_dirty()
        try:
            atexit._run_exitfuncs()  # noqa: SLF001 - os._exit runs none, and a forked child must not unwind
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


#: What an interrupt may always reach, and what else calls user code (see ``core.runtime.interruption``).
_LOOP = Executor.execute.__code__
_CALLERS = frozenset({Producers.run.__code__})
