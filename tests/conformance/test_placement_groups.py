"""Placement groups on one node: reserving, using, removing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray, submodule

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions
groups = submodule("util.placement_group")
In = submodule("util.scheduling_strategies").PlacementGroupSchedulingStrategy
SOON = 45
RESERVES = "inline reserves nothing"


@ray.remote
def group_id() -> str | None:
    return ray.get_runtime_context().get_placement_group_id()


@ray.remote
def wait_for(gate: Gate, tally: Tally) -> str:
    tally.add("running")
    gate.wait()
    return "done"


@ray.remote
class Actor:
    def group_id(self) -> str | None:
        return ray.get_runtime_context().get_placement_group_id()


@pytest.fixture
def make_group(session: None) -> Any:
    """A function that makes placement groups, which are removed after the test."""
    made: list[Any] = []

    def make(bundles: list[dict[str, float]], **options: Any) -> Any:
        group = groups.placement_group(bundles, **options)
        made.append(group)
        return group

    yield make
    for group in made:
        groups.remove_placement_group(group)


@pytest.fixture
def group(make_group: Any) -> Any:
    """A ready placement group of two bundles of one CPU."""
    group = make_group([{"CPU": 1}, {"CPU": 1}])
    assert group.wait(SOON)
    return group


def test_ready_is_a_reference_that_resolves(make_group: Any) -> None:
    group = make_group([{"CPU": 1}])
    ray.get(group.ready(), timeout=SOON)


def test_wait_tells_whether_it_is_ready(make_group: Any) -> None:
    assert make_group([{"CPU": 1}]).wait(timeout_seconds=SOON) is True


def test_a_group_knows_its_bundles(group: Any) -> None:
    assert group.bundle_specs == [{"CPU": 1}, {"CPU": 1}]
    assert group.bundle_count == 2
    assert group.id.hex()


@pytest.mark.needs_processes(RESERVES)
def test_a_group_takes_its_resources_from_the_session(group: Any) -> None:
    wait_until(lambda: ray.available_resources().get("CPU", 0.0) == 2.0)


@pytest.mark.needs_processes(RESERVES)
def test_removal_gives_the_resources_back(make_group: Any) -> None:
    group = make_group([{"CPU": 4}])
    assert group.wait(SOON)
    wait_until(lambda: ray.available_resources().get("CPU", 0.0) == 0.0)
    groups.remove_placement_group(group)
    wait_until(lambda: ray.available_resources().get("CPU", 0.0) == 4.0)


def test_removing_twice_is_harmless(make_group: Any) -> None:
    group = make_group([{"CPU": 1}])
    assert group.wait(SOON)
    groups.remove_placement_group(group)
    groups.remove_placement_group(group)


@pytest.mark.needs_processes(RESERVES)
def test_a_group_that_does_not_fit_waits(make_group: Any) -> None:
    large = make_group([{"CPU": 3}])
    assert large.wait(SOON)
    second = make_group([{"CPU": 3}])
    assert second.wait(timeout_seconds=0.3) is False
    groups.remove_placement_group(large)
    assert second.wait(SOON) is True


@pytest.mark.parametrize("index", [-1, 0, 1])
def test_a_task_runs_in_a_group(group: Any, index: int) -> None:
    strategy = In(group, placement_group_bundle_index=index)
    assert ray.get(group_id.options(scheduling_strategy=strategy).remote(), timeout=SOON) == group.id.hex()


def test_an_actor_runs_in_a_group(group: Any) -> None:
    actor = Actor.options(num_cpus=1, scheduling_strategy=In(group)).remote()
    assert ray.get(actor.group_id.remote(), timeout=SOON) == group.id.hex()
    ray.kill(actor)


@pytest.mark.needs_processes("tasks must hold bundles")
def test_a_group_runs_no_more_than_it_reserved(group: Any, gate: Gate, tally: Tally) -> None:
    refs = [wait_for.options(scheduling_strategy=In(group)).remote(gate, tally) for _ in range(4)]
    wait_until(lambda: tally.count() == 2)
    assert ray.wait(refs, timeout=0.3)[0] == []
    assert tally.count() == 2
    gate.open()
    assert ray.get(refs) == ["done"] * 4


@pytest.mark.needs_processes("tasks must hold bundles")
def test_a_bundle_runs_no_more_than_it_reserved(group: Any, gate: Gate, tally: Tally) -> None:
    strategy = In(group, placement_group_bundle_index=1)
    refs = [wait_for.options(scheduling_strategy=strategy).remote(gate, tally) for _ in range(2)]
    wait_until(lambda: tally.count() == 1)
    assert ray.wait(refs, timeout=0.3)[0] == []
    other = In(group, placement_group_bundle_index=0)
    assert ray.get(group_id.options(scheduling_strategy=other).remote(), timeout=SOON)
    gate.open()
    ray.get(refs)


@pytest.mark.parametrize("index", [2, -2])
def test_a_bundle_that_does_not_exist_is_refused(group: Any, index: int) -> None:
    strategy = In(group, placement_group_bundle_index=index)
    with pytest.raises(ValueError):
        group_id.options(scheduling_strategy=strategy).remote()


def test_a_request_larger_than_every_bundle_is_refused(group: Any) -> None:
    with pytest.raises(ValueError):
        group_id.options(num_cpus=2, scheduling_strategy=In(group)).remote()


def test_a_resource_that_no_bundle_has_is_refused(group: Any) -> None:
    with pytest.raises(ValueError):
        group_id.options(resources={"slot": 1}, scheduling_strategy=In(group)).remote()


def test_children_leave_the_group_by_default(group: Any) -> None:
    @ray.remote
    def parent() -> tuple[Any, Any]:
        return ray.get_runtime_context().get_placement_group_id(), ray.get(group_id.remote())

    mine, child = ray.get(parent.options(scheduling_strategy=In(group)).remote(), timeout=SOON)
    assert mine == group.id.hex()
    assert child is None


def test_children_can_be_captured(group: Any) -> None:
    @ray.remote
    def parent() -> Any:
        return ray.get(group_id.remote())

    strategy = In(group, placement_group_capture_child_tasks=True)
    assert ray.get(parent.options(scheduling_strategy=strategy).remote(), timeout=SOON) == group.id.hex()


def test_the_current_group_is_known_inside(group: Any) -> None:
    @ray.remote
    def current() -> Any:
        inside = groups.get_current_placement_group()
        return None if inside is None else inside.id.hex()

    assert ray.get(current.options(scheduling_strategy=In(group)).remote(), timeout=SOON) == group.id.hex()
    assert ray.get(current.remote()) is None
    assert groups.get_current_placement_group() is None


def test_a_group_can_be_passed_to_a_task(group: Any) -> None:
    @ray.remote(num_cpus=0)
    def use(group: Any) -> Any:
        return ray.get(group_id.options(scheduling_strategy=In(group)).remote())

    assert ray.get(use.remote(group), timeout=SOON) == group.id.hex()


def test_a_group_is_found_by_its_name(make_group: Any) -> None:
    group = make_group([{"CPU": 1}], name="found by name")
    assert group.wait(SOON)
    assert groups.get_placement_group("found by name").id == group.id


@pytest.mark.parametrize("name", ["nobody", ""])
def test_an_unknown_group_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError):
        groups.get_placement_group(name)


def test_the_table_tells_a_group_that_waits_from_one_that_never_fits() -> None:
    held = groups.placement_group([{"CPU": 3}])
    assert held.wait(30)
    waiting, impossible = groups.placement_group([{"CPU": 2}]), groups.placement_group([{"CPU": 1000}])

    def scheduling(group: Any) -> tuple[str, str]:
        row = groups.placement_group_table(group)
        return row["state"], row["stats"]["scheduling_state"]

    wait_until(lambda: scheduling(waiting) == ("PENDING", "NO_RESOURCES"))
    wait_until(lambda: scheduling(impossible) == ("PENDING", "INFEASIBLE"))
    for group in (held, waiting, impossible):
        groups.remove_placement_group(group)


def test_the_table_tells_the_state(group: Any) -> None:
    assert groups.placement_group_table(group)["state"] == "CREATED"
    assert groups.placement_group_table(group)["strategy"] == "PACK"
    groups.remove_placement_group(group)
    wait_until(lambda: groups.placement_group_table(group)["state"] == "REMOVED")


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK"])
def test_strategies_that_one_node_can_serve(make_group: Any, strategy: str) -> None:
    assert make_group([{"CPU": 1}, {"CPU": 1}], strategy=strategy).wait(SOON)


@pytest.mark.needs_processes(RESERVES)
def test_strict_spread_needs_more_nodes_than_one(make_group: Any) -> None:
    assert not make_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD").wait(timeout_seconds=0.5)


@pytest.mark.parametrize(
    ("bundles", "options"),
    [
        ([], {}),
        ([{}], {}),
        ([{"CPU": 0}], {}),
        pytest.param(
            [{"CPU": -1}],
            {},
            marks=pytest.mark.better_than_ray("a placement group with a negative amount is refused"),
        ),
        ([{"CPU": 1}], {"strategy": "NONSENSE"}),
        ([{"CPU": 1}], {"lifetime": "for ever"}),
        ("CPU", {}),
    ],
    ids=["none", "empty", "zero", "negative", "strategy", "lifetime", "text"],
)
def test_bad_groups_are_refused(bundles: Any, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        groups.placement_group(bundles, **options)


@pytest.mark.needs_processes("an actor must run in the group")
def test_removal_kills_the_actors_inside(make_group: Any) -> None:
    group = make_group([{"CPU": 1}])
    actor = Actor.options(num_cpus=1, scheduling_strategy=In(group)).remote()
    ray.get(actor.group_id.remote(), timeout=SOON)
    groups.remove_placement_group(group)
    with pytest.raises(exceptions.RayActorError):
        wait_until(lambda: ray.get(actor.group_id.remote(), timeout=SOON) is None, what="the actor to die")


@pytest.mark.needs_processes("a task must run in the group")
def test_removal_kills_the_tasks_inside(make_group: Any, gate: Gate, tally: Tally) -> None:
    group = make_group([{"CPU": 1}])
    ref = wait_for.options(max_retries=0, scheduling_strategy=In(group)).remote(gate, tally)
    wait_until(lambda: tally.count() == 1)
    groups.remove_placement_group(group)
    with pytest.raises((exceptions.WorkerCrashedError, exceptions.TaskPlacementGroupRemoved)):
        ray.get(ref, timeout=SOON)


@pytest.mark.needs_processes("a task must run in the group")
@pytest.mark.better_than_ray("removing a placement group fails its tasks at once, also those with retries left")
def test_removal_fails_tasks_with_retries_too(make_group: Any, gate: Gate, tally: Tally) -> None:
    group = make_group([{"CPU": 1}])
    inside = wait_for.options(max_retries=3, scheduling_strategy=In(group))
    running, queued = inside.remote(gate, tally), inside.remote(gate, tally)
    wait_until(lambda: tally.count() == 1)
    groups.remove_placement_group(group)
    for ref in (running, queued):
        with pytest.raises(exceptions.TaskPlacementGroupRemoved):
            ray.get(ref, timeout=SOON)


@pytest.mark.better_than_ray("a task sent to a removed placement group fails at once instead of waiting for ever")
def test_a_removed_group_refuses_new_tasks(make_group: Any) -> None:
    group = make_group([{"CPU": 1}])
    assert group.wait(SOON)
    groups.remove_placement_group(group)
    with pytest.raises(exceptions.TaskPlacementGroupRemoved):
        ray.get(group_id.options(scheduling_strategy=In(group)).remote(), timeout=SOON)
