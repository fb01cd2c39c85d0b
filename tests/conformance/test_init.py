"""Sessions: starting, joining, ending, and what an ended one leaves behind."""

from __future__ import annotations

import os
from collections.abc import Callable
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
        assert {"address", "gcs_address", "node_ip_address", "webui_url"} <= set(context)
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
