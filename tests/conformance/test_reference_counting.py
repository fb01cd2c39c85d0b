"""What keeps an object alive: handles, pending tasks, containers, borrowers; and what ends it."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest

from tests.conformance.rendezvous import Gate, process_is_gone, wait_until
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")

SIZES = pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])


@ray.remote
def length(value: Any) -> int:
    return len(value)


@ray.remote
class Keeper:
    """Keeps references that callers hand it."""

    def __init__(self) -> None:
        self.refs: list[Any] = []

    def keep(self, refs: list[Any]) -> None:
        self.refs = refs

    def sizes(self) -> list[int]:
        return [len(value) for value in ray.get(self.refs)]

    def hand_back(self) -> list[Any]:
        return self.refs

    def put(self, size: int) -> list[Any]:
        return [ray.put(b"x" * size)]

    def start(self, size: int) -> list[Any]:
        return [make.remote(size)]

    def pid(self) -> int:
        return os.getpid()


@ray.remote
def make(size: int) -> bytes:
    return b"x" * size


def owner_is_dead(ref: Any) -> bool:
    """Get a reference; tell whether it is lost with its owner, whose death may take a moment to be known."""
    try:
        ray.get(ref, timeout=30)
    except ray.exceptions.OwnerDiedError:
        return True
    return False


@SIZES
def test_a_pending_task_keeps_its_argument(size: int, gate: Gate) -> None:
    @ray.remote
    def after(gate: Gate) -> None:
        gate.wait()

    @ray.remote
    def use(value: bytes, waited: None) -> int:
        return len(value)

    if os.environ.get("SKATE_ENGINE") == "inline":
        gate.open()
    ref = ray.put(b"x" * size)
    result = use.remote(ref, after.remote(gate))
    del ref
    gc.collect()
    gate.open()
    assert ray.get(result) == size


@SIZES
def test_a_container_keeps_what_is_inside(size: int) -> None:
    outer = ray.put([ray.put(b"x" * size)])
    gc.collect()
    (inner,) = ray.get(outer)
    del outer
    gc.collect()
    assert len(ray.get(inner)) == size


@SIZES
def test_containers_keep_recursively(size: int) -> None:
    ref = ray.put(b"x" * size)
    for _ in range(5):
        ref = ray.put({"next": ref})
    gc.collect()
    for _ in range(5):
        ref = ray.get(ref)["next"]
    assert len(ray.get(ref)) == size


@SIZES
def test_a_borrower_keeps_the_object(size: int) -> None:
    keeper = Keeper.remote()
    ref = ray.put(b"x" * size)
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert ray.get(keeper.sizes.remote()) == [size]


@SIZES
def test_a_borrower_hands_the_object_back(size: int) -> None:
    keeper = Keeper.remote()
    ref = make.remote(size)
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    (again,) = ray.get(keeper.hand_back.remote())
    ray.kill(keeper)
    assert len(ray.get(again)) == size


@SIZES
def test_a_borrower_lends_on(size: int) -> None:
    first, second = Keeper.remote(), Keeper.remote()
    ref = ray.put(b"x" * size)
    ray.get(first.keep.remote([ref]))
    del ref
    ray.get(second.keep.remote(ray.get(first.hand_back.remote())))
    ray.get(first.keep.remote([]))
    gc.collect()
    assert ray.get(second.sizes.remote()) == [size]


@SIZES
def test_an_object_put_by_an_actor_lives_with_it(size: int) -> None:
    keeper = Keeper.remote()
    (ref,) = ray.get(keeper.put.remote(size))
    assert len(ray.get(ref)) == size
    assert ray.get(length.remote(ref)) == size


@pytest.mark.needs_processes("the owner's process ends")
@SIZES
def test_an_object_dies_with_its_owner(size: int) -> None:
    keeper = Keeper.remote()
    (ref,) = ray.get(keeper.put.remote(size))
    pid = ray.get(keeper.pid.remote())
    ray.kill(keeper)
    wait_until(lambda: process_is_gone(pid))
    wait_until(lambda: owner_is_dead(ref), what="the object to be lost with its owner")


@pytest.mark.needs_processes("the owner's process ends")
def test_the_result_of_a_task_dies_with_the_actor_that_called_it() -> None:
    keeper = Keeper.remote()
    (ref,) = ray.get(keeper.start.remote(300_000))
    ray.wait([ref], timeout=30)
    pid = ray.get(keeper.pid.remote())
    ray.kill(keeper)
    wait_until(lambda: process_is_gone(pid))
    wait_until(lambda: owner_is_dead(ref), what="the object to be lost with its owner")


def test_a_loop_of_puts_does_not_fill_the_store() -> None:
    for i in range(30):
        array = ray.get(ray.put(np.full(1_250_000, i)))  # 10 MB each, more than Ray's store of this suite in all
        assert array[0] == i and array[-1] == i


def test_more_than_the_store_holds_reads_back_right() -> None:
    refs = [ray.put(np.full(1_250_000, i)) for i in range(25)]
    for i, ref in enumerate(refs):
        assert ray.get(ref)[1_249_999] == i


def test_long_chains_end_at_once() -> None:
    nested = ray.put(0)
    for _ in range(600):
        nested = ray.put([nested])
    del nested
    gc.collect()
    assert ray.get(make.remote(1), timeout=30) == b"x"


def test_long_chains_of_lineage_end_at_once() -> None:
    @ray.remote
    def follow(value: Any) -> Any:
        return value

    ref = make.remote(200_000)
    for _ in range(400):
        ref = follow.remote(ref)
    assert len(ray.get(ref, timeout=60)) == 200_000
    del ref
    gc.collect()
    assert ray.get(make.remote(1), timeout=30) == b"x"


@pytest.mark.needs_processes("a worker process that ran tasks could become an actor")
def test_what_a_task_has_put_does_not_end_with_an_actor() -> None:
    @ray.remote
    def put() -> list[Any]:
        return [ray.put(b"x")]

    def come_and_go() -> None:
        keeper = Keeper.remote()
        pid = ray.get(keeper.pid.remote())
        del keeper
        wait_until(lambda: process_is_gone(pid))

    refs = [ref for (ref,) in ray.get([put.remote() for _ in range(8)])]
    for _ in range(8):
        come_and_go()
    assert ray.get(refs, timeout=30) == [b"x"] * 8
