"""Placement groups: bundles of resources carved out of the node, and who may draw on them.

A group is PENDING until all its bundles fit at once, then CREATED, and REMOVED in the end. On one node every strategy
but STRICT_SPREAD places all bundles on that node; STRICT_SPREAD asks for a node per bundle, so with two bundles or
more it stays PENDING (Ray's state for it too) until the cluster grows.

Removal is idempotent. A removed group leaves a tombstone, so that demands that name it later can be refused with the
right reason; the last :data:`TOMBSTONES` are kept.
"""

from __future__ import annotations

from msgspec import Struct

from core.protocol.records import Bundle, PlacementGroupInfo
from core.specs import RESOURCE_UNIT, LeaseSpec, Resources, Strategy
from core.state.resources import GPU, Allocation, ResourcePool, add, describe, sound

#: How many removed groups are remembered.
TOMBSTONES = 10_000

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup(Struct, eq=False):
    """One group that is not removed."""

    placement_group_id: bytes
    name: str
    strategy: str
    bundles: list[Bundle]
    creator: bytes
    detached: bool = False
    #: processes that are told when the group is placed or removed
    watchers: set[bytes] = set()
    #: one pool per bundle once CREATED, else empty
    pools: list[ResourcePool] = []
    #: the node's resources behind ``pools``, same order
    allocations: list[Allocation] = []

    @property
    def resources(self) -> Resources:
        """What all bundles together need."""
        return add(bundle.resources for bundle in self.bundles)

    def info(self) -> PlacementGroupInfo:
        """Return the public state."""
        state = "CREATED" if self.pools else "PENDING"
        return PlacementGroupInfo(self.placement_group_id, self.name, self.strategy, self.bundles, state, self.detached)


class PlacementTable:
    """The groups of one node and their bundles."""

    def __init__(self, node: ResourcePool) -> None:
        self._node = node
        self.groups: dict[bytes, PlacementGroup] = {}
        #: name -> id, for groups with a name
        self._names: dict[str, bytes] = {}
        #: last known state of removed groups, oldest first
        self._removed: dict[bytes, PlacementGroupInfo] = {}

    def problem(self, identifier: bytes, name: str, strategy: str, bundles: list[Bundle]) -> str:
        """Return why such a group cannot be registered, or ""."""
        if identifier in self.groups or identifier in self._removed:
            return "a placement group with that id exists already"
        if strategy not in STRATEGIES:
            return f"unknown placement strategy {strategy!r}; valid ones: {', '.join(STRATEGIES)}"
        if not bundles:
            return "a placement group needs at least one bundle"
        if not all(sound(bundle.resources) for bundle in bundles):
            return "a bundle of a placement group needs amounts that are not negative"
        if name and name in self._names:
            return f"a placement group named {name!r} exists already"
        return ""

    def register(self, group: PlacementGroup) -> None:
        """Add a pending group; the caller has made sure that there is no :meth:`problem`."""
        self.groups[group.placement_group_id] = group
        if group.name:
            self._names[group.name] = group.placement_group_id

    def find(self, identifier: bytes, name: str = "") -> PlacementGroupInfo | None:
        """Return the state of a group by id, or by name if the id is empty."""
        if not identifier:
            identifier = self._names.get(name, b"")
        group = self.groups.get(identifier)
        return self._info(group) if group is not None else self._removed.get(identifier)

    def _info(self, group: PlacementGroup) -> PlacementGroupInfo:
        info = group.info()
        if info.state == "PENDING" and not self.feasible(group):
            info.state = "INFEASIBLE"
        return info

    def refusal(self, spec: LeaseSpec) -> tuple[str, str] | None:
        """Return (kind, reason) if the group that ``spec`` names can never serve it."""
        strategy = spec.strategy
        identifier = strategy.placement_group
        group = self.groups.get(identifier)
        if group is None:
            return "placement_group_removed", f"placement group {identifier.hex()} was removed"
        if strategy.bundle >= len(group.bundles):
            return "unschedulable", f"bundle {strategy.bundle} of a placement group of {len(group.bundles)} bundles"
        bundles = group.bundles if strategy.bundle < 0 else [group.bundles[strategy.bundle]]
        if not any(_bundle_pool(bundle).could_fit(spec.resources) for bundle in bundles):
            wanted = describe(spec.resources)
            return "unschedulable", f"{wanted} fits into no bundle of placement group {identifier.hex()}"
        return None

    def pools(self, strategy: Strategy) -> list[ResourcePool]:
        """Return the pools that leases with ``strategy`` may draw on; none while their group is pending."""
        if strategy.kind != "placement_group":
            return [self._node]
        pools = self.groups[strategy.placement_group].pools
        return pools if strategy.bundle < 0 else pools[strategy.bundle : strategy.bundle + 1]

    def feasible(self, group: PlacementGroup) -> bool:
        """Tell whether an empty node could hold the group."""
        if group.strategy == "STRICT_SPREAD" and len(group.bundles) > 1:
            return False
        trial = ResourcePool(self._node.total, self._node.gpu_total)
        return _carve(trial, group.bundles) is not None

    def place(self, group: PlacementGroup) -> bool:
        """Carve all bundles out of the node now, or none of them; return whether it worked."""
        allocations = _carve(self._node, group.bundles)
        if allocations is None:
            return False
        group.allocations = allocations
        group.pools = [
            ResourcePool(dict(allocation.amounts), allocation.gpus if _has_gpu(allocation) else {})
            for allocation in allocations
        ]
        return True

    def remove(self, identifier: bytes) -> PlacementGroup | None:
        """Give the bundles back to the node, forget the group and return it; None if there is none.

        Leases that draw on the group keep their share of its pools, which nobody else can see any more.
        """
        group = self.groups.pop(identifier, None)
        if group is None:
            return None
        if group.name:
            self._names.pop(group.name, None)
        info = group.info()
        info.state = "REMOVED"
        self._removed[identifier] = info
        if len(self._removed) > TOMBSTONES:
            del self._removed[next(iter(self._removed))]
        for allocation in group.allocations:
            self._node.release(allocation)
        group.allocations = []
        return group

    def infos(self) -> list[PlacementGroupInfo]:
        """Return the state of every group, removed ones last."""
        return [*map(self._info, self.groups.values()), *self._removed.values()]

    def validate(self) -> None:
        """Check every invariant; used by tests after each event.

        Raises:
            AssertionError: one is broken.
        """
        assert not self.groups.keys() & self._removed.keys()
        assert len(self._removed) <= TOMBSTONES
        assert self._names == {group.name: key for key, group in self.groups.items() if group.name}
        for identifier, group in self.groups.items():
            assert identifier == group.placement_group_id
            assert len(group.pools) == len(group.allocations) == (len(group.bundles) if group.pools else 0)
            for allocation, bundle in zip(group.allocations, group.bundles, strict=False):
                assert allocation.amounts == bundle.resources


def _bundle_pool(bundle: Bundle) -> ResourcePool:
    """Return an empty pool as the bundle would give, on GPUs with made-up ids."""
    amount = dict(bundle.resources).get(GPU, 0)
    devices = [min(RESOURCE_UNIT, amount - start) for start in range(0, amount, RESOURCE_UNIT)]
    return ResourcePool(dict(bundle.resources), dict(enumerate(devices)))


def _has_gpu(allocation: Allocation) -> bool:
    return any(name == GPU for name, _ in allocation.amounts)


def _carve(pool: ResourcePool, bundles: list[Bundle]) -> list[Allocation] | None:
    done: list[Allocation] = []
    for bundle in bundles:
        if not pool.fits(bundle.resources):
            for allocation in done:
                pool.release(allocation)
            return None
        done.append(pool.allocate(bundle.resources))
    return done
