"""Strategy classes: what they accept, and that options understand them."""

from __future__ import annotations

from typing import Any

import pytest

from core import scheduling
from core.specs import Strategy
from core.util.placement_group import PlacementGroup, PlacementGroupID
from core.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

GROUP = PlacementGroup(PlacementGroupID(bytes(18)), [{"CPU": 2.0}, {"GPU": 1.0}])


def test_a_placement_group_becomes_a_strategy() -> None:
    given = PlacementGroupSchedulingStrategy(GROUP, 1, True)
    assert scheduling.strategy_of(given) == Strategy(
        kind="placement_group", placement_group=bytes(18), bundle=1, capture_child_tasks=True
    )
    assert scheduling.strategy_of(PlacementGroupSchedulingStrategy(None)) == Strategy()
    with pytest.raises(ValueError, match="bundle"):
        scheduling.strategy_of(PlacementGroupSchedulingStrategy(GROUP, 2))


def test_node_affinity_becomes_a_strategy() -> None:
    given = NodeAffinitySchedulingStrategy("ab" * 28, soft=True)
    assert scheduling.strategy_of(given) == Strategy(kind="node", node_id=b"\xab" * 28, soft=True)


@pytest.mark.parametrize("node_id", ["", "xy", "ab", "ff" * 28, None])
def test_node_ids_are_checked(node_id: Any) -> None:
    with pytest.raises(ValueError, match="Invalid node_id"):
        NodeAffinitySchedulingStrategy(node_id, soft=False)


def test_contradictions_of_node_affinity_are_refused() -> None:
    with pytest.raises(ValueError, match="_spill_on_unavailable"):
        NodeAffinitySchedulingStrategy("ab" * 28, soft=False, _spill_on_unavailable=True)
    with pytest.raises(ValueError, match="_fail_on_unavailable"):
        NodeAffinitySchedulingStrategy("ab" * 28, soft=True, _fail_on_unavailable=True)


@pytest.mark.parametrize(
    ("match", "labels", "allowed"),
    [
        (In("us", "eu"), {"region": "eu"}, True),
        (In("us", "eu"), {"region": "asia"}, False),
        (In("us", "eu"), {}, False),
        (NotIn("us"), {"region": "us"}, False),
        (NotIn("us"), {}, True),
        (Exists(), {"region": "us"}, True),
        (Exists(), {}, False),
        (DoesNotExist(), {}, True),
        (DoesNotExist(), {"region": "us"}, False),
    ],
)
def test_label_matches(match: Any, labels: dict[str, str], allowed: bool) -> None:
    (constraint,) = scheduling.labels_of_strategy(NodeLabelSchedulingStrategy({"region": match}))
    assert constraint.allows(labels) is allowed


def test_label_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="cannot both be empty"):
        NodeLabelSchedulingStrategy({})
    with pytest.raises(ValueError, match="must be a map"):
        NodeLabelSchedulingStrategy(["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="map key"):
        NodeLabelSchedulingStrategy({1: Exists()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="map value"):
        NodeLabelSchedulingStrategy({"a": "b"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="at least one value"):
        In()
    with pytest.raises(ValueError, match="must be str"):
        NotIn("a", 1)  # type: ignore[arg-type]


def test_placement_group_ids() -> None:
    identifier = PlacementGroupID.from_hex("ab" * 18)
    assert (identifier.binary(), identifier.hex(), identifier.is_nil()) == (b"\xab" * 18, "ab" * 18, False)
    assert PlacementGroup.empty().is_empty
    assert PlacementGroup.empty().bundle_specs == []
    assert PlacementGroup(identifier) == PlacementGroup(PlacementGroupID(b"\xab" * 18))
    assert PlacementGroup(identifier) != GROUP
