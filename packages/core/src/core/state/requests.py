"""What waits in the scheduler's queue, and the bookkeeping of one round of serving it."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from msgspec import Struct

from core.specs import LeaseSpec, Resources
from core.state.placement import PlacementGroup
from core.state.resources import ResourcePool, describe
from core.state.scheduler_events import ActorWaits, Demanded, WorkerKey
from core.state.worker_pool import Lease


class Request(Struct, eq=False, kw_only=True):
    """Somebody who waits for resources; ``key`` identifies it, ``asker`` is the process behind it."""

    key: Hashable
    spec: LeaseSpec
    #: nesting depth; the deeper is served first
    depth: int
    name: str
    #: since when it waits (monotonic seconds)
    since: float
    asker: bytes
    #: not explained again before this time
    explain_at: float = 0.0

    @property
    def digest(self) -> Hashable:
        """Equal for requests of which at most the first needs a look in a round that cannot serve it."""
        return self.spec

    @property
    def by_device(self) -> bool:
        """Whether all its GPUs must be whole ones, or all on one."""
        return True

    @property
    def units(self) -> int:
        """How many workers (or groups) it waits for."""
        return 1

    @property
    def worker_key(self) -> WorkerKey | None:
        """Which workers can serve it; None if it needs none."""
        return None

    @property
    def what(self) -> str:
        """What it is, for messages."""
        return f"placement group {self.name}"


class Demand(Request, eq=False, kw_only=True):
    """A holder that wants ``backlog`` more leases of its class ``cls``."""

    job_id: bytes
    cls: int
    backlog: int

    @classmethod
    def of(cls, event: Demanded, now: float) -> Demand:
        """Return the demand that ``event`` announces."""
        return cls(
            key=(event.holder, event.cls),
            spec=event.spec,
            depth=event.depth,
            name=event.name,
            since=now,
            asker=event.holder,
            job_id=event.job_id,
            cls=event.cls,
            backlog=event.backlog,
        )

    @property
    def digest(self) -> Hashable:
        return self.key

    @property
    def units(self) -> int:
        return self.backlog

    @property
    def worker_key(self) -> WorkerKey:
        return self.spec.runtime_env, self.job_id

    @property
    def what(self) -> str:
        return f"task {self.name}"


class ActorRequest(Request, eq=False, kw_only=True):
    """An actor that wants a worker; ``key`` is its id too."""

    actor_id: bytes
    job_id: bytes
    held: Resources

    @classmethod
    def of(cls, event: ActorWaits, depth: int, now: float) -> ActorRequest:
        """Return the request that ``event`` announces, made at nesting ``depth``."""
        return cls(
            key=event.actor_id,
            spec=event.spec,
            depth=depth,
            name=event.name,
            since=now,
            asker=event.owner,
            actor_id=event.actor_id,
            job_id=event.job_id,
            held=event.held,
        )

    @property
    def worker_key(self) -> WorkerKey:
        return self.spec.runtime_env, self.job_id

    @property
    def what(self) -> str:
        return f"actor {self.name}"


class GroupRequest(Request, eq=False, kw_only=True):
    """A placement group that wants its bundles; ``key`` is its id."""

    group: PlacementGroup

    @classmethod
    def of(cls, group: PlacementGroup, depth: int, now: float) -> GroupRequest:
        """Return the request for the bundles of ``group``, made at nesting ``depth``."""
        return cls(
            key=group.placement_group_id,
            spec=LeaseSpec(group.resources),
            depth=depth,
            name=group.name or group.placement_group_id.hex(),
            since=now,
            asker=group.creator,
            group=group,
        )

    @property
    def by_device(self) -> bool:
        return False  # each bundle for itself


class Infeasible(Struct, eq=False):
    """A request that no node can ever serve as it is, and when to say so again."""

    request: Request
    warn_at: float
    interval: float


class RequestQueue:
    """The waiting requests: by depth, then first come first served. Infeasible ones stand apart."""

    def __init__(self) -> None:
        self._by_depth: dict[int, dict[Hashable, Request]] = {}
        self._depth: dict[Hashable, int] = {}
        self.infeasible: dict[Hashable, Infeasible] = {}

    def __bool__(self) -> bool:
        return bool(self._depth)

    def __len__(self) -> int:
        return len(self._depth) + len(self.infeasible)

    def push(self, request: Request) -> None:
        """Add a request at the tail of its depth."""
        self._by_depth.setdefault(request.depth, {})[request.key] = request
        self._depth[request.key] = request.depth

    def find(self, key: Hashable) -> Request | None:
        """Return a waiting request, feasible or not."""
        depth = self._depth.get(key)
        if depth is not None:
            return self._by_depth[depth][key]
        entry = self.infeasible.get(key)
        return entry.request if entry is not None else None

    def remove(self, key: Hashable) -> None:
        """Forget a request, if it waits."""
        self.infeasible.pop(key, None)
        depth = self._depth.pop(key, None)
        if depth is not None:
            requests = self._by_depth[depth]
            del requests[key]
            if not requests:
                del self._by_depth[depth]

    def requeue(self, key: Hashable) -> None:
        """Move a request to the tail of its depth, if it waits."""
        depth = self._depth.get(key)
        if depth is not None:
            requests = self._by_depth[depth]
            requests[key] = requests.pop(key)

    def set_infeasible(self, request: Request, warn_at: float, interval: float) -> None:
        """Put a request aside: it waits, but is not served."""
        self.infeasible[request.key] = Infeasible(request, warn_at, interval)

    def in_order(self) -> list[Request]:
        """Return the feasible requests in the order of service."""
        if len(self._by_depth) == 1:
            return [*next(iter(self._by_depth.values())).values()]
        return [request for depth in sorted(self._by_depth, reverse=True) for request in self._by_depth[depth].values()]

    def all(self) -> list[Request]:
        """Return every request."""
        return [*self.in_order(), *(entry.request for entry in self.infeasible.values())]

    def of_asker(self, asker: bytes) -> list[Request]:
        """Return what a process waits for."""
        return [request for request in self.all() if request.asker == asker]

    def of_group(self, placement_group: bytes) -> list[Request]:
        """Return the requests that want to run inside a placement group."""
        return [request for request in self.all() if request.spec.strategy.placement_group == placement_group]

    def of_worker_key(self, key: WorkerKey) -> list[Request]:
        """Return the requests that need a worker of ``key``."""
        return [request for request in self.all() if request.worker_key == key]

    def validate(self) -> None:
        """Check every invariant; used by tests after each event.

        Raises:
            AssertionError: one is broken.
        """
        assert all(self._by_depth.values()), "an empty depth was kept"
        assert self._depth == {key: depth for depth, requests in self._by_depth.items() for key in requests}
        assert not self._depth.keys() & self.infeasible.keys(), "a request waits twice"
        for request in self.all():
            assert self.find(request.key) is request
            assert request.units > 0, "a request waits for nothing"


class Round(Struct, eq=False):
    """What was promised while one event is being answered."""

    #: workers being started and not claimed yet, by key
    free_starting: dict[WorkerKey, int]
    #: all leases, as they are at any time
    leases: Collection[Lease]
    #: request key -> starting workers claimed for it
    claims: dict[Hashable, int] = {}
    #: pool (by identity) -> amounts not to be given to those further behind
    reserved: dict[int, dict[str, int]] = {}
    #: pool (by identity), resources and whether by device -> whether they come with the end of leases
    comes: dict[tuple[int, Resources, bool], bool] = {}
    #: digests of requests that do not fit any more
    failed: set[Hashable] = set()
    #: the first request of each digest that does not fit, and the pool it would draw on
    short: list[tuple[Request, ResourcePool]] = []

    def claim_starting(self, request: Request, pool: ResourcePool, fresh: bool) -> None:
        """Count a starting worker as the one for ``request``; ``fresh`` if it was started for it just now."""
        if not fresh:
            key = request.worker_key
            assert key is not None
            self.free_starting[key] -= 1
        self.claims[request.key] = self.claims.get(request.key, 0) + 1
        self.reserve(request, pool)

    def reserve(self, request: Request, pool: ResourcePool) -> None:
        """Keep what ``request`` needs from those behind it."""
        reserved = self.reserved.setdefault(id(pool), {})
        for name, amount in request.spec.resources:
            reserved[name] = reserved.get(name, 0) + amount

    def fail(self, request: Request, pool: ResourcePool | None) -> None:
        """Note that ``request`` does not fit now, nor do others of its spec.

        It reserves what it needs only if that comes with the end of leases: nobody knows when an actor or a placement
        group ends, and until then others can use what is there.
        """
        self.failed.add(request.digest)
        if pool is not None:
            self.short.append((request, pool))
            what = id(pool), request.spec.resources, request.by_device
            if what not in self.comes:
                self.comes[what] = _comes_with(self.leases, request, pool)
            if self.comes[what]:
                self.reserve(request, pool)


def _comes_with(leases: Collection[Lease], request: Request, pool: ResourcePool) -> bool:
    """Tell whether the pool could serve the request if these leases ended."""
    ending = (lease.allocation for lease in leases)
    return pool.would_fit(request.spec.resources, ending, by_device=request.by_device)


def explain_stall(request: Request, pools: list[ResourcePool], leases: Collection[Lease]) -> str:
    """Return one line for people: why ``request``, which is feasible, does not get its turn.

    Args:
        request: what waits.
        pools: what it may draw on.
        leases: all leases; "" is returned if the request only queues for the end of some of them.
    """
    if any(_comes_with(leases, request, pool) for pool in pools):
        return ""
    resources = request.spec.resources
    waits = f"{request.what} waits for {describe(resources)}"
    if not pools:
        return f"{waits} in its placement group, which is not placed yet"
    available = describe({name: max(pool.available.get(name, 0) for pool in pools) for name, _ in resources})
    return f"{waits}, available are {available}: actors and placement groups hold the rest until they are removed"


def explain_infeasible(request: Request, node: ResourcePool) -> str:
    """Return one line for people: why ``request`` can never be served by this node."""
    resources = request.spec.resources
    waits = f"{request.what} waits for {describe(resources)}"
    if isinstance(request, GroupRequest) and request.group.strategy == "STRICT_SPREAD":
        return f"{waits} on {len(request.group.bundles)} different nodes (STRICT_SPREAD), there is only one"
    return f"{waits}, no node has more than {describe({name: node.total.get(name, 0) for name, _ in resources})}"
