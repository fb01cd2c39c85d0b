"""The local scheduler: who may use which worker, and when to start and stop workers.

Theory of operation
    Three kinds of *requests* wait in one queue: *demands* (a holder wants more leases of one scheduling class),
    *actors* (each wants one worker), and *placement groups* (each wants all its bundles at once). After every event
    the queue is served in *rounds*. A round walks the requests, the deeper nesting first (a nested task must not
    starve behind the parents that wait for it), then first come first served, and gives each at most one unit; rounds
    go on while anybody gets something. A demand that got a lease and wants more goes to the tail, so holders take
    turns.

    A request that does not fit *reserves* what it needs: those behind it may only use the rest. So a request for the
    whole node is not starved by a stream of small ones. (One that waits for the end of an actor or a placement group
    reserves nothing, since others would wait in vain.) A request that fits but finds no idle worker claims one that
    is being started, or has one started, at most ``max_starting`` at a time.

    When a feasible request does not fit, leases are asked back (``AskBack``) from the parties (a holder and one of its
    classes) that have more than their fair share, see :mod:`core.state.reclaim`.

Prior art: the lease protocol of Ray's raylet ("Ownership", NSDI 2021). Rejected: binding a request to a process at the
moment it is forked; when forks are slow, requests then wait for one particular process while others fall idle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.protocol.records import DeathCause
from core.specs import RESOURCE_UNIT, LeaseSpec, Resources
from core.state import reclaim, requests, scheduler_checks
from core.state import scheduler_events as ev
from core.state.placement import PlacementGroup, PlacementTable
from core.state.requests import ActorRequest, Demand, GroupRequest, Request, RequestQueue, Round
from core.state.resources import CPU, ResourcePool, covers, describe, sound
from core.state.worker_pool import Lease, Worker, WorkerPool

#: Seconds after which a worker that declined to leave is asked again.
DECLINED_SECONDS = 10.0
#: Nesting depth of what a driver submits; a task's own submissions are one deeper than the task.
DRIVER_DEPTH = 1
#: Seconds before an infeasible request is reported, then the interval doubles up to the maximum.
INFEASIBLE_SECONDS = 3.0
INFEASIBLE_MAX_SECONDS = 600.0
#: A wait shorter than this is not explained; what was explained is not said again for a while.
EXPLAIN_SECONDS = 1.0
EXPLAIN_AGAIN_SECONDS = 30.0
#: Leases without any CPU, beyond this many per CPU, are granted only one per second.
ZERO_CPU_LEASES_PER_CPU = 8
ZERO_CPU_SECONDS = 1.0


class Scheduler:
    """The scheduling state of one node.

    Args:
        node_id: for node affinity.
        total: the node's resources in units.
        new_address: makes the address of a worker that is to be started.
        target_idle: how many idle workers to keep; None for one per CPU.
    """

    def __init__(
        self,
        node_id: bytes,
        total: Mapping[str, int],
        new_address: Callable[[], bytes],
        target_idle: int | None = None,
    ) -> None:
        self.node_id = node_id
        self.node = ResourcePool(total)
        self.groups = PlacementTable(self.node)
        self.pool = WorkerPool()
        self.queue = RequestQueue()
        self.leases: dict[int, Lease] = {}
        #: lease ids by holder
        self.held: dict[bytes, set[int]] = {}
        cpus = max(1, -(-total.get(CPU, 0) // RESOURCE_UNIT))
        self.target_idle = cpus if target_idle is None else target_idle
        self.max_starting = 2 * cpus
        self._new_address = new_address
        self._next_lease = 1
        #: how many leases hold no CPU at all
        self.zero_cpu_leases = 0
        self._zero_cpu_cap = ZERO_CPU_LEASES_PER_CPU * cpus
        self._zero_cpu_at = 0.0
        #: when to grant the next of them
        self._zero_cpu_wait: float | None = None
        #: when a lease may be asked back that must be left alone now
        self._serve_again: float | None = None
        #: when time alone will change something; None if never
        self.deadline: float | None = None
        self._handlers: dict[type, Callable[..., None]] = {
            ev.JobStarted: self._job_started,
            ev.JobEnded: self._job_ended,
            ev.Demanded: self._demanded,
            ev.ActorWaits: self._actor_waits,
            ev.ActorWithdrawn: self._actor_withdrawn,
            ev.GroupCreated: self._group_created,
            ev.GroupRemoved: self._group_removed,
            ev.GroupWatched: self._group_watched,
            ev.LeaseReturned: self._lease_returned,
            ev.WorkerReady: self._worker_ready,
            ev.StartFailed: self._start_failed,
            ev.StopDeclined: self._stop_declined,
            ev.WorkerLeaving: self._worker_leaving,
            ev.WorkerBlocked: self._worker_blocked,
            ev.WorkerUnblocked: self._worker_unblocked,
            ev.ProcessGone: self._process_gone,
            ev.Tick: self._tick,
        }

    def handle(self, event: ev.Event, *, now: float) -> list[ev.Instruction]:
        """Take in one event; return what must be done, in order. ``now`` is in monotonic seconds."""
        out: list[ev.Instruction] = []
        self._handlers[type(event)](event, now, out)
        self._serve(now, out)
        self._set_deadline(now)
        return out

    # jobs

    def _job_started(self, event: ev.JobStarted, now: float, out: list[ev.Instruction]) -> None:
        key = (LeaseSpec().runtime_env, event.job_id)
        for _ in range(self.target_idle):
            self._start_worker(key, out)

    def _job_ended(self, event: ev.JobEnded, now: float, out: list[ev.Instruction]) -> None:
        for worker in list(self.pool.workers.values()):
            if worker.key[1] == event.job_id and worker.state in ("starting", "idle", "stopping"):
                self._kill(worker, "its job is over", out)

    # requests

    def _demanded(self, event: ev.Demanded, now: float, out: list[ev.Instruction]) -> None:
        key = (event.holder, event.cls)
        if event.backlog <= 0:
            self.queue.remove(key)
            return
        refusal = self._refusal(event.spec)
        if refusal is not None:
            self.queue.remove(key)
            out.append(ev.Refused(event.holder, event.cls, *refusal))
            return
        demand = self.queue.find(key)
        if isinstance(demand, Demand) and demand.depth == event.depth:
            demand.backlog = event.backlog
            return
        self.queue.remove(key)
        self._push(Demand.of(event, now))

    def _actor_waits(self, event: ev.ActorWaits, now: float, out: list[ev.Instruction]) -> None:
        refusal = self._refusal(event.spec, event.held)
        if refusal is not None:
            out.append(ev.ActorRefused(event.actor_id, *refusal))
            return
        self._push(ActorRequest.of(event, self._depth_below(event.owner), now))

    def _actor_withdrawn(self, event: ev.ActorWithdrawn, now: float, out: list[ev.Instruction]) -> None:
        self.queue.remove(event.actor_id)

    def _group_created(self, event: ev.GroupCreated, now: float, out: list[ev.Instruction]) -> None:
        if self.groups.problem(event.placement_group_id, event.name, event.strategy, event.bundles):
            return
        group = PlacementGroup(
            event.placement_group_id, event.name, event.strategy, event.bundles, event.creator, event.detached
        )
        group.watchers.add(event.creator)
        self.groups.register(group)
        self._push(GroupRequest.of(group, self._depth_below(event.creator), now))

    def _depth_below(self, address: bytes) -> int:
        """Return the nesting depth of what the process at ``address`` asks for."""
        worker = self.pool.workers.get(address)
        return worker.depth + 1 if worker is not None else DRIVER_DEPTH

    def _refusal(self, spec: LeaseSpec, held: Resources = ()) -> tuple[str, str] | None:
        """Return (kind, reason) if no node can ever serve ``spec``, to whoever will hold ``held`` of it for life."""
        strategy = spec.strategy
        if not (sound(spec.resources) and sound(held) and covers(spec.resources, held)):
            return "unschedulable", f"to ask for {describe(spec.resources)} and hold {describe(held)} makes no sense"
        if strategy.kind == "node" and not strategy.soft and strategy.node_id != self.node_id:
            return "unschedulable", f"node {strategy.node_id.hex()} is dead or unknown, and the affinity to it is hard"
        return self.groups.refusal(spec) if strategy.kind == "placement_group" else None

    # placement groups

    def _group_removed(self, event: ev.GroupRemoved, now: float, out: list[ev.Instruction]) -> None:
        identifier = event.placement_group_id
        group = self.groups.remove(identifier)
        if group is None:
            return
        self.queue.remove(identifier)
        reason = f"placement group {identifier.hex()} was removed"
        for worker in list(self.pool.workers.values()):
            user = worker.placement_group or (worker.lease.placement_group if worker.lease else b"")
            if user == identifier:
                self._kill(worker, reason, out)
        for request in self.queue.of_group(identifier):
            self.queue.remove(request.key)
            self._refuse(request, "placement_group_removed", reason, out)
        out.append(ev.GroupChanged(identifier, frozenset(group.watchers)))

    def _group_watched(self, event: ev.GroupWatched, now: float, out: list[ev.Instruction]) -> None:
        group = self.groups.groups.get(event.placement_group_id)
        if group is not None:
            group.watchers.add(event.watcher)

    def _refuse(self, request: Request, kind: str, reason: str, out: list[ev.Instruction]) -> None:
        if isinstance(request, Demand):
            out.append(ev.Refused(request.asker, request.cls, kind, reason))
        elif isinstance(request, ActorRequest):
            out.append(ev.ActorRefused(request.actor_id, kind, reason))

    # workers

    def _start_worker(self, key: ev.WorkerKey, out: list[ev.Instruction]) -> bool:
        if self.pool.starting_count >= self.max_starting:
            return False
        worker = self.pool.starting(self._new_address(), key)
        out.append(ev.StartWorker(worker.address, key))
        return True

    def _worker_ready(self, event: ev.WorkerReady, now: float, out: list[ev.Instruction]) -> None:
        worker = self.pool.workers.get(event.address)
        if worker is None or worker.state != "starting":
            return
        worker.pid = event.pid
        self.pool.started(worker.key)
        self.pool.make_idle(worker, now)

    def _start_failed(self, event: ev.StartFailed, now: float, out: list[ev.Instruction]) -> None:
        worker = self.pool.remove(event.address)
        if worker is None:
            return
        todo = "refuse" if event.kind != "start" else self.pool.start_failed(worker.key, now)
        waiting = self.queue.of_worker_key(worker.key) if todo != "retry" else []
        for request in waiting if todo == "refuse" else ():
            self.queue.remove(request.key)
            self._refuse(request, event.kind, event.reason, out)
        if todo == "pause":
            text = f"tasks and actors wait, since no more workers can be started: {event.reason}"
            out += [ev.Warn(asker, text) for asker in {request.asker for request in waiting}]

    def _stop_declined(self, event: ev.StopDeclined, now: float, out: list[ev.Instruction]) -> None:
        worker = self.pool.workers.get(event.address)
        if worker is not None and worker.state == "stopping" and not worker.leaving:
            self.pool.make_idle(worker, now)
            worker.keep_until = now + DECLINED_SECONDS

    def _worker_leaving(self, event: ev.WorkerLeaving, now: float, out: list[ev.Instruction]) -> None:
        worker = self.pool.workers.get(event.address)
        if worker is not None:
            worker.leaving = True
            if worker.state == "idle":
                self.pool.change(worker, "stopping")

    def _worker_blocked(self, event: ev.WorkerBlocked, now: float, out: list[ev.Instruction]) -> None:
        worker = self.pool.workers.get(event.address)
        if worker is not None and worker.lease is not None:
            allocation = worker.lease.allocation
            allocation.pool.lend_cpu(allocation)

    def _worker_unblocked(self, event: ev.WorkerUnblocked, now: float, out: list[ev.Instruction]) -> None:
        worker = self.pool.workers.get(event.address)
        if worker is not None and worker.lease is not None:
            allocation = worker.lease.allocation
            allocation.pool.take_cpu_back(allocation)

    def _process_gone(self, event: ev.ProcessGone, now: float, out: list[ev.Instruction]) -> None:
        address = event.address
        worker = self.pool.remove(address)
        if worker is not None:
            if worker.lease is not None:
                self._end_lease(worker.lease)
            if worker.allocation is not None:
                worker.allocation.pool.release(worker.allocation)
        for request in self.queue.of_asker(address):
            if isinstance(request, Demand):
                self.queue.remove(request.key)
        for lease_id in list(self.held.get(address, ())):
            lease = self.leases[lease_id]
            self._end_lease(lease)
            self._kill(self.pool.workers[lease.worker], "the process that submitted its task is gone", out)
        groups = list(self.groups.groups.values())
        for group in groups:
            group.watchers.discard(address)
        orphans = [group.placement_group_id for group in groups if group.creator == address and not group.detached]
        for identifier in orphans:
            self._group_removed(ev.GroupRemoved(identifier), now, out)

    def _kill(self, worker: Worker, reason: str, out: list[ev.Instruction]) -> None:
        """End a worker. What it holds is given back when its death is confirmed."""
        worker.leaving = True
        if worker.state in ("starting", "idle"):
            self.pool.change(worker, "stopping")
        out.append(ev.KillWorker(worker.address, DeathCause("killed", detail=reason, pid=worker.pid)))

    # leases

    def _lease_returned(self, event: ev.LeaseReturned, now: float, out: list[ev.Instruction]) -> None:
        lease = self.leases.get(event.lease_id)
        if lease is None or lease.holder != event.holder:
            return
        self._end_lease(lease)
        # Its old holder queues up behind those who waited for it.
        self.queue.requeue((lease.holder, lease.cls))
        worker = self.pool.workers[lease.worker]
        if not event.exiting and not worker.leaving:
            worker.used = True
            self.pool.make_idle(worker, now)

    def _end_lease(self, lease: Lease) -> None:
        del self.leases[lease.lease_id]
        held = self.held[lease.holder]
        held.remove(lease.lease_id)
        if not held:
            del self.held[lease.holder]
        lease.allocation.pool.release(lease.allocation)
        if not lease.allocation.cpu:
            self.zero_cpu_leases -= 1
        worker = self.pool.workers.get(lease.worker)
        if worker is not None:
            worker.lease = None
            self.pool.change(worker, "stopping")

    # serving the queue

    def _push(self, request: Request) -> None:
        if isinstance(request, GroupRequest):
            feasible = self.groups.feasible(request.group)
        else:
            in_group = request.spec.strategy.kind == "placement_group"
            feasible = in_group or self.node.could_fit(request.spec.resources)
        if feasible:
            self.queue.push(request)
        else:
            self.queue.set_infeasible(request, request.since + INFEASIBLE_SECONDS, INFEASIBLE_SECONDS)

    def _serve(self, now: float, out: list[ev.Instruction]) -> None:
        self._serve_again = self._zero_cpu_wait = None
        if not self.queue:
            return
        round_ = Round(self.pool.starting_by_key(), self.leases.values())
        progress = True
        while progress:
            progress = False
            for request in self.queue.in_order():
                progress |= self._serve_one(request, round_, now, out)
        if round_.short:
            asks, self._serve_again = reclaim.choose(round_.short, self.leases, now)
            out += asks

    def _serve_one(self, request: Request, round_: Round, now: float, out: list[ev.Instruction]) -> bool:
        """Give one unit to ``request``, or claim a starting worker for it; return whether something was given."""
        if request.digest in round_.failed or round_.claims.get(request.key, 0) >= request.units:
            return False
        pool = self._pool_for(request, round_)
        if pool is None:
            return False
        if isinstance(request, GroupRequest):
            return self._place_group(request, round_, out)
        if isinstance(request, Demand) and not self._zero_cpu_allowed(request, now):
            return False
        key = request.worker_key
        assert key is not None
        worker = self.pool.take_idle(key, isinstance(request, ActorRequest) and self.pool.may_start(key, now))
        if worker is None:
            if round_.free_starting.get(key):
                round_.claim_starting(request, pool, fresh=False)
                return True
            if not self.pool.may_start(key, now):
                return False
            if self._start_worker(key, out):
                round_.claim_starting(request, pool, fresh=True)
                return True
            round_.reserve(request, pool)
            return False
        if isinstance(request, ActorRequest):
            self._place_actor(request, pool, worker, out)
        elif isinstance(request, Demand):
            self._grant(request, pool, worker, now, out)
        return True

    def _pool_for(self, request: Request, round_: Round) -> ResourcePool | None:
        """Return the pool that can serve ``request`` now; note its failure otherwise."""
        pools = self.groups.pools(request.spec.strategy)
        resources = request.spec.resources
        for pool in pools:
            if pool.fits(resources, round_.reserved.get(id(pool)), by_device=request.by_device):
                return pool
        # A group that is not placed yet has no pools; nothing can be reserved or asked back then.
        candidates = [pool for pool in pools if isinstance(request, GroupRequest) or pool.could_fit(resources)]
        round_.fail(request, candidates[0] if candidates else None)
        return None

    def _zero_cpu_allowed(self, request: Demand, now: float) -> bool:
        """Slow down grants that CPU does not limit, once there are many of them."""
        if self.zero_cpu_leases < self._zero_cpu_cap or any(name == CPU for name, _ in request.spec.resources):
            return True
        at = self._zero_cpu_at + ZERO_CPU_SECONDS
        if now >= at:
            return True
        self._zero_cpu_wait = at
        return False

    def _grant(
        self, request: Demand, pool: ResourcePool, worker: Worker, now: float, out: list[ev.Instruction]
    ) -> None:
        allocation = pool.allocate(request.spec.resources)
        lease = Lease(
            self._next_lease,
            request.asker,
            request.cls,
            worker.address,
            allocation,
            request.depth,
            now,
            request.spec.strategy.placement_group,
        )
        self._next_lease += 1
        self.leases[lease.lease_id] = lease
        self.held.setdefault(lease.holder, set()).add(lease.lease_id)
        if not allocation.cpu:
            self.zero_cpu_leases += 1
            self._zero_cpu_at = now
        self.pool.change(worker, "leased")
        worker.lease = lease
        worker.depth = request.depth
        request.backlog -= 1
        if request.backlog:
            self.queue.requeue(request.key)
        else:
            self.queue.remove(request.key)
        out.append(ev.Granted(lease.holder, lease.cls, lease.lease_id, worker.address, worker.pid, [*allocation.gpus]))

    def _place_actor(
        self, request: ActorRequest, pool: ResourcePool, worker: Worker, out: list[ev.Instruction]
    ) -> None:
        allocation = pool.allocate(request.held)
        self.pool.change(worker, "actor")
        worker.actor_id = request.actor_id
        worker.allocation = allocation
        worker.placement_group = request.spec.strategy.placement_group
        worker.depth = request.depth
        self.queue.remove(request.key)
        out.append(ev.ActorPlaced(request.actor_id, worker.address, worker.pid, [*allocation.gpus]))

    def _place_group(self, request: GroupRequest, round_: Round, out: list[ev.Instruction]) -> bool:
        group = request.group
        if not self.groups.place(group):
            # The sums fit but not the single devices: GPUs are in use in part.
            round_.fail(request, self.node)
            return False
        self.queue.remove(request.key)
        out.append(ev.GroupChanged(group.placement_group_id, frozenset(group.watchers)))
        return True

    # time

    def _tick(self, event: ev.Tick, now: float, out: list[ev.Instruction]) -> None:
        self._stop_surplus(now, out)
        for entry in self.queue.infeasible.values():
            if entry.warn_at <= now:
                out.append(ev.Warn(entry.request.asker, requests.explain_infeasible(entry.request, self.node)))
                entry.interval = min(2 * entry.interval, INFEASIBLE_MAX_SECONDS)
                entry.warn_at = now + entry.interval

    def _stop_surplus(self, now: float, out: list[ev.Instruction]) -> None:
        surplus = self.pool.idle_count - self.target_idle
        for worker in self.pool.may_stop(now)[: max(0, surplus)]:
            self.pool.change(worker, "stopping")
            out.append(ev.StopWorker(worker.address, "the pool of idle workers shrinks"))

    def _set_deadline(self, now: float) -> None:
        times = [entry.warn_at for entry in self.queue.infeasible.values()]
        times += [until for until, _ in self.pool.pauses.values() if until > now]
        if self._serve_again is not None:
            times.append(self._serve_again)
        if self._zero_cpu_wait is not None:
            times.append(self._zero_cpu_wait)
        if self.pool.idle_count > self.target_idle:
            times.append(self.pool.next_stop)
        self.deadline = min(times, default=None)

    # looking in

    def explain_stall(self, request: Request, now: float) -> str:
        """Return why a feasible ``request`` waits (:meth:`_tick` reports the others); "" if it queues, or was told."""
        if request.key in self.queue.infeasible or now < request.explain_at or now - request.since < EXPLAIN_SECONDS:
            return ""
        text = requests.explain_stall(request, self.groups.pools(request.spec.strategy), self.leases.values())
        request.explain_at = now + EXPLAIN_AGAIN_SECONDS if text else now
        return text

    def validate(self) -> None:
        """Check every invariant; used by tests after each event.

        Raises:
            AssertionError: one is broken.
        """
        scheduler_checks.validate(self)
