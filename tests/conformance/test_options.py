"""Options of tasks and actors: which are accepted, which are refused, which one wins."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.rendezvous import Tally
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def task() -> str:
    return "ran"


@ray.remote
class Actor:
    def method(self) -> str:
        return "ran"


BAD_TASK_OPTIONS = [
    {"nonsense": 1},
    {"num_cpus": -1},
    {"num_gpus": -1},
    {"num_gpus": 1.5},
    {"num_cpus": "two"},
    {"memory": -1},
    {"num_returns": -1},
    {"num_returns": "many"},
    {"num_returns": 1.5},
    {"max_retries": -2},
    {"max_retries": "often"},
    {"resources": {"CPU": 1}},
    {"resources": {"GPU": 1}},
    {"resources": {"slot": -1}},
    {"resources": ["slot"]},
    {"name": 5},
    {"scheduling_strategy": "NONSENSE"},
    {"runtime_env": "text"},
    {"max_restarts": 1},
    {"max_concurrency": 2},
    {"lifetime": "detached"},
]

BAD_ACTOR_OPTIONS = [
    {"nonsense": 1},
    {"num_cpus": -1},
    {"max_restarts": -2},
    {"max_task_retries": -2},
    {"max_concurrency": -1},
    {"max_pending_calls": -2},
    {"resources": {"CPU": 1}},
    {"scheduling_strategy": "NONSENSE"},
    {"max_retries": 1},
    {"num_returns": 2},
    {"max_calls": 1},
]


def _id(options: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in options.items())


@pytest.mark.parametrize("options", BAD_TASK_OPTIONS, ids=_id)
def test_bad_options_of_a_task_are_refused_at_the_call(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        task.options(**options).remote()


@pytest.mark.parametrize("options", BAD_TASK_OPTIONS, ids=_id)
def test_bad_options_of_a_task_are_refused_in_the_decorator(options: dict[str, Any]) -> None:
    def plain() -> None:
        pass

    with pytest.raises((ValueError, TypeError)):
        ray.remote(**options)(plain).remote()


@pytest.mark.parametrize("options", BAD_ACTOR_OPTIONS, ids=_id)
def test_bad_options_of_an_actor_are_refused_at_the_call(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Actor.options(**options).remote()


@pytest.mark.parametrize("options", BAD_ACTOR_OPTIONS, ids=_id)
def test_bad_options_of_an_actor_are_refused_in_the_decorator(options: dict[str, Any]) -> None:
    class Plain:
        pass

    with pytest.raises((ValueError, TypeError)):
        ray.remote(**options)(Plain).remote()


def test_an_unknown_option_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        task.options(nonsense=1).remote()


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 2},
        {"num_cpus": 0.5},
        {"num_cpus": 0},
        {"memory": 1024},
        {"name": "display name"},
        {"max_retries": -1},
        {"scheduling_strategy": "SPREAD"},
        {"scheduling_strategy": "DEFAULT"},
        {"scheduling_strategy": None},
        {"runtime_env": {"env_vars": {}}},
        {"num_returns": 1},
    ],
    ids=_id,
)
def test_good_options_of_a_task(options: dict[str, Any]) -> None:
    assert ray.get(task.options(**options).remote()) == "ran"


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 1},
        {"num_cpus": 0.5},
        {"memory": 1024},
        {"max_restarts": -1},
        {"max_task_retries": -1},
        {"max_concurrency": 5},
        {"max_pending_calls": 10},
        {"scheduling_strategy": "SPREAD"},
        {"runtime_env": {"env_vars": {}}},
    ],
    ids=_id,
)
def test_good_options_of_an_actor(options: dict[str, Any]) -> None:
    actor = Actor.options(**options).remote()
    assert ray.get(actor.method.remote()) == "ran"


def test_options_do_not_change_the_original() -> None:
    changed = task.options(num_returns=0)
    assert changed.remote() is None
    assert ray.get(task.remote()) == "ran"


def test_options_override_the_decorator() -> None:
    @ray.remote(num_returns=2)
    def pair() -> tuple[int, int]:
        return 1, 2

    assert ray.get(pair.options(num_returns=1).remote()) == (1, 2)
    assert ray.get(pair.remote()) == [1, 2]


def test_options_keep_what_the_decorator_said_otherwise(tally: Tally) -> None:
    @ray.remote(max_retries=1, retry_exceptions=True)
    def flaky(tally: Tally) -> int:
        if tally.add() == 1:
            raise ValueError("once")
        return tally.count()

    assert ray.get(flaky.options(num_cpus=0.5).remote(tally)) == 2


def test_max_calls_is_refused_in_options() -> None:
    with pytest.raises(ValueError):
        task.options(max_calls=1).remote()


@pytest.mark.needs_processes("workers must be replaced")
def test_max_calls_replaces_the_worker() -> None:
    @ray.remote(max_calls=2)
    def pid() -> int:
        return os.getpid()

    pids = [ray.get(pid.remote()) for _ in range(4)]
    assert max(pids.count(one) for one in pids) <= 2


@pytest.mark.needs_processes("workers must be replaced")
def test_max_calls_of_one_gives_each_call_a_process() -> None:
    @ray.remote(max_calls=1)
    def pid() -> int:
        return os.getpid()

    assert len({ray.get(pid.remote()) for _ in range(3)}) == 3


@pytest.mark.needs_processes("the environment belongs to a process")
def test_environment_variables_of_a_task() -> None:
    @ray.remote
    def read() -> str | None:
        return os.environ.get("CONFORMANCE_VARIABLE")

    assert ray.get(read.remote()) is None
    assert ray.get(read.options(runtime_env={"env_vars": {"CONFORMANCE_VARIABLE": "set"}}).remote()) == "set"
    assert ray.get(read.remote()) is None


@pytest.mark.needs_processes("the environment belongs to a process")
def test_environment_variables_of_an_actor() -> None:
    @ray.remote
    class Reader:
        def read(self) -> str | None:
            return os.environ.get("CONFORMANCE_VARIABLE")

    reader = Reader.options(runtime_env={"env_vars": {"CONFORMANCE_VARIABLE": "actor"}}).remote()
    assert ray.get(reader.read.remote()) == "actor"


@pytest.mark.needs_processes("the environment belongs to a process")
def test_environment_variables_that_count_when_a_process_starts(tmp_path: Path) -> None:
    (tmp_path / "conformance_module.py").write_text("VALUE = 'found'\n")

    @ray.remote
    def look() -> tuple[str, str]:
        return importlib.import_module("conformance_module").VALUE, time.strftime("%H:%M", time.localtime(0))

    variables = {"PYTHONPATH": str(tmp_path), "TZ": "XYZ-05:30"}
    assert ray.get(look.options(runtime_env={"env_vars": variables}).remote()) == ("found", "05:30")


def test_environment_variables_must_be_text() -> None:
    with pytest.raises((TypeError, ValueError)):
        task.options(runtime_env={"env_vars": {"NUMBER": 1}}).remote()


@pytest.mark.better_than_ray("an unknown field of runtime_env is refused instead of being ignored")
def test_an_unknown_field_of_the_runtime_environment_is_refused() -> None:
    with pytest.raises(ValueError, match="enviroment_variables"):
        task.options(runtime_env={"enviroment_variables": {}}).remote()


def test_method_options_do_not_change_the_method() -> None:
    actor = Actor.remote()
    assert actor.method.options(num_returns=0).remote() is None
    assert ray.get(actor.method.remote()) == "ran"


def test_unknown_arguments_of_the_method_decorator_are_refused() -> None:
    with pytest.raises((AssertionError, TypeError, ValueError)):

        class Decorated:
            @ray.method(nonsense=1)
            def method(self) -> None:
                pass
