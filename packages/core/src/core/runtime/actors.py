"""The callers' side of actors: creating them, calling them in order, following them through restarts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec
from msgspec import structs

from core import ids
from core.descriptors import ClassDescriptor
from core.exceptions import ActorAlreadyExistsError, PendingCallsLimitExceeded
from core.options import ActorOptions, MethodOptions
from core.protocol import from_node, peer, to_node
from core.protocol.records import ActorInfo, ActorSpec, DeathCause
from core.refs import ActorHandle, ActorToken, MethodInfo, ObjectRef
from core.runtime import causes
from core.runtime.actor_client import (
    ActorClient,
    CallingOptions,
    ExecutorOptions,
    ExportedClass,
    InitArguments,
    is_ordered,
)
from core.runtime.actor_handles import ActorHandles, token_of_client
from core.runtime.connection import Connection
from core.runtime.exports import pickled_code
from core.runtime.objects import INLINE, Entry
from core.runtime.tasks import BATCH, LINGER
from core.runtime_env import merged_env
from core.specs import LeaseSpec, RuntimeEnv
from core.state.leases import FunctionCost, Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

monotonic = time.monotonic
_FIRST = ids.FIRST_INDEX
_NONE = b"\x80\x05N."
#: Calls share it: nobody estimates their cost.
_NO_COST = FunctionCost()


class Actors:
    """All actors this process created or calls (see the module's docstring)."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._reactor = runtime.reactor
        self._entries = runtime.table.entries
        self._clients: dict[bytes, ActorClient] = {}
        #: clients by creation object, of actors this process holds counted handles of
        self._by_creation: dict[bytes, ActorClient] = {}
        self.handles = ActorHandles(runtime, self._clients, self._by_creation)

    # -- creation ---------------------------------------------------------------------------------------------------

    def create(
        self, cls: ClassDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: ActorOptions
    ) -> ActorHandle[Any]:
        """Create an actor (``Engine.create_actor``)."""
        rt = self._rt
        exported = self._export(cls)
        init = Task(rt.next_task_id(), "__init__", b"", _NO_COST)
        rt.values.pack_arguments(init, f"{cls.name}.__init__", args, kwargs)
        if init.args_stored:
            with self._reactor.lock:  # the worker asks the node for them, and nothing else would tell it in time
                rt.exchange.announce()
        dependencies = init.dependencies
        # The worker fetches them itself, again after each restart: here they only count.
        init.nested += tuple(object_id for object_id, _, _ in dependencies)
        init.dependencies = ()
        creation = init.id + _FIRST
        actor_id = ids.actor_id(init.id)
        calling = CallingOptions(is_ordered(cls, options), options.max_task_retries)
        client = ActorClient(rt, actor_id, cls.name, creation, cls.methods, calling)
        client.init = init
        spec = self._spec(cls, exported, client, options, init, dependencies)
        with self._reactor.lock:
            rt.tasks.check_arguments(init)
            for object_id in init.nested:
                self._entries[object_id].pins += 1
            self._entries[creation] = Entry(state=INLINE, data=_NONE, local=1)
            self._clients[actor_id] = client
            if not options.detached:
                self._by_creation[creation] = client
        token = token_of_client(
            client, ObjectRef(creation), options.name, spec.namespace, cls.is_async, options.max_pending_calls
        )
        if options.labels and (reason := rt.misfit(options.labels)):
            with self._reactor.lock:
                client.state, client.cause = "DEAD", DeathCause("unschedulable", detail=reason)
                self._dead(client)
            return ActorHandle(token)
        if options.name:
            return self._create_named(spec, token, client)
        with self._reactor.lock:
            if rt.failure is not None:
                client.state, client.init_error = "DEAD", rt.failure
                self._dead(client)
                return ActorHandle(token)
            rt.to_node(to_node.CreateActor(0, spec))
            rt.to_node(to_node.WatchActor(actor_id))
            rt.flush_node()
        return ActorHandle(token)

    def _create_named(self, spec: ActorSpec, token: ActorToken, client: ActorClient) -> ActorHandle[Any]:
        reply: from_node.ActorReply = self._rt.request(lambda number: to_node.CreateActor(number, spec))
        info = reply.info
        if reply.error or (info is not None and info.actor_id != spec.actor_id):
            with self._reactor.lock:
                self._dead(client)
        if reply.error:
            raise ActorAlreadyExistsError(
                reply.reason
                or f"an actor named {spec.name!r} exists already in namespace {spec.namespace!r}: use another name, "
                "core.get_actor(name), or get_if_exists=True"
            )
        if info is not None and info.actor_id != spec.actor_id:
            return self.handles.handle_of(info)
        with self._reactor.lock:
            self._rt.to_node(to_node.WatchActor(spec.actor_id))
        return ActorHandle(token)

    def _export(self, cls: ClassDescriptor) -> ExportedClass:
        exported: ExportedClass | None = cls.exported
        if exported is None or exported.session is not self._rt:
            exported = ExportedClass(self._rt, pickled_code(f"actor class {cls.name}", cls.cls))
            cls.exported = exported
        return exported

    def _spec(
        self,
        cls: ClassDescriptor,
        exported: ExportedClass,
        client: ActorClient,
        options: ActorOptions,
        init: Task,
        dependencies: tuple[tuple[bytes, int, str], ...],
    ) -> ActorSpec:
        executor = ExecutorOptions(options.max_concurrency, list(options.concurrency_groups), cls.is_async)
        if not exported.methods:
            exported.methods = cloudpickle.dumps(cls.methods)
        return ActorSpec(
            client.actor_id,
            client.creation,
            self._rt.address,
            cls.name,
            exported.blob,
            msgspec.msgpack.encode(InitArguments(init.id, init.args, list(dependencies), init.args_stored)),
            self._with_env(options.placement),
            options.held,
            options.name,
            options.namespace or self._rt.namespace,
            options.detached,
            options.get_if_exists,
            options.max_restarts,
            msgspec.msgpack.encode(executor),
            exported.methods,
            msgspec.msgpack.encode(client.calling),
        )

    def _with_env(self, placement: LeaseSpec) -> LeaseSpec:
        placement = self._rt.tasks.placed(placement)
        default = self._rt.default_env
        if default == RuntimeEnv():
            return placement
        return structs.replace(placement, runtime_env=merged_env(default, placement.runtime_env))

    # -- calls ------------------------------------------------------------------------------------------------------

    def call(self, token: ActorToken, method: MethodInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method (``Engine.call_actor``)."""
        client: ActorClient = token.client
        rt = self._rt
        if client.session is not rt:
            raise rt.stale(f"actor {token.class_name}")
        options: MethodOptions = method.options
        returns = options.num_returns
        retries = client.calling.max_task_retries if options.max_task_retries is None else options.max_task_retries
        task = Task(rt.next_task_id(), method.name, b"", _NO_COST, returns, retries)
        task.options = options
        task.pool = client
        if rt.kind == "worker":
            task.parent, _ = rt.current_task()
        rt.values.pack_arguments(task, method.name, args, kwargs)
        with self._reactor.lock:
            if 0 < token.max_pending_calls <= client.unfinished:
                if task.args_stored:
                    rt.store.free(task.id + ids.ARGUMENTS_INDEX)
                raise PendingCallsLimitExceeded(
                    f"actor {token.class_name} has {client.unfinished} unfinished calls from this process; "
                    f"max_pending_calls={token.max_pending_calls}"
                )
            if task.dependencies or task.nested:
                rt.tasks.check_arguments(task)
            if returns == 1:
                object_id = task.id + _FIRST
                self._entries[object_id] = Entry(local=1, task=task)
                result: Any = ObjectRef(object_id)
            else:
                result = rt.tasks.make_returns(task, returns, options.backpressure)
            client.unfinished += 1
            if task.dependencies or task.nested:
                rt.tasks.pin_arguments(task, self._ready)
            connection = client.connection
            if connection is not None and not client.queue and task.missing == 0 and not client.killed:
                self._send(connection, task)
            else:
                self._hold(client, task)
        return result

    def _hold(self, client: ActorClient, task: Task) -> None:
        if client.state == "DEAD":
            self._rt.settling.finish_failed(task, self._dead_error(client))
        elif client.calling.ordered or task.missing == 0:
            client.queue.append(task)
            if client.connection is not None:
                self._flush(client)

    def _ready(self, task: Task, client: ActorClient) -> None:
        """A call's dependencies are there (under the lock)."""
        if not client.calling.ordered:
            client.queue.append(task)
        if client.state == "DEAD":
            self._fail_queue(client)
        elif client.connection is not None:
            self._flush(client)

    def _flush(self, client: ActorClient) -> None:
        """Send what may go, in order."""
        queue = client.queue
        connection = client.connection
        if connection is None or client.killed:
            return
        while queue and queue[0].missing == 0:
            self._send(connection, queue.popleft())

    def _send(self, connection: Connection, task: Task) -> None:
        extra = None
        options: MethodOptions = task.options
        if (
            task.dependencies
            or task.returns != 1
            or task.args_stored
            or task.attempt
            or options.concurrency_group
            or options.name
        ):
            if task.dependencies and self._rt.tasks.failed_dependency(task):
                return
            if task.args_stored:
                self._rt.exchange.announce()  # the worker asks the node for them at once
            extra = peer.Extra(
                task.returns,
                task.attempt,
                options.name,
                self._rt.exchange.resolve(task.dependencies) if task.dependencies else (),
                task.args_stored,
                options.backpressure,
                (),
                options.concurrency_group,
            )
        inflight = connection.inflight
        inflight[task.id] = task
        task.lease = connection
        out = connection.out
        out.append(peer.Call(task.id, task.function, task.args, extra))
        now = monotonic()
        if len(inflight) == 1 or now - connection.flushed_at > LINGER or len(out) >= BATCH:
            self._reactor.flush(connection, now)
            if len(inflight) > BATCH:
                self._reactor.poll_now()  # a loop that calls: what came is handled, without waiting
        else:
            self._reactor.dirty.add(connection)
            self._reactor.queued()

    def resend(self, client: ActorClient) -> None:
        """A call is to run again (under the lock)."""
        if client.connection is not None:
            self._flush(client)

    def finished(self, client: ActorClient) -> None:
        """One call is over, whatever came of it (under the lock)."""
        client.unfinished -= 1
        if client.out_of_scope and client.unfinished <= 0:
            client.out_of_scope = False
            if self._rt.table.owned(client.creation):
                self._end_of_handles(client)
            else:
                self._rt.table.unpin(client.creation)

    # -- life and death ---------------------------------------------------------------------------------------------

    def updated(self, info: ActorInfo) -> None:
        """The node tells of a change (under the lock, by the reading thread)."""
        client = self._clients.get(info.actor_id)
        if client is None:
            return
        client.restarts = info.restarts
        if info.state == "ALIVE":
            if client.connection is not None and client.connection.address != info.address:
                self._detach(client)
            self._decide_orphans(client, info.cause)
            client.state = "ALIVE"
            connection = self._rt.peers.connect(info.address)
            if connection is not None:
                connection.client = client
                connection.pid = info.pid
                client.connection = connection
                self._flush(client)
        elif info.state in ("RESTARTING", "DEAD"):
            self._detach(client)
            client.state = info.state
            client.cause = info.cause
            client.init_error = info.init_error
            self._decide_orphans(client, info.cause)
            if info.state == "DEAD":
                self._dead(client)

    def _detach(self, client: ActorClient) -> None:
        connection = client.connection
        if connection is None:
            return
        self._reactor.drain_connection(connection)
        client.connection = None
        connection.client = None
        client.orphans += connection.inflight.values()
        connection.inflight = {}

    def disconnected(self, client: ActorClient, connection: Connection) -> None:
        """The connection to the actor's worker ended; the node will tell what that means."""
        if client.connection is connection:
            client.connection = None
            client.orphans += connection.inflight.values()
            connection.inflight = {}

    def _decide_orphans(self, client: ActorClient, cause: DeathCause | None) -> None:
        orphans, client.orphans = client.orphans, []
        again: list[Task] = []
        dead = client.state == "DEAD"
        for task in orphans:
            task.lease = None
            if task.cancelled:
                self._rt.settling.finish_failed(task, causes.cancelled(task.id, f"{client.class_name}.{task.function}"))
            elif dead:
                self._rt.settling.finish_failed(task, self._dead_error(client))
            elif task.retries_left == 0:
                self._rt.settling.finish_failed(
                    task, causes.actor_unavailable(client.actor_id, client.class_name, cause)
                )
            else:
                task.retries_left -= task.retries_left > 0
                task.attempt += 1
                again.append(task)
        client.queue.extendleft(reversed(again))

    def _dead_error(self, client: ActorClient) -> bytes:
        if client.init_error:
            return client.init_error
        return causes.actor_died(client.actor_id, client.class_name, client.cause)

    def _fail_queue(self, client: ActorClient) -> None:
        error = self._dead_error(client)
        queue, client.queue = client.queue, deque()
        for task in queue:
            self._rt.settling.finish_failed(task, error)

    def _dead(self, client: ActorClient) -> None:
        self._fail_queue(client)
        self._clients.pop(client.actor_id, None)
        self._by_creation.pop(client.creation, None)
        if client.init is not None:
            self._rt.lineage.retire(client.init)
            client.init = None

    def node_gone(self, error: bytes) -> None:
        """The node is dead, and with it every actor."""
        for client in list(self._clients.values()):
            self._detach(client)
            client.state, client.init_error = "DEAD", error
            self._decide_orphans(client, None)
            self._dead(client)

    def handles_gone(self, creation: bytes) -> bool:
        """The last counted handle of an owned actor is gone; True if ``creation`` was a creation object."""
        client = self._by_creation.get(creation)
        if client is None:
            return False
        if client.unfinished > 0:
            client.out_of_scope = True
        else:
            self._end_of_handles(client)
        return True

    def _end_of_handles(self, client: ActorClient) -> None:
        self._by_creation.pop(client.creation, None)
        self._rt.to_node(to_node.ActorOutOfScope(client.actor_id))

    def busy(self, creation: bytes) -> bool:
        """Tell whether a borrowed handle must outlive its instances because calls are unfinished."""
        client = self._by_creation.get(creation)
        return client is not None and client.unfinished > 0

    def forget_later(self, creation: bytes) -> None:
        """Keep a borrowed creation object registered until the calls through its last handle are finished."""
        self._by_creation[creation].out_of_scope = True
        self._rt.table.pin(creation)

    def kill(self, token: ActorToken, no_restart: bool) -> None:
        """End the actor's process (``Engine.kill_actor``)."""
        with self._reactor.lock:
            if no_restart:
                # Calls made from now on must not slip through before the process is gone.
                token.client.killed = True
            self._rt.to_node(to_node.KillActor(token.actor_id, no_restart))
            self._rt.flush_node()

    def unfinished(self) -> Iterator[tuple[Iterable[Task], str]]:
        """Yield the calls that are not finished, with their state in Ray's words (under the lock)."""
        for client in self._clients.values():
            if client.connection is not None:
                yield client.connection.inflight.values(), "SUBMITTED_TO_WORKER"
            yield client.orphans, "SUBMITTED_TO_WORKER"
            yield client.queue, "PENDING_NODE_ASSIGNMENT"

    def cancel(self, task: Task, *, recursive: bool) -> None:
        """Cancel one unfinished call (under the lock)."""
        task.cancelled = True
        client: ActorClient = task.pool
        if task.lease is not None:
            self._rt.send(task.lease, peer.Cancel(task.id, recursive))
            return
        if task in client.queue:
            client.queue.remove(task)
        self._rt.settling.finish_failed(task, causes.cancelled(task.id, f"{client.class_name}.{task.function}"))
        if client.connection is not None:
            self._flush(client)
