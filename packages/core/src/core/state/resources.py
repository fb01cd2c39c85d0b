"""Resource pools: what a node or a placement-group bundle has, and what of it is taken.

Amounts are integers in units of 1/10,000 (:data:`core.specs.RESOURCE_UNIT`), so sums are exact. GPUs are also counted
one by one, since a fraction of a GPU must lie on a single device and a whole number on devices nobody else uses.

The invariant of a pool, for every resource: ``available + allocated - lent == total``. Only CPU is ever lent, by
workers that wait in ``get``; taking it back may push ``available`` below zero, and nothing that needs CPU is granted
until it is positive again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from core.specs import RESOURCE_UNIT, Resources

CPU = "CPU"
GPU = "GPU"


class Allocation(Struct, eq=False):
    """A share of one pool, held by a lease, an actor or a bundle."""

    pool: ResourcePool
    amounts: Resources
    #: GPU id -> units taken of it
    gpus: dict[int, int] = {}
    #: CPU units lent back to the pool while the holder waits
    lent: int = 0

    @property
    def cpu(self) -> int:
        """CPU units of the share."""
        return next((amount for name, amount in self.amounts if name == CPU), 0)


class ResourcePool:
    """Resources with exact accounting.

    Args:
        total: amounts in units.
        gpus: units of each GPU id; by default ``total["GPU"]`` whole devices numbered from 0.
    """

    def __init__(self, total: Mapping[str, int], gpus: Mapping[int, int] | None = None) -> None:
        #: never changes
        self.total: dict[str, int] = dict(total)
        #: what can be granted now; CPU may be negative
        self.available: dict[str, int] = dict(total)
        if gpus is None:
            gpus = dict.fromkeys(range(self.total.get(GPU, 0) // RESOURCE_UNIT), RESOURCE_UNIT)
        #: GPU id -> units of it in this pool
        self.gpu_total: dict[int, int] = dict(gpus)
        #: GPU id -> units of it that are free
        self.gpu_free: dict[int, int] = dict(gpus)

    def could_fit(self, resources: Resources) -> bool:
        """Tell whether an empty pool would satisfy ``resources``."""
        total = self.total
        return all(total.get(name, 0) >= amount for name, amount in resources) and (
            _choose_gpus(self.gpu_total, _gpu_amount(resources)) is not None
        )

    def fits(self, resources: Resources, reserved: Mapping[str, int] | None = None, *, by_device: bool = True) -> bool:
        """Tell whether ``resources`` can be allocated now, leaving ``reserved`` untouched.

        Args:
            resources: amounts.
            reserved: amounts.
            by_device: also look at the single GPUs; else only at their sum.
        """
        available = self.available
        for name, amount in resources:
            free = available.get(name, 0)
            if reserved is not None:
                free -= reserved.get(name, 0)
            if amount > 0 and free < amount:
                return False
        return not by_device or _choose_gpus(self.gpu_free, _gpu_amount(resources)) is not None

    def would_fit(self, resources: Resources, ending: Iterable[Allocation], *, by_device: bool = True) -> bool:
        """Tell whether ``resources`` could be allocated once those shares are given back; see :meth:`fits`."""
        available = dict(self.available)
        gpus = dict(self.gpu_free)
        for allocation in ending:
            if allocation.pool is not self:
                continue
            for name, amount in allocation.amounts:
                if amount:
                    available[name] += amount - (allocation.lent if name == CPU else 0)
            for index, units in allocation.gpus.items():
                gpus[index] += units
        return all(available.get(name, 0) >= amount for name, amount in resources if amount) and (
            not by_device or _choose_gpus(gpus, _gpu_amount(resources)) is not None
        )

    def allocate(self, resources: Resources) -> Allocation:
        """Take ``resources`` out of the pool.

        Raises:
            ValueError: they do not fit; ask :meth:`fits` first.
        """
        gpus = _choose_gpus(self.gpu_free, _gpu_amount(resources))
        if gpus is None or not self.fits(resources):
            raise ValueError(f"{resources} does not fit into {self.available}")
        for name, amount in resources:
            if amount:
                self.available[name] -= amount
        for index, units in gpus.items():
            self.gpu_free[index] -= units
        return Allocation(self, resources, gpus)

    def release(self, allocation: Allocation) -> None:
        """Give a share back, except for what of it is lent already."""
        for name, amount in allocation.amounts:
            if amount:
                self.available[name] += amount
        if allocation.lent:
            self.available[CPU] -= allocation.lent
            allocation.lent = 0
        for index, units in allocation.gpus.items():
            self.gpu_free[index] += units

    def lend_cpu(self, allocation: Allocation) -> None:
        """Make the CPU share of ``allocation`` available to others. Idempotent."""
        missing = allocation.cpu - allocation.lent
        if missing:
            self.available[CPU] += missing
            allocation.lent += missing

    def take_cpu_back(self, allocation: Allocation) -> None:
        """Undo :meth:`lend_cpu` at once, below zero if need be. Idempotent."""
        if allocation.lent:
            self.available[CPU] -= allocation.lent
            allocation.lent = 0


def _gpu_amount(resources: Resources) -> int:
    for name, amount in resources:
        if name == GPU:
            return amount
    return 0


def _choose_gpus(free: Mapping[int, int], amount: int) -> dict[int, int] | None:
    """Choose devices for ``amount`` units: one device for a fraction (best fit), untouched ones for whole numbers."""
    if amount <= 0:
        return {}
    if amount < RESOURCE_UNIT:
        fitting = [(units, index) for index, units in free.items() if units >= amount]
        return {min(fitting)[1]: amount} if fitting else None
    count = -(-amount // RESOURCE_UNIT)
    whole = [index for index, units in free.items() if units >= RESOURCE_UNIT][:count]
    return dict.fromkeys(whole, RESOURCE_UNIT) if len(whole) == count else None


def add(amounts: Iterable[Resources]) -> Resources:
    """Return the sum of several amounts, sorted by name."""
    total: dict[str, int] = {}
    for resources in amounts:
        for name, amount in resources:
            total[name] = total.get(name, 0) + amount
    return tuple(sorted(total.items()))


def sound(resources: Resources) -> bool:
    """Tell whether amounts make sense: each resource once, and none negative."""
    return len({name for name, _ in resources}) == len(resources) and all(amount >= 0 for _, amount in resources)


def covers(larger: Resources, smaller: Resources) -> bool:
    """Tell whether whoever gets ``larger`` has ``smaller``."""
    amounts = dict(larger)
    return all(amount <= amounts.get(name, 0) for name, amount in smaller)


def natural(amounts: Mapping[str, int] | Resources) -> dict[str, float]:
    """Return amounts in natural units (1 CPU, 1 byte of memory), as people read them."""
    pairs = amounts.items() if isinstance(amounts, Mapping) else amounts
    return {name: amount / RESOURCE_UNIT for name, amount in pairs}


def describe(amounts: Mapping[str, int] | Resources) -> str:
    """Return amounts for a message: ``{CPU: 2, GPU: 0.5}``."""
    return "{" + ", ".join(f"{name}: {amount:g}" for name, amount in natural(amounts).items()) + "}"
