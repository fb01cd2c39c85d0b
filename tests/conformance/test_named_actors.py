"""Named actors: names, namespaces, lifetimes."""

from __future__ import annotations

import gc
import os
import uuid
from typing import Any

import pytest

from tests.conformance.rendezvous import process_is_gone, wait_until
from tests.conformance.target import ray, submodule

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions
SOON = 30


@ray.remote
class Named:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def increment(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"actor-{uuid.uuid4().hex[:8]}"


def is_unknown(name: str, namespace: str | None = None) -> bool:
    try:
        ray.get_actor(name, namespace=namespace)
    except ValueError:
        return True
    return False


def test_an_actor_is_found_by_its_name(name: str) -> None:
    actor = Named.options(name=name).remote(5)
    found = ray.get_actor(name)
    assert found == actor
    assert ray.get(found.increment.remote()) == 6
    assert ray.get(actor.increment.remote()) == 7


def test_a_task_finds_an_actor_by_its_name(name: str) -> None:
    @ray.remote
    def use(name: str) -> int:
        return ray.get(ray.get_actor(name).increment.remote())

    actor = Named.options(name=name).remote()
    assert ray.get(use.remote(name)) == 1
    assert ray.get(actor.increment.remote()) == 2


def test_an_actor_named_inside_a_task_is_found_outside(name: str) -> None:
    @ray.remote
    class Parent:
        def __init__(self, name: str) -> None:
            self.child = Named.options(name=name).remote(7)

        def ready(self) -> bool:
            return True

    parent = Parent.remote(name)
    assert ray.get(parent.ready.remote())
    assert ray.get(ray.get_actor(name).increment.remote()) == 8


def test_an_unknown_name_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ray.get_actor(name)


@pytest.mark.parametrize("bad", ["", None])
def test_an_empty_name_is_refused_by_get_actor(bad: Any) -> None:
    with pytest.raises(ValueError):
        ray.get_actor(bad)


@pytest.mark.parametrize("bad", ["", 5])
def test_a_bad_name_is_refused_at_creation(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Named.options(name=bad).remote()


def test_a_name_can_be_given_in_the_decorator(name: str) -> None:
    @ray.remote(name=name)
    class Decorated:
        def hello(self) -> str:
            return "hello"

    actor = Decorated.remote()
    assert ray.get(ray.get_actor(name).hello.remote()) == "hello"
    del actor


def test_a_name_can_be_taken_only_once(name: str) -> None:
    actor = Named.options(name=name).remote()
    with pytest.raises(exceptions.ActorAlreadyExistsError):
        Named.options(name=name).remote()
    assert ray.get(actor.increment.remote()) == 1


def test_a_taken_name_is_a_value_error(name: str) -> None:
    actor = Named.options(name=name).remote()
    with pytest.raises(ValueError, match=name):
        Named.options(name=name).remote()
    del actor


def test_get_if_exists_creates_and_then_finds(name: str) -> None:
    first = Named.options(name=name, get_if_exists=True).remote(1)
    second = Named.options(name=name, get_if_exists=True).remote(100)
    assert first == second
    assert ray.get(second.increment.remote()) == 2


def test_get_if_exists_needs_a_name() -> None:
    with pytest.raises(ValueError):
        Named.options(get_if_exists=True).remote()


def test_namespaces_are_separate(name: str) -> None:
    here = Named.options(name=name).remote(1)
    there = Named.options(name=name, namespace="elsewhere").remote(10)
    assert here != there
    assert ray.get_actor(name) == here
    assert ray.get_actor(name, namespace="elsewhere") == there


def test_another_namespaces_actor_is_not_found_without_it(name: str) -> None:
    actor = Named.options(name=name, namespace="elsewhere").remote()
    with pytest.raises(ValueError):
        ray.get_actor(name)
    assert ray.get_actor(name, namespace="elsewhere") == actor


@pytest.mark.parametrize("namespace", ["", 5])
def test_a_bad_namespace_is_refused(name: str, namespace: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Named.options(name=name, namespace=namespace).remote()


def test_named_actors_are_listed(name: str) -> None:
    actors = [Named.options(name=f"{name}-{i}").remote() for i in range(2)]
    ray.get([actor.pid.remote() for actor in actors])
    listed = submodule("util").list_named_actors()
    assert {f"{name}-0", f"{name}-1"} <= set(listed)


def test_named_actors_of_all_namespaces_are_listed(name: str) -> None:
    actor = Named.options(name=name, namespace="elsewhere").remote()
    ray.get(actor.pid.remote())
    assert name not in submodule("util").list_named_actors()
    listed = submodule("util").list_named_actors(all_namespaces=True)
    assert {"name": name, "namespace": "elsewhere"} in listed


def test_a_name_is_free_again_after_kill(name: str) -> None:
    first = Named.options(name=name).remote(1)
    ray.get(first.increment.remote())
    ray.kill(first)
    wait_until(lambda: is_unknown(name), what="the name to be free")
    second = Named.options(name=name).remote(50)
    assert ray.get(second.increment.remote()) == 51


def test_a_name_is_free_again_when_the_last_handle_is_gone(name: str) -> None:
    actor = Named.options(name=name).remote()
    ray.get(actor.increment.remote())
    del actor
    gc.collect()
    wait_until(lambda: is_unknown(name), what="the name to be free")


def test_a_handle_found_by_name_does_not_keep_the_actor(name: str) -> None:
    creators = Named.options(name=name).remote()
    found = ray.get_actor(name)
    ray.get(found.increment.remote())
    del creators
    gc.collect()
    with pytest.raises(exceptions.ActorDiedError):
        wait_until(lambda: ray.get(found.increment.remote(), timeout=SOON) == 0, what="the actor to end")


def test_a_detached_actor_outlives_its_handles(name: str) -> None:
    actor = Named.options(name=name, lifetime="detached").remote()
    pid = ray.get(actor.pid.remote())
    del actor
    gc.collect()
    again = ray.get_actor(name)
    assert ray.get(again.pid.remote()) == pid
    ray.kill(again)
    wait_until(lambda: is_unknown(name), what="the name to be free")


@pytest.mark.needs_processes("the creator's process must end")
def test_a_detached_actor_outlives_its_creator(name: str) -> None:
    @ray.remote
    class Creator:
        def create(self, name: str) -> int:
            actor = Named.options(name=name, lifetime="detached").remote()
            return ray.get(actor.pid.remote())

        def pid(self) -> int:
            return os.getpid()

    creator = Creator.remote()
    creators_pid = ray.get(creator.pid.remote())
    pid = ray.get(creator.create.remote(name))
    ray.kill(creator)
    wait_until(lambda: process_is_gone(creators_pid))
    survivor = ray.get_actor(name)
    assert ray.get(survivor.pid.remote()) == pid
    ray.kill(survivor)
    wait_until(lambda: is_unknown(name), what="the name to be free")


@pytest.mark.parametrize("lifetime", ["for ever", 5])
def test_an_unknown_lifetime_is_refused(name: str, lifetime: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Named.options(name=name, lifetime=lifetime).remote()


def test_the_lifetime_non_detached_is_the_default_one(name: str) -> None:
    actor = Named.options(name=name, lifetime="non_detached").remote()
    ray.get(actor.increment.remote())
    del actor
    gc.collect()
    wait_until(lambda: is_unknown(name), what="the name to be free")


def test_an_actor_knows_its_own_name(name: str) -> None:
    @ray.remote
    class Me:
        def name(self) -> str | None:
            return ray.get_runtime_context().get_actor_name()

    me = Me.options(name=name).remote()
    assert ray.get(me.name.remote()) == name
