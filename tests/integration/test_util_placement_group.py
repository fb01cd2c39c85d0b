"""Placement groups and scheduling strategies on one machine."""

from __future__ import annotations

from typing import Any

import pytest

import core
from core.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from core.util.scheduling_strategies import (
    Exists,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from tests.conformance.rendezvous import wait_until

pytestmark = pytest.mark.usefixtures("session")


@core.remote
def current_group() -> Any:
    return get_current_placement_group()


@core.remote
def node_id() -> str:
    return core.get_runtime_context().get_node_id()


@core.remote
def count_bundles(group: Any) -> int:
    return group.bundle_count


@core.remote(num_cpus=1)
class Holder:
    def group(self) -> Any:
        return get_current_placement_group()


def test_a_group_is_reserved_used_and_given_back() -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="PACK", name="pair")
    assert core.get(group.ready()) == group
    assert group.wait(timeout_seconds=30)
    assert group.bundle_specs == [{"CPU": 1}, {"CPU": 1}]
    assert group.bundle_count == 2
    assert len(group.id.hex()) == 36
    assert not group.is_empty
    wait_until(lambda: core.available_resources().get("CPU", 0) == 0)
    strategy = PlacementGroupSchedulingStrategy(group)
    assert core.get(current_group.options(scheduling_strategy=strategy).remote()) == group
    first = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    assert core.get(current_group.options(scheduling_strategy=first).remote()) == group
    remove_placement_group(group)
    wait_until(lambda: core.available_resources().get("CPU", 0) == 2)
    remove_placement_group(group)


def test_actors_run_in_a_group_and_a_driver_in_none() -> None:
    group = placement_group([{"CPU": 1}])
    actor = Holder.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()
    assert core.get(actor.group.remote()) == group
    assert get_current_placement_group() is None
    assert core.get(current_group.remote()) is None


def test_a_group_that_does_not_fit_is_not_ready() -> None:
    group = placement_group([{"CPU": 64}])
    assert not group.wait(timeout_seconds=0.1)
    ready, waiting = core.wait([group.ready()], timeout=0)
    assert (len(ready), len(waiting)) == (0, 1)
    remove_placement_group(group)


def test_groups_can_be_found_by_name_and_listed() -> None:
    group = placement_group([{"CPU": 1}], name="by name")
    assert group.wait()
    found = get_placement_group("by name")
    assert found == group
    assert hash(found) == hash(group)
    assert found.wait()
    assert core.get(found.ready()) == group
    row = placement_group_table(group)
    assert (row["name"], row["strategy"], row["state"]) == ("by name", "PACK", "CREATED")
    assert row["bundles"] == {0: {"CPU": 1.0}}
    assert placement_group_table()[group.id.hex()]["name"] == "by name"
    with pytest.raises(ValueError, match="no such name"):
        get_placement_group("no such name")
    with pytest.raises(ValueError, match="non-empty"):
        get_placement_group("")


def test_handles_can_be_passed() -> None:
    group = placement_group([{"CPU": 1}])
    assert core.get(count_bundles.remote(group)) == 1


def test_requests_that_can_never_fit_are_refused_at_the_call() -> None:
    group = placement_group([{"CPU": 1}])
    too_far = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=1)
    with pytest.raises(ValueError, match="bundle"):
        current_group.options(scheduling_strategy=too_far).remote()
    with pytest.raises(ValueError, match="fit"):
        current_group.options(num_cpus=2, scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bundles": []}, "non-empty"),
        ({"bundles": {"CPU": 1}}, "must be a list"),
        ({"bundles": [{}]}, "empty dictionary"),
        ({"bundles": [{"CPU": 0}]}, "only 0 values"),
        ({"bundles": [{"CPU": -1}]}, "cannot hold"),
        ({"bundles": [{"CPU": float("nan")}]}, "cannot hold"),
        ({"bundles": [{"CPU": "1"}]}, "numbers"),
        ({"bundles": [{1: 1}]}, "resource names"),
        ({"bundles": [1]}, "dictionary"),
        ({"bundles": [{"CPU": 1}], "strategy": "LOOSE"}, "Invalid placement group strategy"),
        ({"bundles": [{"CPU": 1}], "lifetime": "short"}, "lifetime"),
        ({"bundles": [{"CPU": 1}], "_soft_target_node_id": "00", "strategy": "PACK"}, "STRICT_PACK"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        placement_group(**arguments)


def test_node_affinity() -> None:
    here = core.get(node_id.remote())
    strategy = NodeAffinitySchedulingStrategy(here, soft=False)
    assert core.get(node_id.options(scheduling_strategy=strategy).remote()) == here
    elsewhere = NodeAffinitySchedulingStrategy("ab" * 28, soft=True)
    assert core.get(node_id.options(scheduling_strategy=elsewhere).remote()) == here
    with pytest.raises(core.exceptions.TaskUnschedulableError):
        core.get(node_id.options(scheduling_strategy=NodeAffinitySchedulingStrategy("ab" * 28, soft=False)).remote())


def test_soft_label_wishes_never_keep_a_task_from_running() -> None:
    strategy = NodeLabelSchedulingStrategy({}, soft={"gpu_type": Exists()})
    assert core.get(node_id.options(scheduling_strategy=strategy).remote())
