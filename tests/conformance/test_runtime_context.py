"""``get_runtime_context``: who and where a task, an actor or the driver is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")

GETTERS = ["get_job_id", "get_node_id", "get_worker_id", "get_task_id", "get_actor_id"]
LENGTHS = {"get_job_id": 8, "get_node_id": 56, "get_worker_id": 56, "get_task_id": 48, "get_actor_id": 32}


@ray.remote
def ask(getter: str) -> Any:
    return getattr(ray.get_runtime_context(), getter)()


@ray.remote
class Actor:
    def ask(self, getter: str) -> Any:
        return getattr(ray.get_runtime_context(), getter)()


@pytest.mark.parametrize("getter", GETTERS)
def test_identifiers_are_hexadecimal_of_fixed_length(getter: str) -> None:
    actor = Actor.remote()
    identifier = ray.get(actor.ask.remote(getter))
    assert len(identifier) == LENGTHS[getter]
    assert bytes.fromhex(identifier)


def test_the_driver_is_in_no_actor() -> None:
    context = ray.get_runtime_context()
    assert context.get_actor_id() is None
    assert context.get_actor_name() is None
    assert context.get_task_name() is None


def test_a_task_is_in_no_actor() -> None:
    assert ray.get(ask.remote("get_actor_id")) is None


@pytest.mark.parametrize("getter", ["get_job_id", "get_node_id"])
def test_job_and_node_are_the_same_everywhere(getter: str) -> None:
    here = getattr(ray.get_runtime_context(), getter)()
    actor = Actor.remote()
    assert ray.get(ask.remote(getter)) == here
    assert ray.get(actor.ask.remote(getter)) == here


def test_the_node_is_the_one_in_the_list_of_nodes() -> None:
    assert ray.get_runtime_context().get_node_id() in {node["NodeID"] for node in ray.nodes()}


@pytest.mark.needs_processes("inline has one process")
def test_each_process_has_a_worker_id() -> None:
    actor = Actor.remote()
    ids = [ray.get(ask.remote("get_worker_id")), ray.get(actor.ask.remote("get_worker_id"))]
    assert len({*ids, ray.get_runtime_context().get_worker_id()}) == 3


def test_each_task_has_an_identifier() -> None:
    ids = ray.get([ask.remote("get_task_id") for _ in range(5)])
    assert len(set(ids)) == 5


def test_a_result_names_its_task() -> None:
    ref = ask.remote("get_task_id")
    assert ref.task_id().hex() == ray.get(ref)


def test_an_actor_keeps_its_identifier() -> None:
    actor, other = Actor.remote(), Actor.remote()
    first, second = ray.get([actor.ask.remote("get_actor_id") for _ in range(2)])
    assert first == second != ray.get(other.ask.remote("get_actor_id"))


def test_the_name_of_a_task_is_its_function_by_default() -> None:
    assert ray.get(ask.remote("get_task_name")) == "ask"


def test_the_name_of_a_task_can_be_given() -> None:
    assert ray.get(ask.options(name="my task").remote("get_task_name")) == "my task"


def test_the_function_name_of_a_task() -> None:
    assert ray.get(ask.options(name="other").remote("get_task_function_name")).endswith("ask")


def test_the_name_of_an_actor_task_shows_class_and_method() -> None:
    actor = Actor.remote()
    assert ray.get(actor.ask.remote("get_task_name")) == "Actor.ask"


def test_an_actor_without_a_name() -> None:
    assert not ray.get(Actor.remote().ask.remote("get_actor_name"))


def test_assigned_resources_of_a_task() -> None:
    assert ray.get(ask.remote("get_assigned_resources")) == {"CPU": 1.0}
    assert ray.get(ask.options(num_cpus=2).remote("get_assigned_resources")) == {"CPU": 2.0}


def test_assigned_resources_of_an_actor() -> None:
    holding = Actor.options(num_cpus=1).remote()
    assert ray.get(holding.ask.remote("get_assigned_resources")) == {"CPU": 1.0}
    free = Actor.remote()
    assert ray.get(free.ask.remote("get_assigned_resources")) == {}


def test_no_accelerators_are_assigned() -> None:
    @ray.remote
    def accelerators() -> tuple[Any, Any]:
        return ray.get_gpu_ids(), ray.get_runtime_context().get_accelerator_ids().get("GPU", [])

    assert ray.get(accelerators.remote()) == ([], [])


def test_the_current_actor_is_refused_outside_an_actor() -> None:
    with pytest.raises(RuntimeError):
        ray.get_runtime_context().current_actor  # noqa: B018


def test_a_fresh_actor_was_not_reconstructed() -> None:
    @ray.remote
    class Fresh:
        def ask(self) -> bool:
            return bool(ray.get_runtime_context().was_current_actor_reconstructed)

    assert not ray.get(Fresh.remote().ask.remote())


def test_the_namespace_is_the_same_in_tasks() -> None:
    @ray.remote
    def namespace() -> str:
        return ray.get_runtime_context().namespace

    assert ray.get(namespace.remote()) == ray.get_runtime_context().namespace


def test_no_placement_group_by_default() -> None:
    assert ray.get(ask.remote("get_placement_group_id")) is None


def test_the_runtime_environment_of_a_task() -> None:
    @ray.remote
    def variables() -> Any:
        return ray.get_runtime_context().runtime_env.get("env_vars", {}).get("SEEN")

    assert ray.get(variables.options(runtime_env={"env_vars": {"SEEN": "yes"}}).remote()) == "yes"


def test_the_session_has_a_name() -> None:
    name = ray.get_runtime_context().get_session_name()
    assert name and ray.get(ask.remote("get_session_name")) == name


def test_a_task_is_not_cancelled() -> None:
    assert ray.get(ask.remote("is_canceled")) is False


def test_the_context_can_be_used_in_a_nested_task() -> None:
    @ray.remote
    def outer() -> tuple[str, str]:
        return ray.get_runtime_context().get_task_id(), ray.get(ask.remote("get_task_id"))

    mine, child = ray.get(outer.remote())
    assert mine != child
