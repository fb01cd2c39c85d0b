"""The invariants of the scheduler, checked by tests after every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.state.requests import GroupRequest
from core.state.resources import CPU, Allocation, ResourcePool

if TYPE_CHECKING:
    from core.state.scheduler import Scheduler


def validate(scheduler: Scheduler) -> None:
    """Check the invariants of a scheduler (see ``Scheduler.validate``)."""
    pool = scheduler.pool
    for part in (pool, scheduler.queue, scheduler.groups):
        part.validate()
    leased = {worker.lease.lease_id: worker.lease for worker in pool.workers.values() if worker.lease is not None}
    assert leased == scheduler.leases
    held = [(lease_id, holder) for holder, ids in scheduler.held.items() for lease_id in ids]
    assert sorted(held) == sorted((lease.lease_id, lease.holder) for lease in scheduler.leases.values())
    assert all(scheduler.held.values()), "a holder of nothing was kept"
    assert scheduler.zero_cpu_leases == sum(not lease.allocation.cpu for lease in scheduler.leases.values())
    _validate_requests(scheduler)
    allocations: list[Allocation] = [lease.allocation for lease in scheduler.leases.values()]
    allocations += [worker.allocation for worker in pool.workers.values() if worker.allocation is not None]
    pools = [scheduler.node]
    for group in scheduler.groups.groups.values():
        allocations += group.allocations
        pools += group.pools
    for resources in pools:
        used = [allocation for allocation in allocations if allocation.pool is resources]
        _validate_pool(resources, used)


def _validate_requests(scheduler: Scheduler) -> None:
    groups = scheduler.groups
    for request in scheduler.queue.all():
        wanted = request.spec.strategy.placement_group
        assert not wanted or wanted in groups.groups, "a request waits for a group that is gone"
        assert not isinstance(request, GroupRequest) or groups.groups[request.group.placement_group_id] is request.group
    for key, entry in scheduler.queue.infeasible.items():
        request = entry.request
        if isinstance(request, GroupRequest):
            assert not groups.feasible(request.group), f"{key!r} could be served"
        else:
            assert not scheduler.node.could_fit(request.spec.resources), f"{key!r} could be served"
    for identifier, group in groups.groups.items():
        assert isinstance(scheduler.queue.find(identifier), GroupRequest) == (not group.pools)


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
