"""Placement groups and resource accounts of the inline engine: everything is counted, nothing waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from core import ids
from core.descriptors import PlacementGroupState
from core.engine.inline.objects import ObjectTable
from core.specs import RESOURCE_UNIT, Resources


class Accounts:
    """Amounts of resources: what the node has, what is in use. In units of 1/10,000."""

    def __init__(self, total: dict[str, float]) -> None:
        self._total = {name: round(amount * RESOURCE_UNIT) for name, amount in total.items()}
        self._used: dict[str, int] = dict.fromkeys(self._total, 0)

    def total(self) -> dict[str, float]:
        """Return all amounts, natural units."""
        return {name: amount / RESOURCE_UNIT for name, amount in self._total.items()}

    def available(self) -> dict[str, float]:
        """Return what is not in use, natural units, without what is used up."""
        left = {name: amount - self._used[name] for name, amount in self._total.items()}
        return {name: amount / RESOURCE_UNIT for name, amount in left.items() if amount > 0}

    def fits(self, resources: Iterable[tuple[str, int]], *, ever: bool = False) -> bool:
        """Tell whether the amounts are there now, or (``ever``) on an idle node."""
        return all(
            amount <= self._total.get(name, 0) - (0 if ever else self._used.get(name, 0)) for name, amount in resources
        )

    def take(self, resources: Resources) -> None:
        """Count resources as used. More than there are is possible: nothing waits here."""
        for name, amount in resources:
            self._used[name] = self._used.get(name, 0) + amount

    def give_back(self, resources: Resources) -> None:
        """Count resources as free again."""
        for name, amount in resources:
            self._used[name] -= amount


class _Group(Struct):
    identifier: bytes
    name: str
    strategy: str
    bundles: list[dict[str, float]]
    resources: Resources
    state: str
    #: id of an object that is there when the group is reserved, and a reference that keeps it
    ready: Any


class PlacementGroups:
    """The placement groups of a session."""

    def __init__(self, objects: ObjectTable, accounts: Accounts) -> None:
        self._objects = objects
        self._accounts = accounts
        self._groups: dict[bytes, _Group] = {}

    def create(self, bundles: list[dict[str, float]], strategy: str, name: str, ready_id: bytes) -> PlacementGroupState:
        """Register a group and reserve its bundles if they are free.

        Raises:
            ValueError: the name is taken.
        """
        if name and self.find(b"", name) is not None:
            raise ValueError(f"there is a placement group named {name!r} already")
        totals: dict[str, int] = {}
        for bundle in bundles:
            for resource, amount in bundle.items():
                totals[resource] = totals.get(resource, 0) + round(amount * RESOURCE_UNIT)
        resources = tuple(sorted(totals.items()))
        # One node cannot spread strictly, and has never more than it has.
        possible = self._accounts.fits(resources, ever=True) and not (strategy == "STRICT_SPREAD" and len(bundles) > 1)
        group = _Group(
            ids.new_placement_group_id(),
            name,
            strategy,
            bundles,
            resources,
            "PENDING" if possible else "INFEASIBLE",
            self._objects.create(ready_id),
        )
        self._groups[group.identifier] = group
        self._reserve_pending()
        return self._state(group)

    def remove(self, identifier: bytes) -> None:
        """Give a group's resources back; does nothing if it is removed already."""
        group = self._groups.get(identifier)
        if group is None or group.state == "REMOVED":
            return
        if group.state == "CREATED":
            self._accounts.give_back(group.resources)
        group.state = "REMOVED"
        self._reserve_pending()

    def find(self, identifier: bytes, name: str) -> PlacementGroupState | None:
        """Return a group by id or, if that is empty, by name."""
        if identifier:
            group = self._groups.get(identifier)
            return None if group is None else self._state(group)
        alive = [group for group in self._groups.values() if group.state != "REMOVED"]
        return next((self._state(group) for group in alive if group.name == name), None)

    def identifiers(self) -> list[bytes]:
        """Return the ids of all groups."""
        return list(self._groups)

    def removed(self, identifier: bytes) -> bool:
        """Tell whether a group is gone."""
        group = self._groups.get(identifier)
        return group is None or group.state == "REMOVED"

    def _reserve_pending(self) -> None:
        for group in self._groups.values():
            if group.state == "PENDING" and self._accounts.fits(group.resources):
                self._accounts.take(group.resources)
                group.state = "CREATED"
                self._objects.settle(group.ready.id, self._objects.serialize(True))

    def _state(self, group: _Group) -> PlacementGroupState:
        return PlacementGroupState(
            group.identifier, group.name, group.strategy, group.bundles, group.state, group.ready
        )
