"""Sessions: starting, joining, ending, and what an ended one leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.target import ENGINE, SESSION_OPTIONS, ray

Start = Callable[..., Any]


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_a_session_begins_and_ends(start_session: Start) -> None:
    assert not ray.is_initialized()
    start_session(num_cpus=1)
    assert ray.is_initialized()
    assert ray.get(echo.remote(1)) == 1
    ray.shutdown()
    assert not ray.is_initialized()


def test_shutdown_without_a_session_is_harmless() -> None:
    ray.shutdown()
    ray.shutdown()


def test_a_second_init_is_refused_unless_told_otherwise(start_session: Start) -> None:
    start_session(num_cpus=1)
    with pytest.raises(RuntimeError):
        ray.init(**SESSION_OPTIONS)
    ray.init(ignore_reinit_error=True, **SESSION_OPTIONS)
    assert ray.get(echo.remote(1)) == 1


def test_the_context_ends_the_session(start_session: Start) -> None:
    with start_session(num_cpus=1) as context:
        assert ray.get(echo.remote(1)) == 1
        assert len(context.address_info["node_id"]) == 56
        assert context.address_info["session_dir"]
    assert not ray.is_initialized()


def test_remote_functions_work_in_the_next_session(start_session: Start) -> None:
    for value in range(2):
        start_session(num_cpus=1)
        assert ray.get(echo.remote(value)) == value


def test_actor_classes_work_in_the_next_session(start_session: Start) -> None:
    @ray.remote
    class Actor:
        def hello(self) -> str:
            return "hello"

    for _ in range(2):
        start_session(num_cpus=1)
        assert ray.get(Actor.remote().hello.remote()) == "hello"


@pytest.mark.parametrize("use", ["remote", "put", "actor"])
def test_the_first_use_starts_a_session(use: str) -> None:
    if ENGINE == "inline":
        pytest.skip("the engine of an automatic session is the native one")

    @ray.remote
    class Actor:
        def hello(self) -> str:
            return "hello"

    ray.shutdown()
    try:
        match use:
            case "remote":
                assert ray.get(echo.remote("auto")) == "auto"
            case "put":
                assert ray.get(ray.put("auto")) == "auto"
            case _:
                assert ray.get(Actor.remote().hello.remote()) == "hello"
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.better_than_ray("a reference of an ended session is an error and never starts a new session")
def test_a_reference_of_an_ended_session_is_refused(start_session: Start) -> None:
    start_session(num_cpus=1)
    ref = ray.put("gone")
    ray.shutdown()
    with pytest.raises((RuntimeError, ValueError, ray.exceptions.RayError)):
        ray.get(ref, timeout=5)
    assert not ray.is_initialized()


def test_a_reference_of_an_earlier_session_is_refused_in_the_next(start_session: Start) -> None:
    start_session(num_cpus=1)
    ref = ray.put("gone")
    start_session(num_cpus=1)
    with pytest.raises((ValueError, ray.exceptions.RayError)):
        ray.get(ref, timeout=20)


@pytest.mark.parametrize(
    "options",
    [
        {"nonsense": 1},
        {"num_cpus": -1},
        {"namespace": ""},
        {"local_mode": True},
        {"_prestarted_workers": -1},
        {"_preloaded_modules": [1]},
        pytest.param(
            {"resources": {"CPU": 1}},
            marks=pytest.mark.better_than_ray("init refuses CPU as a custom resource before it starts any process"),
        ),
    ],
    ids=lambda options: next(iter(options)),
)
def test_bad_arguments_of_init_are_refused(options: dict[str, Any]) -> None:
    ray.shutdown()
    try:
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            ray.init(**(SESSION_OPTIONS | options))
        assert not ray.is_initialized()
    finally:
        ray.shutdown()


def test_no_cluster_to_join_is_a_connection_error() -> None:
    ray.shutdown()
    try:
        with pytest.raises(ConnectionError):
            ray.init(address="auto")
        assert not ray.is_initialized()
    finally:
        ray.shutdown()


def test_resources_and_namespace_of_the_session(start_session: Start) -> None:
    start_session(num_cpus=3, resources={"slot": 2}, namespace="mine")
    assert ray.cluster_resources()["CPU"] == 3.0
    assert ray.cluster_resources()["slot"] == 2.0
    assert ray.get_runtime_context().namespace == "mine"
    assert ray.get(ray.remote(lambda: ray.get_runtime_context().namespace).remote()) == "mine"


@pytest.mark.needs_processes("the environment belongs to a process")
def test_environment_variables_of_the_session(start_session: Start) -> None:
    start_session(num_cpus=1, runtime_env={"env_vars": {"OF_THE_SESSION": "session", "OVERRIDDEN": "session"}})
    override = variable.options(runtime_env={"env_vars": {"OVERRIDDEN": "task"}})
    assert ray.get(variable.remote("OF_THE_SESSION")) == "session"
    assert ray.get(override.remote("OVERRIDDEN")) == "task"
    assert ray.get(override.remote("OF_THE_SESSION")) == "session"


def test_workers_import_from_the_drivers_directory(
    start_session: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_of_the_driver.py").write_text("def answer():\n    return 42\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    start_session(num_cpus=1)

    @ray.remote
    def use() -> int:
        import module_of_the_driver  # type: ignore[import-not-found]

        return int(module_of_the_driver.answer())

    assert ray.get(use.remote()) == 42


def test_the_timeline_shows_what_ran(start_session: Start, tmp_path: Path) -> None:
    start_session(num_cpus=1)
    ray.get(echo.remote(1))
    assert isinstance(ray.timeline(), list)
    ray.timeline(filename=str(tmp_path / "timeline.json"))
    assert (tmp_path / "timeline.json").read_text(encoding="utf-8").startswith("[")


def test_a_script_without_shutdown_ends_by_itself() -> None:
    script = (
        "from tests.conformance.target import SESSION_OPTIONS, ray\n"
        "ray.init(num_cpus=1, **SESSION_OPTIONS)\n"
        "print('answer', ray.get(ray.remote(lambda: 42).remote()))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "answer 42" in done.stdout
