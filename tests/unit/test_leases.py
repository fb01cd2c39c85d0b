"""The lease pool as a state machine: no task is lost, doubled, or left waiting beside an idle worker."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.specs import LeaseSpec
from core.state.leases import DEPTH, PATIENCE, WINDOW, FunctionCost, Lease, LeasePool, Task


class LeasePoolMachine(RuleBasedStateMachine):
    """Drives a pool with everything that can happen to it; the model is the set of tasks not finished."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = LeasePool(1, LeaseSpec())
        self.now = 0.0
        self.unfinished: set[bytes] = set()
        self.count = 0
        self.costs = [FunctionCost(), FunctionCost(0.00001), FunctionCost(0.002), FunctionCost(1.0)]

    def _assign(self) -> None:
        for lease, task in self.pool.fill(self.now):
            assert lease.inflight[task.id] is task
            assert not lease.blocked
            assert not lease.reclaim

    @rule(kind=st.integers(0, 3), alone=st.booleans())
    def submit(self, kind: int, alone: bool) -> None:
        """A task is ready."""
        self.count += 1
        task = Task(self.count.to_bytes(24, "big"), None, b"", self.costs[kind], alone=alone)
        self.unfinished.add(task.id)
        if self.pool.take_idle(task, self.now) is None:
            self.pool.queue.append(task)

    @rule()
    def grant(self) -> None:
        """The node lends one more worker."""
        self.count += 1
        lease = Lease(self.count, self.count.to_bytes(12, "big"), None)
        self.pool.granted(lease, self.now)
        self._assign()

    @precondition(lambda self: any(lease.inflight for lease in self.pool.leases.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """The oldest task of some worker is done."""
        lease = data.draw(st.sampled_from([one for one in self.pool.leases.values() if one.inflight]))
        task = next(iter(lease.inflight.values()))
        self.pool.finished(lease, task, self.now)
        self.unfinished.discard(task.id)
        task.cost.observe(data.draw(st.floats(0, 2)))
        self._assign()

    @precondition(lambda self: self.pool.leases)
    @rule(data=st.data(), blocked=st.booleans())
    def hand_back(self, data: st.DataObject, blocked: bool) -> None:
        """A worker hands back all it has not started, because it was asked or because its task waits."""
        lease = data.draw(st.sampled_from(list(self.pool.leases.values())))
        progress = lease.progress
        waiting = [*list(lease.inflight)[1:], b"started and finished meanwhile"]
        tasks = self.pool.handed_back(lease, waiting, self.now, blocked=blocked)
        assert [task.id for task in tasks] == waiting[:-1]
        assert lease.progress == progress, "a stuck pipe counts as stuck until something is done"
        self.pool.requeue(tasks)
        self._assign()

    @precondition(lambda self: any(lease.blocked for lease in self.pool.leases.values()))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """A blocked worker's task goes on."""
        lease = data.draw(st.sampled_from([one for one in self.pool.leases.values() if one.blocked]))
        self.pool.resume(lease, self.now)
        self._assign()

    @precondition(lambda self: self.pool.leases)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A worker dies; what it had runs again, alone."""
        address = data.draw(st.sampled_from(list(self.pool.leases)))
        tasks = self.pool.lost(address)
        for task in tasks:
            task.alone = True
        self.pool.requeue(tasks)
        self._assign()

    @rule(keep=st.floats(0, 1))
    def give_back(self, keep: float) -> None:
        """Idle leases go back to the node."""
        for lease in self.pool.to_return(self.now, keep):
            assert not lease.inflight
            assert not self.pool.queue or lease.reclaim

    @precondition(lambda self: self.pool.leases)
    @rule(data=st.data())
    def reclaim(self, data: st.DataObject) -> None:
        """The node wants a lease back."""
        lease = data.draw(st.sampled_from(list(self.pool.leases.values())))
        if self.pool.reclaim(lease):
            assert len(lease.inflight) > 1
            assert not self.pool.reclaim(lease), "asked twice"

    @rule(seconds=st.floats(0, 0.1))
    def pass_time(self, seconds: float) -> None:
        """The clock goes on; a stuck pipe is noticed exactly once."""
        self.now += seconds
        for lease in self.pool.to_steal(self.now):
            assert len(lease.inflight) > 1
            assert self.now - lease.progress > PATIENCE
        assert not self.pool.to_steal(self.now), "asked twice"

    @invariant()
    def consistent(self) -> None:
        """The pool's own invariants."""
        self.pool.validate()

    @invariant()
    def nothing_lost(self) -> None:
        """Every unfinished task is queued or in exactly one pipe."""
        known = {task.id for task in self.pool.queue}
        for lease in self.pool.leases.values():
            known |= set(lease.inflight)
        assert known == self.unfinished

    @invariant()
    def no_idle_worker_beside_a_queue(self) -> None:
        """A queued task never waits while a worker is idle."""
        assert not (self.pool.queue and self.pool.idle)

    @invariant()
    def pipes_are_short(self) -> None:
        """Behind a task there is never more estimated work than the window allows, nor anything behind a lonely one."""
        for lease in self.pool.leases.values():
            tasks = list(lease.inflight.values())
            assert len(tasks) <= DEPTH
            if len(tasks) > 1:
                assert not any(task.alone for task in tasks)
                assert sum(task.estimate for task in tasks) <= WINDOW + 1e-9


TestLeasePool = LeasePoolMachine.TestCase
TestLeasePool.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def _task(number: int, cost: FunctionCost, *, alone: bool = False) -> Task:
    return Task(number.to_bytes(24, "big"), None, b"", cost, alone=alone)


def _pool(workers: int) -> LeasePool:
    pool = LeasePool(1, LeaseSpec())
    for number in range(workers):
        pool.granted(Lease(number, number.to_bytes(12, "big"), None), 0.0)
    return pool


def test_functions_never_measured_are_not_pipelined() -> None:
    pool = _pool(2)
    cost = FunctionCost()
    pool.queue.extend(_task(number, cost) for number in range(10))
    assert len(pool.fill(0.0)) == 2


def test_short_functions_fill_the_window() -> None:
    pool = _pool(1)
    cost = FunctionCost(0.0001)
    pool.queue.extend(_task(number, cost) for number in range(1000))
    pushed = len(pool.fill(0.0))
    assert 0.5 * WINDOW / 0.0001 < pushed <= WINDOW / 0.0001


def test_a_short_queue_is_shared() -> None:
    pool = _pool(2)
    cost = FunctionCost(0.00001)
    pool.queue.extend(_task(number, cost) for number in range(20))
    pool.fill(0.0)
    sizes = sorted(len(lease.inflight) for lease in pool.leases.values())
    assert sum(sizes) <= 20
    assert sizes[0] >= 5


def test_a_task_that_may_run_once_is_alone() -> None:
    pool = _pool(1)
    cost = FunctionCost(0.00001)
    pool.queue.extend([_task(1, cost, alone=True), _task(2, cost), _task(3, cost)])
    assert [task.id[-1] for _, task in pool.fill(0.0)] == [1]


def test_the_demand_is_bounded() -> None:
    pool = _pool(0)
    cost = FunctionCost()
    pool.queue.extend(_task(number, cost) for number in range(5000))
    assert pool.wanted() == 1000


def test_the_mean_follows_the_measurements() -> None:
    cost = FunctionCost()
    cost.observe(1.0)
    assert cost.seconds == 1.0
    for _ in range(50):
        cost.observe(0.1)
    assert 0.1 <= cost.seconds < 0.11
