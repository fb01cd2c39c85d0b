"""The invariants of the scheduler, checked by tests after every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.state.resources import CPU, Allocation, ResourcePool

if TYPE_CHECKING:
    from core.state.scheduler import Scheduler


def validate(scheduler: Scheduler) -> None:
    """Check the invariants of a scheduler (see ``Scheduler.validate``)."""
    pool = scheduler.pool
    states = [worker.state for worker in pool.workers.values()]
    assert pool.idle_count == states.count("idle")
    assert pool.starting_count == states.count("starting")
    leased = {worker.lease.lease_id for worker in pool.workers.values() if worker.lease is not None}
    assert leased == set(scheduler.leases)
    held = [lease_id for ids in scheduler.held.values() for lease_id in ids]
    assert sorted(held) == sorted(scheduler.leases)
    allocations: list[Allocation] = [lease.allocation for lease in scheduler.leases.values()]
    for worker in pool.workers.values():
        assert (worker.state == "leased") <= (worker.lease is not None)
        assert (worker.state == "actor") <= (worker.allocation is not None)
        assert worker.state not in ("idle", "starting") or (worker.lease is None and worker.allocation is None)
        if worker.allocation is not None:
            allocations.append(worker.allocation)
    pools = [scheduler.node]
    for group in scheduler.groups.groups.values():
        allocations += group.allocations
        pools += group.pools
    for resources in pools:
        used = [allocation for allocation in allocations if allocation.pool is resources]
        _validate_pool(resources, used)


def _validate_pool(pool: ResourcePool, allocations: list[Allocation]) -> None:
    taken = dict.fromkeys(pool.total, 0)
    gpus = dict(pool.gpu_total)
    for allocation in allocations:
        assert 0 <= allocation.lent <= allocation.cpu
        for name, amount in allocation.amounts:
            if amount:
                taken[name] += amount
        if allocation.lent:
            taken[CPU] -= allocation.lent
        for index, units in allocation.gpus.items():
            gpus[index] -= units
    assert pool.available == {name: pool.total[name] - taken[name] for name in pool.total}
    assert all(free >= 0 for name, free in pool.available.items() if name != CPU)
    assert gpus == pool.gpu_free
    assert all(units >= 0 for units in gpus.values())
