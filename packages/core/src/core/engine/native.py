"""The native engine: this process's part in a session of worker processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import os
import signal
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from core import current, ids
from core.descriptors import ClassDescriptor, PlacementGroupState, RuntimeFacts
from core.exceptions import TaskPlacementGroupRemoved
from core.options import ActorOptions
from core.protocol import from_node, to_node
from core.protocol.records import Bundle, PlacementGroupInfo
from core.refs import ActorHandle, ActorToken, ObjectRef, ObjectRefGenerator
from core.runtime import causes
from core.runtime.interruption import may_interrupt
from core.runtime.key_values import KeyValueClient
from core.runtime.objects import PENDING, Entry
from core.runtime.runtime import Runtime
from core.specs import RESOURCE_UNIT
from core.state.resources import natural

if TYPE_CHECKING:
    from core.node.launcher import NodeProcess
    from core.runtime.logs import LogPrinter

#: Seconds an orderly shutdown may take before the daemon is killed.
SHUTDOWN_SECONDS = 3.0


class NativeEngine:
    """The engine of a driver (with ``node``) or of a worker (without); see ``core.engine.base.Engine``."""

    name = "native"

    def __init__(self, runtime: Runtime, node: NodeProcess | None = None, printer: LogPrinter | None = None) -> None:
        self.runtime = runtime
        self._node = node
        self._printer = printer
        self._pid = os.getpid()
        self._old_handler: Any = None
        # The hot paths, without a detour.
        self.submit_task = runtime.tasks.submit
        self.call_actor = runtime.actors.call
        self.put = runtime.values.put
        self.get_one = runtime.values.get_one
        self.get_many = runtime.values.get_many
        self.note_serialized = runtime.exchange.note_serialized
        self.adopt_ref = runtime.exchange.adopt_ref
        self.future = runtime.values.future
        self.key_values = KeyValueClient(runtime)
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forked(me))

    # -- tasks and objects ------------------------------------------------------------------------------------------

    def wait(
        self, refs: list[Any], num_returns: int, timeout: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        """See ``Engine``."""
        return self.runtime.values.wait(refs, num_returns, timeout)

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """See ``Engine``."""
        self.runtime.cancel(ref.id, force=force, recursive=recursive)

    def cancel_generator(self, generator: ObjectRefGenerator[Any], force: bool, recursive: bool) -> None:
        """See ``Engine``."""
        self.runtime.cancel(ids.object_id(generator.task, 0), force=force, recursive=recursive)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """See ``Engine``."""
        import numpy as np  # noqa: PLC0415 - numpy is optional

        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"empty() makes arrays of plain numbers in shared memory; {kind} holds Python objects")
        nbytes = math.prod(shape) * kind.itemsize
        if nbytes == 0:
            return np.empty(shape, kind)
        _, view = self.runtime.store.allocate_block(nbytes)
        return np.frombuffer(view, kind).reshape(shape)

    def next_item(self, task: bytes, index: int, timeout: float | None) -> ObjectRef[Any] | None:
        """See ``Engine``."""
        return self.runtime.streams.next(task, index, timeout)

    def next_item_future(self, task: bytes, index: int) -> concurrent.futures.Future[ObjectRef[Any] | None]:
        """See ``Engine``."""
        return self.runtime.streams.next_future(task, index)

    def item_ready(self, task: bytes, index: int) -> bool:
        """See ``Engine``."""
        with self.runtime.lock:
            return self.runtime.streams.ready(task, index)

    # -- actors -----------------------------------------------------------------------------------------------------

    def create_actor(
        self, cls: ClassDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: ActorOptions
    ) -> ActorHandle[Any]:
        """See ``Engine``."""
        return self.runtime.actors.create(cls, args, kwargs, options)

    def kill_actor(self, token: ActorToken, no_restart: bool) -> None:
        """See ``Engine``."""
        self.runtime.actors.kill(token, no_restart)

    def get_named_actor(self, name: str, namespace: str | None) -> ActorHandle[Any]:
        """See ``Engine``."""
        wanted = namespace or self.runtime.namespace
        reply: from_node.ActorReply = self.runtime.request(lambda number: to_node.GetNamedActor(number, name, wanted))
        if reply.info is None:
            raise ValueError(
                f"Failed to look up actor with name {name!r} in namespace {wanted!r}: it was not created, or it is dead"
            )
        return self.runtime.actors.handles.handle_of(reply.info)

    def list_named_actors(self, all_namespaces: bool) -> list[tuple[str, str]]:
        """See ``Engine``."""
        reply: from_node.NamesReply = self.runtime.request(
            lambda number: to_node.ListNamedActors(number, self.runtime.namespace, all_namespaces)
        )
        return reply.names

    def exit_actor(self) -> None:
        """See ``Engine``."""
        self.runtime.inbox.exit_actor()

    def current_actor(self) -> ActorHandle[Any] | None:
        """See ``Engine``."""
        spec = self.runtime.inbox.actor_spec()
        if spec is None:
            return None
        return self.runtime.actors.handles.handle_from_spec(spec)

    def reduce_handle(self, token: ActorToken) -> tuple[Any, ...]:
        """See ``Engine``."""
        return self.runtime.actors.handles.reduce(token)

    def restore_token(self, *state: Any) -> ActorToken:
        """See ``Engine``."""
        return self.runtime.actors.handles.restore(*state)

    # -- placement groups -------------------------------------------------------------------------------------------

    def create_placement_group(
        self, bundles: list[dict[str, float]], strategy: str, name: str, detached: bool
    ) -> PlacementGroupState:
        """See ``Engine``."""
        group = ids.new_placement_group_id()
        records = [
            Bundle(tuple(sorted((key, round(amount * RESOURCE_UNIT)) for key, amount in bundle.items())))
            for bundle in bundles
        ]
        ready = self._group_ready(group)
        reply: from_node.PlacementGroupReply = self.runtime.request(
            lambda number: to_node.CreatePlacementGroup(number, group, name, strategy, records, detached)
        )
        if reply.error or reply.info is None:
            raise ValueError(reply.error)
        with self.runtime.lock:
            self._group_changed(reply.info)
        return _group_state(reply.info, ready)

    def _group_ready(self, group: bytes) -> ObjectRef[Any]:
        runtime = self.runtime
        object_id = runtime.next_task_id() + ids.FIRST_INDEX
        with runtime.lock:
            runtime.table.entries[object_id] = Entry(local=1)
            runtime.placement_groups[group] = (object_id, self._group_changed)
        return ObjectRef(object_id)

    def _group_changed(self, info: PlacementGroupInfo) -> None:
        """A group's state may have changed (under the lock)."""
        if info.state not in ("CREATED", "REMOVED"):
            return
        waiting = self.runtime.placement_groups.pop(info.placement_group_id, None)
        entry = self.runtime.table.entries.get(waiting[0]) if waiting is not None else None
        if waiting is None or entry is None or entry.state != PENDING:
            return
        if info.state == "CREATED":
            self.runtime.settling.give(waiting[0], entry, None)
        else:
            self.runtime.settling.fail_entry(waiting[0], entry, _removed_group(info))

    def remove_placement_group(self, placement_group_id: bytes) -> None:
        """See ``Engine``."""
        with self.runtime.lock:
            self.runtime.to_node(to_node.RemovePlacementGroup(placement_group_id))
            self.runtime.flush_node()

    def get_placement_group(self, placement_group_id: bytes, name: str) -> PlacementGroupState | None:
        """See ``Engine``."""
        reply: from_node.PlacementGroupReply = self.runtime.request(
            lambda number: to_node.GetPlacementGroup(number, placement_group_id, name)
        )
        if reply.info is None:
            return None
        waiting = self.runtime.placement_groups.get(placement_group_id)
        ready = None
        if waiting is not None:
            ready = self.runtime.exchange.adopt_ref(waiting[0])
        elif reply.info.state in ("PENDING", "INFEASIBLE"):
            ready = self._group_ready(placement_group_id)
        return _group_state(reply.info, ready)

    # -- state ------------------------------------------------------------------------------------------------------

    def query(self, what: str) -> list[dict[str, Any]]:
        """See ``Engine``."""
        if what == "available_resources":
            self.runtime.tasks.return_idle()  # what is only kept for a next call is not in use
        reply: from_node.QueryReply = self.runtime.request(lambda number: to_node.Query(number, what))
        return reply.result

    def facts(self) -> RuntimeFacts:
        """See ``Engine``."""
        runtime = self.runtime
        return RuntimeFacts(
            job_id=runtime.job_id.hex(),
            node_id=runtime.node_id.hex(),
            worker_id=ids.worker_id(runtime.address).hex(),
            namespace=runtime.namespace,
            session_name=runtime.session_dir.name,
            session_dir=str(runtime.session_dir),
            mode=runtime.kind,
            **runtime.inbox.facts(),
        )

    def timeline(self) -> list[dict[str, Any]]:
        """See ``Engine``."""
        return [
            {
                "cat": "task",
                "name": f"{class_name}.{name}" if class_name else name,
                "ph": "X",
                "pid": "workers",
                "tid": f"worker:{pid}",
                "ts": end * 1e6 - micros,
                "dur": micros,
            }
            for _, _, name, class_name, _, pid, end, micros, _ in list(self.runtime.history.ended)
        ]

    def log(self, message: Any) -> None:
        """Show what a worker printed or the node has to say (called by the reading thread, under the lock)."""
        printer = self._printer
        if printer is not None:
            self.runtime.reactor.after.append(lambda: printer.show(message, time.monotonic()))

    # -- end --------------------------------------------------------------------------------------------------------

    def take_signals(self) -> None:
        """Keep Ctrl-C from interrupting this process in the middle of a change of state."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return
        reactor = self.runtime.reactor

        def interrupt(number: int, frame: Any) -> None:
            if reactor.lock_is_mine() or not may_interrupt(frame):
                reactor.defer_signal(number)
            else:
                signal.default_int_handler(number, frame)

        self._old_handler = signal.signal(signal.SIGINT, interrupt)

    def shutdown(self) -> None:
        """See ``Engine``."""
        if os.getpid() != self._pid:
            return
        if self._old_handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._old_handler)
            self._old_handler = None
        self.runtime.close(goodbye=True)
        if self._node is not None and not self._node.wait_gone(SHUTDOWN_SECONDS):
            self._node.kill()
        while self.runtime.reactor.after:
            self.runtime.reactor.after.popleft()()
        if self._printer is not None:
            self._printer.close()

    def forked(self) -> None:
        """This is a forked child: the session is the parent's, and its sockets must not be spoken on."""
        current.set_engine(None)
        with contextlib.suppress(OSError):
            self.runtime.abandon()


def _forked(engine: weakref.ref[NativeEngine]) -> None:
    alive = engine()
    if alive is None:
        return
    running: object = current.engine
    if running is alive:
        alive.forked()


def _group_state(info: PlacementGroupInfo, ready: ObjectRef[Any] | None) -> PlacementGroupState:
    return PlacementGroupState(
        info.placement_group_id,
        info.name,
        info.strategy,
        [natural(bundle.resources) for bundle in info.bundles],
        info.state,
        ready,
    )


def _removed_group(info: PlacementGroupInfo) -> bytes:
    return causes.pack(TaskPlacementGroupRemoved(f"placement group {info.placement_group_id.hex()} was removed"))
