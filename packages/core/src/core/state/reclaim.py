"""Whom to ask for leases back when a request waits for resources that others hold.

A *party* is a holder together with one of its scheduling classes. The rules:

* An actor or a placement group may take from any party: it has nothing yet and cannot take turns.
* A demand takes from a party that has at least two leases more than its own party has. If the difference is one, it
  takes only from a lease held for :data:`QUANTUM` seconds: this is time slicing, and slower than the work itself.
* Nobody takes from a deeper nesting level, nor the lease on whose worker the asker itself runs.
* Nothing is asked unless all that is missing can come back; a lease is asked for once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from core.state.requests import Demand, Request
from core.state.resources import CPU, ResourcePool
from core.state.scheduler_events import AskBack
from core.state.worker_pool import Lease

#: Seconds a lease is left alone if its party has hardly more than the one that waits.
QUANTUM = 0.2

Party = tuple[bytes, int]


def choose(
    short: Iterable[tuple[Request, ResourcePool]], leases: Mapping[int, Lease], now: float
) -> tuple[list[AskBack], float | None]:
    """Return what to ask for, and when to look again (None: when something changes).

    Args:
        short: requests that do not fit, in the order of service, each with the pool it draws on.
        leases: all current leases; those asked for are marked.
        now: monotonic seconds.
    """
    counts = Counter((lease.holder, lease.cls) for lease in leases.values())
    incoming: dict[int, Counter[str]] = {}
    for lease in leases.values():
        if lease.asked:
            incoming.setdefault(id(lease.allocation.pool), Counter()).update(_gain(lease))
    asked: dict[bytes, list[int]] = {}
    retry: float | None = None
    for request, pool in short:
        coming = incoming.setdefault(id(pool), Counter())
        missing = _missing(request, pool, coming)
        chosen: list[Lease] = []
        for lease in sorted(leases.values(), key=lambda lease: (-counts[lease.holder, lease.cls], lease.granted_at)):
            if not missing:
                break
            gain = _gain(lease)
            if lease.asked or lease.allocation.pool is not pool or not any(gain.get(name) for name in missing):
                continue
            when = _allowed_at(lease, request, counts, now)
            if when is None:
                continue
            if when > now:
                retry = when if retry is None else min(retry, when)
                continue
            chosen.append(lease)
            missing = {name: amount - gain.get(name, 0) for name, amount in missing.items()}
            missing = {name: amount for name, amount in missing.items() if amount > 0}
        if missing:
            continue
        for lease in chosen:
            lease.asked = True
            counts[lease.holder, lease.cls] -= 1
            asked.setdefault(lease.holder, []).append(lease.lease_id)
            coming.update(_gain(lease))
        # What comes back is for this request; those behind it must ask for their own.
        coming.subtract(dict(request.spec.resources))
    return [AskBack(holder, ids) for holder, ids in asked.items()], retry


def _gain(lease: Lease) -> dict[str, int]:
    """What the pool gets when the lease ends: all of it but the CPU that is lent already."""
    return {name: amount - (lease.allocation.lent if name == CPU else 0) for name, amount in lease.allocation.amounts}


def _missing(request: Request, pool: ResourcePool, coming: Mapping[str, int]) -> dict[str, int]:
    missing = {}
    for name, amount in request.spec.resources:
        lacking = amount - pool.available.get(name, 0) - coming.get(name, 0)
        if amount > 0 and lacking > 0:
            missing[name] = lacking
    return missing


def _allowed_at(lease: Lease, request: Request, counts: Mapping[Party, int], now: float) -> float | None:
    """Return when ``request`` may take from ``lease``; None if it may not."""
    if lease.depth > request.depth or lease.worker == request.asker:
        return None
    if not isinstance(request, Demand):
        return now
    theirs, mine = counts[lease.holder, lease.cls], counts[request.asker, request.cls]
    if theirs >= mine + 2:
        return now
    if theirs > mine:
        return max(lease.granted_at, request.since) + QUANTUM
    return None
