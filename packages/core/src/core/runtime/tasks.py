"""The submitter of tasks: from ``f.remote()`` to the value in the ownership table, with retries and lineage.

One long module, because everything in it moves one record, a task, through one life.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import structs

from core import ids, remote_errors
from core.descriptors import FunctionDescriptor
from core.exceptions import RayTaskError, RuntimeEnvSetupError, TaskPlacementGroupRemoved, TaskUnschedulableError
from core.options import DYNAMIC, STREAMING, TaskOptions
from core.protocol import from_node, peer, to_node
from core.protocol.records import DeathCause
from core.refs import ObjectRef
from core.runtime import causes
from core.runtime.connection import Connection
from core.runtime.exports import Exported, Exports
from core.runtime.objects import FAILED, PENDING, Entry
from core.runtime_env import merged_env
from core.specs import RESOURCE_UNIT, LeaseSpec, RuntimeEnv, Strategy
from core.state.leases import PATIENCE, Lease, LeasePool, Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

monotonic = time.monotonic

#: Messages queued on a busy connection before they are sent regardless of time.
BATCH = 64
#: Seconds after the last flush from which a new message is not held back for company.
LINGER = 0.0003
#: Seconds a driver keeps an idle lease for its next task.
KEEP_LEASE = 0.5
#: The same for a task or actor that submits: others of its depth are likely to wait for the worker.
KEEP_NESTED_LEASE = 0.01
_FIRST = ids.FIRST_INDEX
_ONE_CPU, _NO_ENV = (("CPU", RESOURCE_UNIT),), RuntimeEnv()


class Tasks:
    """Submits tasks, follows them, retries them (see the module's docstring)."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._reactor = runtime.reactor
        self._entries = runtime.table.entries
        self._pools: dict[tuple[LeaseSpec, int], LeasePool] = {}
        self._by_number: dict[int, LeasePool] = {}
        #: (pool, lease) by worker address
        self._leases: dict[bytes, tuple[LeasePool, Lease]] = {}
        #: tasks and calls whose arguments are not there yet
        self.waiting: dict[bytes, Task] = {}
        self._exports = Exports(runtime)
        self._keep = KEEP_LEASE if runtime.kind == "driver" else KEEP_NESTED_LEASE

    # -- submission -------------------------------------------------------------------------------------------------

    def submit(
        self, function: FunctionDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> Any:
        """Submit one task (``Engine.submit_task``)."""
        exported = function.exported
        if exported is None or exported.session is not self._rt:
            exported = self._exports.export(function, options.max_calls)
        rt = self._rt
        returns = options.num_returns
        task = Task(
            rt.next_task_id(), exported, b"", exported.cost, returns, options.max_retries, options.max_retries == 0
        )
        task.options = options
        task.parent, task.depth = rt.current_task()
        if exported.max_calls:
            task.alone = True
        rt.values.pack_arguments(task, function.name, args, kwargs)
        reactor = self._reactor
        with reactor.lock:
            if task.dependencies or task.nested:
                self.check_arguments(task)
            if returns == 1:
                object_id = task.id + _FIRST
                self._entries[object_id] = Entry(local=1, task=task)
                result: Any = ObjectRef(object_id)
            else:
                result = self.make_returns(task, returns, options.backpressure)
            if task.dependencies or task.nested:
                self.pin_arguments(task, self.enqueue)
            pool = self.pool_of(self.placed(options.lease), task.depth)
            task.pool = pool
            if options.labels and (reason := self._rt.misfit(options.labels)):
                self._refuse(task, ("unschedulable", reason))
            elif task.missing == 0:
                self.enqueue(task, pool)
        return result

    def make_returns(self, task: Task, returns: int, backpressure: int) -> Any:
        """Make the references of a task that does not simply return one value (under the lock)."""
        if returns == STREAMING:
            return self._rt.streams.open(task, backpressure)
        if returns == DYNAMIC:
            return self._rt.streams.open_collected(task)
        refs: list[ObjectRef[Any]] = []
        for index in range(returns):
            object_id = ids.object_id(task.id, index)
            self._entries[object_id] = Entry(local=1, task=task)
            refs.append(ObjectRef(object_id))
        if not refs:
            return None
        return refs[0] if len(refs) == 1 else refs

    def check_arguments(self, task: Task) -> None:
        """See to it that all references in a task's arguments are known, before anything counts (under the lock).

        Raises:
            ValueError: a reference is from another session.
        """
        for object_id in (*(dependency[0] for dependency in task.dependencies), *task.nested):
            if object_id not in self._entries:
                if task.args_stored:
                    self._rt.store.free(task.id + ids.ARGUMENTS_INDEX)
                raise ValueError(f"ObjectRef({object_id.hex()}): its owner is unknown (it is from another session)")

    def pin_arguments(self, task: Task, enqueue: Callable[[Task, Any], None]) -> None:
        """Keep a task's arguments alive; ``enqueue(task, task.pool)`` once they are all there (under the lock)."""
        entries = self._entries

        def ready(*_: Any) -> None:
            task.missing -= 1
            if task.missing == 0:
                self.waiting.pop(task.id, None)
                if not task.cancelled:
                    enqueue(task, task.pool)

        for object_id in task.nested:
            entries[object_id].pins += 1
        for object_id, _, _ in task.dependencies:
            entry = entries[object_id]
            entry.pins += 1
            if entry.state == PENDING:
                task.missing += 1
                self._rt.exchange.need(object_id, entry, ready)
        if task.missing:
            self.waiting[task.id] = task

    def placed(self, spec: LeaseSpec) -> LeaseSpec:
        """Return ``spec``, in the placement group that the running task captures its children for, if it does."""
        if self._rt.kind == "driver" or spec.strategy.kind != "default":
            return spec
        group = self._rt.inbox.captured_group()
        if not group:
            return spec
        strategy = Strategy("placement_group", placement_group=group, capture_child_tasks=True)
        return structs.replace(spec, strategy=strategy)

    def pool_of(self, spec: LeaseSpec, depth: int) -> LeasePool:
        """Return the pool of a scheduling class (under the lock)."""
        default = self._rt.default_env
        if default != _NO_ENV:
            spec = structs.replace(spec, runtime_env=merged_env(default, spec.runtime_env))
        pool = self._pools.get((spec, depth))
        if pool is None:
            pool = LeasePool(len(self._by_number) + 1, spec, depth)
            self._pools[spec, depth] = pool
            self._by_number[pool.number] = pool
        return pool

    def enqueue(self, task: Task, pool: LeasePool) -> None:
        """A task is ready to run: give it to an idle worker or queue it (under the lock)."""
        if task.dependencies and self.failed_dependency(task):
            return
        now = monotonic()
        lease = pool.take_idle(task, now)
        if lease is not None:
            self._push(lease, task, now)
            return
        if pool.refused is not None:
            self._refuse(task, pool.refused)
            return
        if self._rt.failure is not None:
            self._rt.settling.finish_failed(task, self._rt.failure)
            return
        pool.queue.append(task)
        count = len(pool.queue)
        if pool.demand == 0 or (count > pool.demand and pool.demand < len(pool.leases) + 64):
            self._announce(pool)
        if count & 63 == 0:
            self._reactor.poll_now()  # a loop that submits: what came is handled, without waiting

    def _announce(self, pool: LeasePool) -> None:
        wanted = pool.wanted()
        if wanted == pool.demand:
            return
        # Half as many again: a growing queue should not cost a message per task.
        wanted = wanted + (wanted >> 1) if wanted > 8 else wanted
        first = pool.demand == 0
        pool.demand = wanted
        name = pool.queue[0].function.name if pool.queue else ""
        self._rt.to_node(to_node.LeaseDemand(pool.number, wanted, pool.depth, pool.spec if first else None, name))

    def _push(self, lease: Lease, task: Task, now: float) -> None:
        connection: Connection = lease.connection
        function: Exported = task.function
        out = connection.out
        if function.number not in connection.functions:
            connection.functions[function.number] = True
            out.append(
                peer.DefineFunction(function.number, function.digest, function.name, function.blob, function.max_calls)
            )
        if task.args_stored:
            self._rt.exchange.announce()  # the worker asks the node for them at once
        out.append(peer.Push(task.id, function.number, task.args, task.depth, self._extra(task, lease)))
        if len(lease.inflight) <= 1 or now - connection.flushed_at > LINGER or len(out) >= BATCH:
            self._reactor.flush(connection, now)
        else:
            self._reactor.dirty.add(connection)
            self._reactor.queued()

    def _extra(self, task: Task, lease: Lease) -> peer.Extra | None:
        options: TaskOptions = task.options
        spec: LeaseSpec = task.pool.spec
        strategy = spec.strategy
        if (
            task.returns == 1
            and not task.dependencies
            and not task.args_stored
            and not task.attempt
            and not options.name
            and not lease.gpu_ids
            and spec.resources == _ONE_CPU
            and strategy.kind == "default"
        ):
            return None
        return peer.Extra(
            task.returns,
            task.attempt,
            options.name,
            self._rt.exchange.resolve(task.dependencies) if task.dependencies else (),
            task.args_stored,
            options.backpressure,
            lease.gpu_ids,
            "",
            strategy.placement_group,
            strategy.capture_child_tasks,
            spec.resources,
        )

    def failed_dependency(self, task: Task) -> bool:
        """Tell whether an argument of a task or call is an error, and end it with that error if so (under the lock)."""
        for object_id, _, _ in task.dependencies:
            entry = self._entries[object_id]
            if entry.state == FAILED:
                self._rt.settling.fail_dependent(task, entry.data)
                return True
        return False

    def _refuse(self, task: Task, refused: tuple[str, str]) -> None:
        kind, reason = refused
        if kind == "placement_group_removed":
            blob = causes.pack(TaskPlacementGroupRemoved(reason))
        elif kind == "runtime_env":
            blob = causes.pack(RuntimeEnvSetupError(reason))
        else:
            blob = causes.pack(TaskUnschedulableError(reason))
        self._rt.settling.finish_failed(task, blob)

    # -- leases -----------------------------------------------------------------------------------------------------

    def granted(self, message: from_node.LeaseGrant) -> None:
        """The node lends us a worker."""
        pool = self._by_number[message.cls]
        connection = self._rt.peers.connect(message.address)
        if connection is None:
            # It died in the meantime.
            pool.demand = max(0, pool.demand - 1)
            self._rt.to_node(to_node.ReturnLease(message.lease_id, True))
            self._announce(pool)
            return
        now = monotonic()
        lease = Lease(
            message.lease_id, message.address, connection, tuple(message.gpu_ids), message.pid, connection.inflight
        )
        connection.lease, connection.pool, connection.pid = lease, pool, message.pid
        self._leases[message.address] = (pool, lease)
        pool.granted(lease, now)
        self.fill(pool, now)
        self._reactor.schedule(now + self._keep)

    def refused(self, message: from_node.LeaseRefused) -> None:
        """The node will never serve a class."""
        pool = self._by_number[message.cls]
        pool.demand = 0
        if message.kind != "start":
            pool.refused = (message.kind, message.reason)
        queue, pool.queue = list(pool.queue), type(pool.queue)()
        for task in queue:
            self._refuse(task, (message.kind, message.reason))

    def reclaim(self, lease_ids: list[int]) -> None:
        """The node wants leases back."""
        wanted = set(lease_ids)
        for pool, lease in list(self._leases.values()):
            if lease.id in wanted:
                if pool.reclaim(lease):
                    self._rt.send(lease.connection, peer.Steal())
                self._return_idle(pool, monotonic())

    def fill(self, pool: LeasePool, now: float) -> None:
        """Push queued tasks to workers with room (under the lock)."""
        pushes = pool.fill(now)
        for lease, task in pushes:
            self._push(lease, task, now)
        if pushes and pool.piped():
            self._reactor.schedule(now + PATIENCE)
        if not pool.queue and pool.demand:
            self._announce(pool)

    def _return_idle(self, pool: LeasePool, now: float, keep: float | None = None) -> None:
        for lease in pool.to_return(now, self._keep if keep is None else keep):
            self._leases.pop(lease.address, None)
            lease.connection.lease = lease.connection.pool = None
            self._rt.to_node(to_node.ReturnLease(lease.id))
        if pool.queue:
            # A lease that goes leaves the queue to others: the node must know that they are wanted.
            self._announce(pool)

    def return_reclaimed(self, pool: LeasePool, now: float) -> None:
        """Give back what the node asked for and has run dry: others wait for it."""
        self._return_idle(pool, now)

    def idle(self, now: float) -> None:
        """Some lease has fallen idle: see to it that it is returned in time (by the reading thread)."""
        self._reactor.schedule(now + self._keep, reading=True)

    def return_idle(self) -> None:
        """Give back every idle lease: the task that needed them is over."""
        if self._leases:
            with self._reactor.lock:
                for pool in list(self._by_number.values()):
                    self._return_idle(pool, monotonic(), 0.0)
                self._reactor.flush_dirty()

    def tick(self, now: float) -> float | None:
        """Steal back what is stuck, return what is idle; return when to be called next."""
        due: float | None = None
        for pool in self._by_number.values():
            if pool.piped():
                # Also with no other worker in sight: only what is queued makes the node look for one.
                for lease in pool.to_steal(now):
                    self._rt.send(lease.connection, peer.Steal())
                due = now + PATIENCE
            if pool.leases:
                self._return_idle(pool, now)
                if pool.idle and (due is None or due > now + self._keep):
                    due = now + self._keep
        return due

    # -- what comes back --------------------------------------------------------------------------------------------

    def results(self, connection: Connection, message: peer.Results, now: float) -> None:
        """A task is done in any but the simplest way."""
        task: Task = connection.inflight[message.task]
        pool, lease = connection.pool, connection.lease
        if pool is not None:
            task.cost.observe(message.micros * 1e-6)
            pool.finished(lease, task, now)
            if message.exiting:
                self._drop_lease(pool, lease, exiting=True)
        self._rt.settling.finish(connection, task, message)
        if pool is not None:
            self.fill(pool, now)

    def may_retry(self, task: Task, message: peer.Results) -> bool:
        """Tell whether a task that failed in user code should run again; count the retry."""
        options = task.options
        if not (message.failed and message.retry) or task.cancelled or task.retries_left == 0:
            return False
        if not options.retry_exceptions:
            return False
        if options.retry_on is not None:
            error = remote_errors.unpack_error(message.values[0].data)
            cause = error.cause if isinstance(error, RayTaskError) else error
            if not isinstance(cause, options.retry_on):
                return False
        if task.retries_left > 0:
            task.retries_left -= 1
        return True

    def retry(self, task: Task) -> None:
        """Run a task again."""
        self.enqueue(task, task.pool)

    def returned(self, connection: Connection, message: peer.Returned) -> None:
        """A worker hands back what it has not started."""
        pool, lease = connection.pool, connection.lease
        if pool is None:
            return
        now = monotonic()
        tasks = pool.handed_back(lease, message.tasks, now, blocked=message.blocked)
        pool.requeue([task for task in tasks if not task.cancelled])
        for task in tasks:
            if task.cancelled:
                # Handed back before the worker heard of it.
                self._rt.settling.finish_failed(task, causes.cancelled(task.id, task.function.name))
        self.fill(pool, now)
        self._return_idle(pool, now)

    def resumed(self, connection: Connection) -> None:
        """A worker's task goes on after waiting in ``get``."""
        if connection.pool is not None:
            now = monotonic()
            connection.pool.resume(connection.lease, now)
            self.fill(connection.pool, now)

    def _drop_lease(self, pool: LeasePool, lease: Lease, *, exiting: bool) -> None:
        tasks = pool.lost(lease.address)
        self._leases.pop(lease.address, None)
        connection = lease.connection
        connection.lease = connection.pool = None
        connection.inflight = {}
        self._rt.to_node(to_node.ReturnLease(lease.id, exiting))
        pool.requeue(tasks)
        if pool.queue:
            self._announce(pool)

    def worker_gone(self, address: bytes, cause: DeathCause) -> None:
        """A worker we may have leased is dead: retry or fail what it had."""
        found = self._leases.pop(address, None)
        if found is None:
            return
        pool, lease = found
        tasks = pool.lost(address)
        lease.connection.lease = lease.connection.pool = None
        lease.connection.inflight = {}
        again = []
        for position, task in enumerate(tasks):
            # The oldest one was running; the others may have run too, with their results lost on the way.
            if task.cancelled:
                self._rt.settling.finish_failed(task, causes.cancelled(task.id, task.function.name))
            elif position or self._charge(task):
                task.alone = True
                task.attempt += 1
                again.append(task)
            else:
                name = task.options.name or task.function.name
                self._rt.settling.finish_failed(task, causes.worker_died(name, task.id, cause, task.attempt + 1))
        pool.requeue(again)
        if pool.queue:
            self.fill(pool, monotonic())
        if pool.queue:
            self._announce(pool)

    def node_gone(self, error: bytes) -> None:
        """The node is dead: nothing runs any more."""
        for pool in self._by_number.values():
            tasks = list(pool.queue)
            for lease in list(pool.leases.values()):
                tasks += pool.lost(lease.address)
                lease.connection.lease = lease.connection.pool = None
                lease.connection.inflight = {}
            pool.queue.clear()
            for task in tasks:
                self._rt.settling.finish_failed(task, error)
        self._leases.clear()

    @staticmethod
    def _charge(task: Task) -> bool:
        """Take one retry for a worker's death; False if none is left."""
        if task.retries_left == 0:
            return False
        if task.retries_left > 0:
            task.retries_left -= 1
        return True

    # -- cancelling and lineage -------------------------------------------------------------------------------------

    def cancel(self, task: Task, *, force: bool, recursive: bool) -> None:
        """Cancel one of our unfinished tasks (under the lock)."""
        task.cancelled = True
        lease = task.lease
        if lease is None:
            if task.missing == 0 and task in task.pool.queue:
                task.pool.queue.remove(task)
            self._rt.settling.finish_failed(task, causes.cancelled(task.id, task.function.name))
            return
        self._rt.send(lease.connection, peer.Cancel(task.id, recursive))
        if force:
            name = task.options.name or task.function.name
            self._rt.to_node(to_node.KillWorker(lease.address, f"task {name} was cancelled with force=True"))

    def unfinished(self) -> Iterator[tuple[Iterable[Task], str]]:
        """Yield the tasks whose arguments are there, with their state in Ray's words (under the lock)."""
        for pool in self._by_number.values():
            for lease in pool.leases.values():
                yield lease.inflight.values(), "SUBMITTED_TO_WORKER"
            yield pool.queue, "PENDING_NODE_ASSIGNMENT"
