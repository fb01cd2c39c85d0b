"""Where a trial's process goes: a placement group per slot, whose CPUs its nested tasks may use.

The process itself takes no CPU of its group, only the GPUs and custom resources of the first bundle: what a trial
submits runs in the group (it *captures* its child tasks), so a trial that waits for its own tasks lends them its CPU,
and a sweep that fills the machine cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from core.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from core.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from tune.trial import ResourceRequest

#: Resources are counted in this many parts of one unit, as core does.
_UNIT = 10_000
#: Trials at once, at most, of those that need nothing: each is a process.
NEEDLESS_LIMIT = 64


class Shape(msgspec.Struct, frozen=True):
    """A resource request in a form to compare and look up by."""

    bundles: tuple[tuple[tuple[str, float], ...], ...]
    strategy: str

    @staticmethod
    def of(bundles: Iterable[Mapping[str, float]], strategy: str) -> Shape:
        """Return the shape of bundles, without those that hold nothing (but for the first)."""
        rows = [tuple(sorted((name, amount) for name, amount in bundle.items() if amount)) for bundle in bundles]
        return Shape((*rows[:1], *(row for row in rows[1:] if row)), strategy)

    @property
    def total(self) -> dict[str, float]:
        """The sum over all bundles."""
        return ResourceRequest(tuple(dict(bundle) for bundle in self.bundles)).total


class Place:
    """Reserved resources for one process after another."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._group: PlacementGroup | None = None
        bundles = [dict(bundle) for bundle in shape.bundles if bundle]
        if bundles:
            self._group = placement_group(bundles, strategy=shape.strategy)

    def options(self) -> dict[str, Any]:
        """Return the options of an actor here."""
        own = dict(self.shape.bundles[0])
        own.pop("CPU", None)
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": own.pop("GPU", 0), "memory": own.pop("memory", None)}
        options["resources"] = own
        if self._group is not None:
            index = 0 if self.shape.bundles[0] else -1
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._group, index, True)
        return options

    def give_back(self) -> None:
        """Free the resources, and end what runs on them."""
        group, self._group = self._group, None
        if group is not None:
            remove_placement_group(group)


def fits(needed: Mapping[str, float], held: Mapping[str, float], total: Mapping[str, float]) -> bool:
    """Tell whether `needed` fits into `total` beside what is `held`."""
    return all(
        _units(amount) + _units(held.get(name, 0.0)) <= _units(total.get(name, 0.0)) for name, amount in needed.items()
    )


def capacity(request: ResourceRequest, nodes: list[dict[str, float]]) -> int:
    """Return how many such requests fit on empty nodes at once."""
    shape = Shape.of(request.bundles, request.strategy)
    bundles = [dict(bundle) for bundle in shape.bundles if bundle]
    if not bundles:
        return NEEDLESS_LIMIT
    if shape.strategy == "STRICT_SPREAD" and len(bundles) > len(nodes):
        return 0
    if not all(any(_times(bundle, node) for node in nodes) for bundle in bundles):
        return 0
    if len(bundles) == 1 or shape.strategy == "STRICT_PACK":
        return sum(_times(shape.total, node) for node in nodes)
    whole: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            whole[name] = whole.get(name, 0.0) + amount
    return _times(shape.total, whole)


def _times(needed: Mapping[str, float], available: Mapping[str, float]) -> int:
    return min(_units(available.get(name, 0.0)) // _units(amount) for name, amount in needed.items())


def _units(amount: float) -> int:
    return max(1, round(amount * _UNIT)) if amount > 0 else 0
