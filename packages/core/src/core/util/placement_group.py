"""Groups of resources that are reserved together or not at all (``ray.util.placement_group``).

A group is a list of *bundles*, each a dictionary of resources that one node must hold. Tasks and actors run in a
bundle by way of ``PlacementGroupSchedulingStrategy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import core
from core import current
from core.argument_checks import text
from core.descriptors import PlacementGroupState
from core.exceptions import RayError
from core.ids import PLACEMENT_GROUP_ID_BYTES
from core.option_checks import MAX_AMOUNT
from core.refs import ObjectRef
from core.specs import SCHEDULING_STATES

VALID_PLACEMENT_GROUP_STRATEGIES = frozenset({"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"})

_NIL = b"\xff" * PLACEMENT_GROUP_ID_BYTES


@dataclass(frozen=True)
class PlacementGroupID:
    """The id of a placement group."""

    #: the id, 18 bytes
    raw: bytes

    @classmethod
    def from_hex(cls, text: str) -> PlacementGroupID:
        """Return the id written as 36 hexadecimal digits."""
        return cls(bytes.fromhex(text))

    @classmethod
    def nil(cls) -> PlacementGroupID:
        """Return the id of no group."""
        return cls(_NIL)

    def binary(self) -> bytes:
        """Return the id as 18 bytes."""
        return self.raw

    def hex(self) -> str:
        """Return the id as 36 hexadecimal digits."""
        return self.raw.hex()

    def is_nil(self) -> bool:
        """Tell whether this is the id of no group."""
        return self.raw == _NIL

    def __repr__(self) -> str:
        return f"PlacementGroupID({self.hex()})"


class PlacementGroup:
    """A handle to a placement group. Picklable; equal handles mean the same group."""

    def __init__(
        self,
        id: PlacementGroupID,  # noqa: A002 - Ray's name
        bundle_cache: list[dict[str, float]] | None = None,
        _ready: ObjectRef[Any] | None = None,
    ) -> None:
        self.id = id
        self.bundle_cache = bundle_cache
        self._ready = _ready

    @staticmethod
    def empty() -> PlacementGroup:
        """Return the handle that means no group."""
        return PlacementGroup(PlacementGroupID.nil())

    @property
    def is_empty(self) -> bool:
        """Whether this handle means no group."""
        return self.id.is_nil()

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        if self.is_empty:
            return []
        if self.bundle_cache is None:
            self.bundle_cache = self._state("PlacementGroup.bundle_specs").bundles
        return self.bundle_cache

    @property
    def bundle_count(self) -> int:
        """The number of bundles."""
        return len(self.bundle_specs)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a reference that becomes available, with the group as its value, once all bundles are reserved."""
        reserved = None if self.is_empty else self._reserved()
        handle = PlacementGroup(self.id, self.bundle_cache)
        if reserved is None:
            stored: ObjectRef[PlacementGroup] = core.put(handle)
            return stored
        ref: ObjectRef[PlacementGroup] = core.remote(num_cpus=0)(_first).remote(handle, reserved)
        return ref

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until all bundles are reserved.

        Args:
            timeout_seconds: how long to wait at most.

        Returns:
            Whether they are; False also if the group was removed meanwhile.
        """
        reserved = None if self.is_empty else self._reserved()
        if reserved is None:
            return True
        ready, _ = core.wait([reserved], timeout=timeout_seconds)
        if not ready:
            return False
        try:
            core.get(reserved)
        except RayError:
            return False
        return True

    def _reserved(self) -> ObjectRef[Any] | None:
        """Return the engine's own reference for readiness, None if nothing is left to wait for."""
        if self._ready is None:
            state = self._state("PlacementGroup.ready()")
            if state.state == "CREATED":
                return None
            self._ready = state.ready
        return self._ready

    def _state(self, what: str) -> PlacementGroupState:
        state = current.running(what).get_placement_group(self.id.binary(), "")
        if state is None:
            raise ValueError(f"{what}: there is no placement group {self.id.hex()} in this session")
        return state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


def _first(handle: PlacementGroup, _reserved: Any) -> PlacementGroup:
    """Return the first of two arguments: a task of it is done when the second is."""
    return handle


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: dict[str, str] | None = None,
) -> PlacementGroup:
    """Reserve bundles of resources; return at once, before they are reserved (see ``ready`` and ``wait``).

    Args:
        bundles: resources of each bundle, for example ``[{"CPU": 2}, {"GPU": 1}]``; ``memory`` is in bytes.
        strategy: ``"PACK"`` (few nodes; the default), ``"SPREAD"`` (many nodes), ``"STRICT_PACK"`` (one node) or
            ``"STRICT_SPREAD"`` (a node of its own for each bundle).
        name: for ``get_placement_group``; unique in the session.
        lifetime: ``"detached"`` keeps the group when its creator is gone.
        _soft_target_node_id: accepted for ``STRICT_PACK``; without effect on one node.
        bundle_label_selector: not supported yet.
        topology_strategy: not supported yet.

    Raises:
        ValueError: an argument is none of what is described here.
        NotImplementedError: one that is not supported yet is given.
    """
    _check_bundles(bundles)
    strategy = "PACK" if strategy is None else strategy
    if strategy not in VALID_PLACEMENT_GROUP_STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. "
            f"Supported strategies are: {sorted(VALID_PLACEMENT_GROUP_STRATEGIES)}."
        )
    if lifetime not in (None, "detached"):
        raise ValueError(f"Placement group `lifetime` argument must be either `None` or 'detached'. Got {lifetime}.")
    if _soft_target_node_id and strategy != "STRICT_PACK":
        raise ValueError(f"_soft_target_node_id currently only works with STRICT_PACK but got {strategy}")
    for option, value in (("bundle_label_selector", bundle_label_selector), ("topology_strategy", topology_strategy)):
        if value:
            raise NotImplementedError(f"placement_group does not support {option} yet")
    text("the name of a placement group", name)
    state = current.require().create_placement_group(
        [dict(bundle) for bundle in bundles], strategy, name, lifetime == "detached"
    )
    return _handle(state)


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give the resources back; end the actors and tasks that run in the group. Can be called twice."""
    _check_group("remove_placement_group()", placement_group)
    current.running("remove_placement_group()").remove_placement_group(placement_group.id.binary())


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the group with this name.

    Raises:
        ValueError: the name is empty, or no group has it.
    """
    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    text("the name of a placement group", placement_group_name)
    state = current.require().get_placement_group(b"", placement_group_name)
    if state is None or state.state == "REMOVED":
        raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")
    return _handle(state)


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Return the state of one group, or of all by id.

    Each is a dictionary with ``placement_group_id``, ``name``, ``bundles`` (by index), ``strategy``, ``state``
    (``"PENDING"``, ``"CREATED"`` or ``"REMOVED"``) and ``stats``, whose ``scheduling_state`` tells a group that waits
    for others (``"NO_RESOURCES"``) from one that no node can hold (``"INFEASIBLE"``); empty for an unknown group.
    """
    engine = current.require()
    if placement_group is not None:
        _check_group("placement_group_table()", placement_group)
        state = engine.get_placement_group(placement_group.id.binary(), "")
        return {} if state is None else _row(state)
    identifiers = (_raw(row["placement_group_id"]) for row in engine.query("placement_groups"))
    states = (engine.get_placement_group(identifier, "") for identifier in identifiers)
    return {state.placement_group_id.hex(): _row(state) for state in states if state is not None}


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group that the calling task or actor runs in, None if it runs in none (as a driver does)."""
    identifier = current.require().facts().placement_group_id
    return None if identifier is None else PlacementGroup(PlacementGroupID.from_hex(identifier))


def _handle(state: PlacementGroupState) -> PlacementGroup:
    return PlacementGroup(PlacementGroupID(state.placement_group_id), state.bundles, state.ready)


def _row(state: PlacementGroupState) -> dict[str, Any]:
    return {
        "placement_group_id": state.placement_group_id.hex(),
        "name": state.name,
        "bundles": dict(enumerate(state.bundles)),
        "strategy": state.strategy,
        "state": "PENDING" if state.state == "INFEASIBLE" else state.state,
        "stats": {"scheduling_state": SCHEDULING_STATES[state.state]},
    }


def _raw(identifier: bytes | str) -> bytes:
    return bytes.fromhex(identifier) if isinstance(identifier, str) else identifier


def _check_group(what: str, given: Any) -> None:
    if not isinstance(given, PlacementGroup):
        raise TypeError(f"{what} takes a PlacementGroup, got {type(given).__name__}: {given!r}")


def _check_bundles(bundles: Any) -> None:
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")  # noqa: TRY004 - Ray's
    if not bundles:
        raise ValueError(
            "Bundles must be a non-empty list of resource dictionaries. "
            'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`. Got empty list instead.'
        )
    for bundle in bundles:
        _check_bundle(bundle)


def _check_bundle(bundle: Any) -> None:
    if not isinstance(bundle, dict):
        raise ValueError(f"A bundle must be a dictionary of resources like {{'CPU': 1.0}}, got {bundle!r}")  # noqa: TRY004
    for resource, amount in bundle.items():
        if not isinstance(resource, str) or isinstance(amount, bool) or not isinstance(amount, int | float):
            raise ValueError(  # noqa: TRY004 - Ray's
                f"A bundle maps resource names to numbers, got {resource!r}: {amount!r} in {bundle!r}"
            )
        if not 0 <= amount < float("inf"):
            raise ValueError(f"A bundle cannot hold {amount} of {resource!r}: {bundle!r}")
        if amount > MAX_AMOUNT:
            raise ValueError(f"A bundle cannot hold more than {MAX_AMOUNT:,} of {resource!r}: {bundle!r}")
        text("the name of a resource", resource)
    if not any(bundle.values()):
        raise ValueError(f"Bundles cannot be an empty dictionary or resources with only 0 values. Bundle: {bundle!r}")
