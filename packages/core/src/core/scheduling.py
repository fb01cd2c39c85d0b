"""Scheduling strategies and label constraints as users write them, turned into the records of :mod:`core.specs`.

The strategy classes live in :mod:`core.util.scheduling_strategies`, above this module; here they are known by the
attributes they must have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from core.argument_checks import text, whole_number
from core.ids import NODE_ID_BYTES
from core.specs import RESOURCE_UNIT, Resources, Strategy


@runtime_checkable
class PlacementGroupStrategy(Protocol):
    """What ``PlacementGroupSchedulingStrategy`` has."""

    placement_group: Any
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None


@runtime_checkable
class NodeAffinityStrategy(Protocol):
    """What ``NodeAffinitySchedulingStrategy`` has."""

    node_id: str
    soft: bool


@runtime_checkable
class NodeLabelStrategy(Protocol):
    """What ``NodeLabelSchedulingStrategy`` has."""

    hard: Mapping[str, Any] | None
    soft: Mapping[str, Any] | None


class LabelConstraint(Struct, frozen=True):
    """A label that a node must have (or lack) to run a task."""

    key: str
    #: "in" or "not_in" (``values``), "exists" or "does_not_exist"
    operator: str
    values: tuple[str, ...] = ()

    def allows(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a node with ``labels`` satisfies the constraint."""
        if self.operator == "in":
            return labels.get(self.key) in self.values
        if self.operator == "not_in":
            return labels.get(self.key) not in self.values
        return (self.key in labels) == (self.operator == "exists")


def strategy_of(given: Any, resources: Resources = ()) -> Strategy:
    """Return the record for a user's ``scheduling_strategy``.

    Args:
        given: None, ``"DEFAULT"``, ``"SPREAD"`` or an object of one of the strategy classes.
        resources: what the task asks for; it must fit the bundle of a placement group.

    Raises:
        TypeError, ValueError: it is none of these, or it cannot be satisfied whatever happens.
    """
    if given is None or given == "DEFAULT":
        return Strategy()
    if given == "SPREAD":
        return Strategy(kind="spread")
    if isinstance(given, str):
        raise ValueError(f"unknown scheduling_strategy {given!r}; valid strings are 'DEFAULT' and 'SPREAD'")  # noqa: TRY004 - Ray's
    if isinstance(given, PlacementGroupStrategy):
        return _in_placement_group(
            given.placement_group,
            given.placement_group_bundle_index,
            given.placement_group_capture_child_tasks,
            resources,
        )
    if isinstance(given, NodeAffinityStrategy):
        return Strategy(kind="node", node_id=_node_id(given.node_id), soft=given.soft)
    if isinstance(given, NodeLabelStrategy):
        return Strategy()
    raise TypeError(
        "scheduling_strategy must be None, 'DEFAULT', 'SPREAD' or an object of core.util.scheduling_strategies, "
        f"got {type(given).__name__}"
    )


def labels_of_strategy(given: Any) -> tuple[LabelConstraint, ...]:
    """Return the hard label constraints of a ``NodeLabelSchedulingStrategy``; soft ones are only wishes."""
    if not isinstance(given, NodeLabelStrategy):
        return ()
    return tuple(_label_constraint(key, match) for key, match in (given.hard or {}).items())


def _label_constraint(key: str, match: Any) -> LabelConstraint:
    operators = {"In": "in", "NotIn": "not_in", "Exists": "exists", "DoesNotExist": "does_not_exist"}
    operator = operators.get(type(match).__name__)
    if operator is None:
        raise TypeError(f"label {key!r}: expected In, NotIn, Exists or DoesNotExist, got {type(match).__name__}")
    return LabelConstraint(key, operator, tuple(getattr(match, "values", ())))


_IN_LIST = re.compile(r"(!?)in\(([^()]*)\)")


def label_selector(given: Mapping[Any, Any] | None) -> tuple[LabelConstraint, ...]:
    """Return the constraints of a ``label_selector``: values ``"v"``, ``"!v"``, ``"in(a,b)"`` or ``"!in(a,b)"``.

    Raises:
        TypeError, ValueError: it is no dictionary of such strings.
    """
    constraints = []
    for key, value in (given or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"label_selector must map str to str, got {key!r}: {value!r}")
        text("label_selector: a key", key)
        text(f"label_selector[{key!r}]", value)
        listed = _IN_LIST.fullmatch(value)
        if listed:
            values = tuple(part.strip() for part in listed[2].split(","))
            negated = bool(listed[1])
        else:
            values, negated = (value.removeprefix("!"),), value.startswith("!")
        if not key or not all(values):
            raise ValueError(f"label_selector has an empty key or value: {key!r}: {value!r}")
        constraints.append(LabelConstraint(key, "not_in" if negated else "in", values))
    return tuple(constraints)


def _node_id(given: str) -> bytes:
    try:
        return bytes.fromhex(given)
    except (TypeError, ValueError):
        raise ValueError(
            f"node_id must be the {2 * NODE_ID_BYTES} hexadecimal digits of nodes()[i]['NodeID']"
        ) from None


def _in_placement_group(group: Any, bundle: int, capture: bool | None, resources: Resources) -> Strategy:
    if group is None:
        return Strategy()
    if not hasattr(group, "bundle_specs"):
        raise TypeError(f"placement_group must be a PlacementGroup or None, got {type(group).__name__}: {group!r}")
    bundles: Sequence[Mapping[str, float]] = group.bundle_specs
    bundle = whole_number("placement_group_bundle_index", bundle)
    if not -1 <= bundle < len(bundles):
        raise ValueError(f"placement_group_bundle_index is {bundle}; the group has {len(bundles)} bundles (or use -1)")
    candidates = bundles if bundle < 0 else [bundles[bundle]]
    if not any(_fits(resources, candidate) for candidate in candidates):
        asked = {name: amount / RESOURCE_UNIT for name, amount in resources}
        raise ValueError(f"{asked} does not fit any of the bundles {[dict(b) for b in candidates]} it may use")
    return Strategy(
        kind="placement_group", placement_group=_raw_id(group.id), bundle=bundle, capture_child_tasks=bool(capture)
    )


def _fits(resources: Resources, bundle: Mapping[str, float]) -> bool:
    return all(amount <= round(bundle.get(name, 0) * RESOURCE_UNIT) for name, amount in resources)


def _raw_id(identifier: Any) -> bytes:
    """Return an id's bytes, given as bytes, as hexadecimal text, or as an object with ``binary()``."""
    if isinstance(identifier, bytes):
        return identifier
    if isinstance(identifier, str):
        return bytes.fromhex(identifier)
    raw: bytes = identifier.binary()
    return raw
