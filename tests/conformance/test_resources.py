"""Resources: what a session has, who holds what, and what waits for what."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray, submodule

SOON = 45
HOLDING = "a task must hold its resources while the driver looks on"

pytestmark = pytest.mark.usefixtures("with_slots")


@pytest.fixture(scope="module")
def slots_session() -> Any:
    """A session of two CPUs, two GPUs in name only and three slots."""
    from tests.conformance.target import SESSION_OPTIONS

    ray.init(num_cpus=2, num_gpus=2, resources={"slot": 3}, **SESSION_OPTIONS)
    yield
    ray.shutdown()


@pytest.fixture
def with_slots(slots_session: None, check_nothing_held: Callable[[], None]) -> Any:
    """The module's session; every test gives back what it took."""
    yield
    check_nothing_held()


@ray.remote
def wait_for(gate: Gate, tally: Tally | None = None) -> str:
    if tally is not None:
        tally.add("running")
    gate.wait()
    return "done"


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def gpu_ids() -> tuple[list[Any], str | None]:
    return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


@ray.remote
class Actor:
    def ready(self) -> bool:
        return True

    def child(self) -> Any:
        return ray.get(echo.remote("child"))

    def gpu_ids(self) -> list[Any]:
        return ray.get_gpu_ids()


def available(name: str) -> float:
    return float(ray.available_resources().get(name, 0.0))


def test_the_sessions_resources_are_as_asked_for() -> None:
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["slot"]) == (2.0, 2.0, 3.0)
    assert total["memory"] > 0
    assert total["object_store_memory"] > 0


def test_one_node_is_alive_and_has_them() -> None:
    (node,) = ray.nodes()
    assert node["Alive"]
    assert node["Resources"]["slot"] == 3.0
    assert len(node["NodeID"]) == 56


def test_the_node_has_a_resource_of_its_own() -> None:
    assert any(name.startswith("node:") for name in ray.cluster_resources())


@pytest.mark.needs_processes(HOLDING)
def test_a_running_task_holds_its_resources(gate: Gate) -> None:
    ref = wait_for.options(num_cpus=1.5, resources={"slot": 2}).remote(gate)
    wait_until(lambda: available("CPU") == 0.5 and available("slot") == 1.0, what="the resources to be taken")
    gate.open()
    assert ray.get(ref) == "done"
    wait_until(lambda: available("CPU") == 2.0 and available("slot") == 3.0, what="the resources to be back")


@pytest.mark.needs_processes(HOLDING)
def test_an_actor_holds_its_resources_for_life() -> None:
    actor = Actor.options(num_cpus=1, resources={"slot": 1}).remote()
    assert ray.get(actor.ready.remote())
    wait_until(lambda: available("CPU") == 1.0 and available("slot") == 2.0)
    ray.kill(actor)
    wait_until(lambda: available("CPU") == 2.0 and available("slot") == 3.0)


@pytest.mark.needs_processes(HOLDING)
def test_a_default_actor_holds_nothing() -> None:
    actor = Actor.remote()
    assert ray.get(actor.ready.remote())
    wait_until(lambda: available("CPU") == 2.0)


@pytest.mark.needs_processes(HOLDING)
def test_a_custom_resource_limits_how_many_run(gate: Gate, tally: Tally) -> None:
    limited = wait_for.options(num_cpus=0, resources={"slot": 1})
    refs = [limited.remote(gate, tally) for _ in range(5)]
    wait_until(lambda: tally.count() == 3)
    assert ray.wait(refs, timeout=0.3)[0] == []
    assert tally.count() == 3
    gate.open()
    assert ray.get(refs) == ["done"] * 5


@pytest.mark.needs_processes(HOLDING)
def test_fractions_of_a_cpu_share_it(gate: Gate, tally: Tally) -> None:
    refs = [wait_for.options(num_cpus=0.5).remote(gate, tally) for _ in range(4)]
    wait_until(lambda: tally.count() == 4)
    gate.open()
    ray.get(refs)


@pytest.mark.needs_processes(HOLDING)
def test_tasks_without_cpus_run_beside_full_ones(gate: Gate, tally: Tally) -> None:
    full = [wait_for.remote(gate, tally) for _ in range(2)]
    wait_until(lambda: tally.count() == 2)
    assert ray.get(echo.options(num_cpus=0).remote("free"), timeout=SOON) == "free"
    gate.open()
    ray.get(full)


@pytest.mark.needs_processes(HOLDING)
def test_fractions_of_a_custom_resource(gate: Gate, tally: Tally) -> None:
    small = wait_for.options(num_cpus=0, resources={"slot": 0.3}).remote(gate, tally)
    large = wait_for.options(num_cpus=0, resources={"slot": 2.7}).remote(gate, tally)
    wait_until(lambda: tally.count() == 2)
    late = wait_for.options(num_cpus=0, resources={"slot": 0.1}).remote(gate, tally)
    assert ray.wait([late], timeout=0.3)[0] == []
    gate.open()
    assert ray.get([small, large, late]) == ["done"] * 3


@pytest.mark.needs_processes(HOLDING)
def test_who_waits_for_the_end_of_an_actor_holds_nobody_up() -> None:
    two_slots = Actor.options(num_cpus=0, resources={"slot": 2})
    first = two_slots.remote()
    ray.get(first.ready.remote(), timeout=SOON)
    second = two_slots.remote()
    ready = second.ready.remote()
    assert ray.wait([ready], timeout=0.2)[0] == []
    assert ray.get(echo.options(num_cpus=0, resources={"slot": 1}).remote("third slot"), timeout=SOON) == "third slot"
    ray.kill(first)
    assert ray.get(ready, timeout=SOON)
    ray.kill(second)


@pytest.mark.needs_processes("inline runs whatever it is given")
def test_a_request_that_nobody_can_serve_waits() -> None:
    ref = echo.options(resources={"nobody has it": 1}).remote(1)
    assert ray.wait([ref], timeout=0.5) == ([], [ref])
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=SOON)


@pytest.mark.needs_processes("nested tasks must run while their parents wait")
def test_a_task_that_waits_lends_its_cpu() -> None:
    @ray.remote
    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + ray.get(down.remote(depth - 1))

    assert ray.get(down.remote(6), timeout=60) == 6


@pytest.mark.needs_processes("nested tasks must run while their parents wait")
def test_a_task_that_waits_keeps_what_is_no_cpu(gate: Gate) -> None:
    @ray.remote(resources={"slot": 3})
    def holder() -> bool:
        ref = echo.options(resources={"slot": 1}).remote(1)
        ready, _ = ray.wait([ref], timeout=0.5)
        ray.cancel(ref)
        return not ready

    assert ray.get(holder.remote(), timeout=SOON)


@pytest.mark.needs_processes("an actor must hold resources")
def test_an_actor_that_waits_does_not_lend_its_cpus() -> None:
    @ray.remote(num_cpus=2)
    class Greedy:
        def child_runs(self) -> bool:
            ref = echo.remote(1)
            ready, _ = ray.wait([ref], timeout=0.5)
            ray.cancel(ref)
            return bool(ready)

    assert not ray.get(Greedy.remote().child_runs.remote(), timeout=SOON)


def test_a_gpu_task_learns_its_gpus() -> None:
    ids, visible = ray.get(gpu_ids.options(num_gpus=1).remote())
    assert len(ids) == 1
    assert visible == ",".join(str(one) for one in ids)


def test_a_task_with_all_gpus() -> None:
    ids, _ = ray.get(gpu_ids.options(num_gpus=2).remote())
    assert sorted(int(one) for one in ids) == [0, 1]


def test_a_fraction_of_a_gpu_shows_that_gpu() -> None:
    ids, _ = ray.get(gpu_ids.options(num_gpus=0.5).remote())
    assert len(ids) == 1


@pytest.mark.needs_processes(HOLDING)
def test_an_actor_that_asks_for_anything_holds_a_cpu_too() -> None:
    actor = Actor.options(num_gpus=1).remote()
    assert ray.get(actor.ready.remote())
    wait_until(lambda: available("CPU") == 1.0 and available("GPU") == 1.0)


@pytest.mark.needs_processes("two actors must hold GPUs")
def test_gpu_actors_get_different_gpus() -> None:
    actors = [Actor.options(num_cpus=0, num_gpus=1).remote() for _ in range(2)]
    ids = ray.get([actor.gpu_ids.remote() for actor in actors])
    assert sorted(int(one) for (one,) in ids) == [0, 1]


@pytest.mark.needs_processes("two actors must hold GPUs")
def test_two_halves_share_one_gpu() -> None:
    actors = [Actor.options(num_cpus=0, num_gpus=0.5).remote() for _ in range(4)]
    ids = [int(one) for (one,) in ray.get([actor.gpu_ids.remote() for actor in actors])]
    assert sorted(ids) == [0, 0, 1, 1]


@pytest.mark.needs_processes("inline shares the driver's environment")
def test_workers_use_one_thread_for_numerics_by_default() -> None:
    @ray.remote
    def threads() -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    assert ray.get(threads.remote()) == os.environ.get("OMP_NUM_THREADS", "1")


def test_affinity_to_the_own_node() -> None:
    strategy = submodule("util.scheduling_strategies").NodeAffinitySchedulingStrategy
    node = ray.get_runtime_context().get_node_id()

    @ray.remote
    def where() -> str:
        return ray.get_runtime_context().get_node_id()

    assert ray.get(where.options(scheduling_strategy=strategy(node, soft=False)).remote()) == node


def test_hard_affinity_to_an_unknown_node_is_unschedulable() -> None:
    strategy = submodule("util.scheduling_strategies").NodeAffinitySchedulingStrategy("ab" * 28, soft=False)
    with pytest.raises(ray.exceptions.TaskUnschedulableError):
        ray.get(echo.options(scheduling_strategy=strategy).remote(1), timeout=SOON)


def test_hard_affinity_of_an_actor_to_an_unknown_node_is_unschedulable() -> None:
    strategy = submodule("util.scheduling_strategies").NodeAffinitySchedulingStrategy("ab" * 28, soft=False)
    actor = Actor.options(scheduling_strategy=strategy).remote()
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        ray.get(actor.ready.remote(), timeout=SOON)


def test_soft_affinity_to_an_unknown_node_falls_back() -> None:
    strategy = submodule("util.scheduling_strategies").NodeAffinitySchedulingStrategy("ab" * 28, soft=True)
    assert ray.get(echo.options(scheduling_strategy=strategy).remote("ran"), timeout=SOON) == "ran"


def test_the_spread_strategy_on_one_node() -> None:
    assert ray.get([echo.options(scheduling_strategy="SPREAD").remote(i) for i in range(4)]) == [0, 1, 2, 3]
