"""Which leased worker runs which task: one :class:`LeasePool` per scheduling class of a submitter.

Theory of operation. Pipelining several tasks into one worker hides the round trip, but a task in the pipe of a slow
worker waits while another worker may be idle. Three rules keep the first without the second:

1. A task goes to an idle worker first. It is put *behind* others only if the estimated work in that pipe, itself
   included, stays under :data:`WINDOW` seconds. A function's cost is estimated by a running mean of measured times;
   one never measured counts as endless, so nothing goes behind it and it goes behind nothing.
2. Estimates can be wrong. A worker that made no progress for :data:`PATIENCE` although work waits in its pipe is asked
   to hand back what it has not started, as soon as that could run elsewhere (:meth:`LeasePool.to_steal`).
3. A task that may run at most once (``max_retries=0``), or that was in flight when a worker died, always runs alone in
   a pipe, so that a worker's death is charged to the right task.

The pool owns the queue of ready tasks and the record of what is in flight where. It does no I/O and reads no clock: its
methods take ``now`` and return what to push.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from msgspec import Struct, field

from core.specs import LeaseSpec

#: Most estimated work, in seconds, in one worker's pipe.
WINDOW = 0.008
#: Refill a pipe once less than this is left in it.
REFILL = WINDOW / 2
#: Longest pipe, in tasks.
DEPTH = 512
#: Seconds without progress after which a pipe counts as stuck.
PATIENCE = 0.010
#: Seconds that a task costs its worker besides its own work, in the estimates.
OVERHEAD = 2e-6
#: Leases asked for at most at once; more would only make long queues in the node.
MAX_DEMAND = 1000


class FunctionCost(Struct, gc=False):
    """Running mean of one function's run time; ``seconds`` < 0 means never measured."""

    seconds: float = -1.0

    def observe(self, seconds: float) -> None:
        """Take one measurement into account (the more recent, the heavier)."""
        mean = self.seconds
        self.seconds = seconds if mean < 0 else mean + 0.2 * (seconds - mean)


class Task(Struct, gc=False, eq=False):
    """A task as its submitter keeps it, from submission until its last return object needs no lineage."""

    id: bytes
    #: what the runtime needs to encode it; opaque here
    function: Any
    args: bytes
    cost: FunctionCost
    returns: int = 1
    retries_left: int = 3
    #: runs alone in a pipe (rule 3)
    alone: bool = False
    attempt: int = 0
    #: the lease it is in flight on: None while queued or done
    lease: Any = None
    #: pool of a task, client of an actor call; opaque here
    pool: Any = None
    options: Any = None
    #: results still in the shared-memory store: while there are any, the task is kept to make them again
    stored: int = 0
    #: done, with results in the store: its arguments count for lineage only
    kept: bool = False
    #: top-level reference arguments: (object id, index, keyword)
    dependencies: tuple[tuple[bytes, int, str], ...] = ()
    #: references nested in the arguments
    nested: tuple[bytes, ...] = ()
    #: dependencies still missing
    missing: int = 0
    #: the task that submitted it (empty in a driver)
    parent: bytes = b""
    #: ``cancel`` was asked for
    cancelled: bool = False
    args_stored: bool = False
    depth: int = 1
    estimate: float = 0.0


class Lease(Struct, gc=False, eq=False):
    """One leased worker."""

    id: int
    address: bytes
    #: the runtime's connection to the worker; opaque here
    connection: Any
    gpu_ids: tuple[int, ...] = ()
    pid: int = 0
    #: tasks pushed and not finished, oldest first
    inflight: dict[bytes, Task] = field(default_factory=dict)
    #: estimated work in flight, in seconds; infinite while an unmeasured task is in flight
    load: float = 0.0
    #: when something was last pushed into the empty pipe, or finished
    progress: float = 0.0
    #: the worker's task waits in ``get``: push nothing
    blocked: bool = False
    #: the node wants it back: push nothing, return it when dry
    reclaim: bool = False
    #: a steal request is under way
    stealing: bool = False
    idle_since: float = 0.0


class LeasePool:
    """Queue and leases of one scheduling class.

    Args:
        number: the class's number towards the node.
        spec: the class.
        depth: nesting depth of the tasks submitted, for the node's order of service.
    """

    def __init__(self, number: int, spec: LeaseSpec, depth: int = 1) -> None:
        self.number = number
        self.spec = spec
        self.depth = depth
        #: ready tasks, oldest first
        self.queue: deque[Task] = deque()
        #: held leases by worker address
        self.leases: dict[bytes, Lease] = {}
        #: those with an empty pipe that may be used, most recently used last
        self.idle: list[Lease] = []
        #: leases asked for and not granted yet
        self.demand = 0
        #: set once the node says that no node can ever serve the class
        self.refused: tuple[str, str] | None = None

    def take_idle(self, task: Task, now: float) -> Lease | None:
        """Put ``task`` on an idle worker if there is one (the fast path of submission)."""
        if self.idle and not self.queue:
            lease = self.idle.pop()
            self._place(task, lease, now)
            return lease
        return None

    def _place(self, task: Task, lease: Lease, now: float) -> None:
        cost = task.cost.seconds
        if not lease.inflight:
            lease.progress = now
        task.estimate = cost = float("inf") if cost < 0 or task.alone else cost + OVERHEAD
        lease.load += cost
        lease.inflight[task.id] = task
        task.lease = lease

    def fill(self, now: float) -> list[tuple[Lease, Task]]:
        """Assign queued tasks to workers; return what to push, in order."""
        pushes: list[tuple[Lease, Task]] = []
        queue = self.queue
        idle = self.idle
        while queue and idle:
            lease = idle.pop()
            task = queue.popleft()
            self._place(task, lease, now)
            pushes.append((lease, task))
        if not queue:
            return pushes
        for lease in self.leases.values():
            if lease.load > REFILL or lease.blocked or lease.reclaim or not lease.inflight:
                continue
            if now - lease.progress > PATIENCE:
                continue
            self._fill_one(lease, now, pushes)
            if not queue:
                break
        return pushes

    def _fill_one(self, lease: Lease, now: float, pushes: list[tuple[Lease, Task]]) -> None:
        queue = self.queue
        inflight = lease.inflight
        load = lease.load
        # Share what is queued: a pipe must not swallow a short queue while other workers are about to be free.
        quota = max(1, len(queue) // max(1, len(self.leases)))
        room = min(DEPTH - len(inflight), quota)
        while room > 0 and queue:
            task = queue[0]
            cost = task.cost.seconds
            if cost < 0 or task.alone:
                break
            cost += OVERHEAD
            if load + cost > WINDOW:
                break
            queue.popleft()
            load += cost
            task.estimate = cost
            task.lease = lease
            inflight[task.id] = task
            pushes.append((lease, task))
            room -= 1
        lease.load = load

    def finished(self, lease: Lease, task: Task, now: float) -> None:
        """Record that ``task`` left ``lease``'s pipe (done or handed back)."""
        inflight = lease.inflight
        if inflight.pop(task.id, None) is None:
            return
        task.lease = None
        lease.progress = now
        if inflight:
            load = lease.load - task.estimate
            # inf - inf is not a number: recompute
            lease.load = sum(other.estimate for other in inflight.values()) if math.isnan(load) else load
        else:
            lease.load = 0.0
            lease.stealing = False
            if not lease.blocked and not lease.reclaim:
                lease.idle_since = now
                self.idle.append(lease)

    def granted(self, lease: Lease, now: float) -> None:
        """A new lease came in."""
        self.demand = max(0, self.demand - 1)
        self.leases[lease.address] = lease
        lease.idle_since = now
        self.idle.append(lease)

    def wanted(self) -> int:
        """How many leases beyond those held the queued tasks could use now."""
        return min(len(self.queue), MAX_DEMAND)

    def block(self, lease: Lease) -> None:
        """The worker's task waits: push nothing there."""
        lease.blocked = True
        if lease in self.idle:
            self.idle.remove(lease)

    def resume(self, lease: Lease, now: float) -> None:
        """The worker's task goes on."""
        lease.blocked = False
        lease.progress = now
        if not lease.inflight and not lease.reclaim and lease not in self.idle:
            lease.idle_since = now
            self.idle.append(lease)

    def reclaim(self, lease: Lease) -> bool:
        """The node wants a lease back: push nothing there; return whether to ask for what has not started."""
        lease.reclaim = True
        if lease in self.idle:
            self.idle.remove(lease)
        if len(lease.inflight) <= 1 or lease.stealing:
            return False
        lease.stealing = True
        return True

    def handed_back(self, lease: Lease, task_ids: list[bytes], now: float, *, blocked: bool) -> list[Task]:
        """Take back what a worker has not started; ``blocked``: its task waits. Return the tasks, oldest first."""
        lease.stealing = False
        tasks = [lease.inflight[task_id] for task_id in task_ids if task_id in lease.inflight]
        progress = lease.progress
        for task in tasks:
            self.finished(lease, task, now)
        lease.progress = progress  # to hand back is none
        if blocked:
            self.block(lease)
        return tasks

    def lost(self, address: bytes) -> list[Task]:
        """The worker is dead or the lease is gone; return what was in flight, oldest first."""
        lease = self.leases.pop(address, None)
        if lease is None:
            return []
        if lease in self.idle:
            self.idle.remove(lease)
        tasks = list(lease.inflight.values())
        lease.inflight = {}
        for task in tasks:
            task.lease = None
        return tasks

    def requeue(self, tasks: list[Task]) -> None:
        """Put tasks back in front of the queue, keeping their order."""
        self.queue.extendleft(reversed(tasks))

    def to_return(self, now: float, keep: float) -> list[Lease]:
        """Remove and return leases to give back: dry and reclaimed, or idle for more than ``keep`` seconds."""
        out = []
        if self.queue:
            keep = float("inf")
        for lease in list(self.leases.values()):
            if lease.inflight or lease.blocked:
                continue
            if lease.reclaim or now - lease.idle_since >= keep:
                del self.leases[lease.address]
                if lease in self.idle:
                    self.idle.remove(lease)
                out.append(lease)
        return out

    def to_steal(self, now: float) -> list[Lease]:
        """Return workers that should hand back unstarted tasks: several in flight, and no progress for a while."""
        out = []
        for lease in self.leases.values():
            if len(lease.inflight) > 1 and not lease.stealing and now - lease.progress > PATIENCE:
                lease.stealing = True
                out.append(lease)
        return out

    def piped(self) -> bool:
        """Tell whether any worker has unstarted tasks in its pipe."""
        return any(len(lease.inflight) > 1 for lease in self.leases.values())

    def validate(self) -> None:
        """Check the invariants (tests)."""
        seen: set[bytes] = set()
        for address, lease in self.leases.items():
            assert address == lease.address
            for task in lease.inflight.values():
                assert task.lease is lease
                assert task.id not in seen, "a task is in two pipes"
                seen.add(task.id)
            assert (lease in self.idle) == (not lease.inflight and not lease.blocked and not lease.reclaim)
        assert all(lease.address in self.leases for lease in self.idle)
        assert len(self.idle) == len({lease.address for lease in self.idle})
        for task in self.queue:
            assert task.lease is None
            assert task.id not in seen, "a queued task is in a pipe"
            seen.add(task.id)
