"""Concurrency groups: methods of one actor in pools of their own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray

pytestmark = [
    pytest.mark.usefixtures("session"),
    pytest.mark.needs_processes("calls of different groups must overlap"),
]


@ray.remote(concurrency_groups={"io": 2, "compute": 1})
class Grouped:
    """An asyncio actor with two groups."""

    @ray.method(concurrency_group="io")
    async def io(self, gate: Gate, tally: Tally) -> str:
        return await self._enter(gate, tally)

    @ray.method(concurrency_group="compute")
    async def compute(self, gate: Gate, tally: Tally) -> str:
        return await self._enter(gate, tally)

    async def default(self) -> str:
        return "default"

    async def any_group(self, gate: Gate, tally: Tally) -> str:
        return await self._enter(gate, tally)

    async def _enter(self, gate: Gate, tally: Tally) -> str:
        tally.add("in")
        while not gate.is_open():
            await asyncio.sleep(0.005)
        return "done"

    @ray.method(concurrency_group="io")
    async def io_thread(self) -> int:
        return threading.get_ident()

    @ray.method(concurrency_group="compute")
    async def compute_thread(self) -> int:
        return threading.get_ident()


@ray.remote(concurrency_groups={"io": 2, "compute": 1})
class Threaded:
    """The same with plain methods."""

    @ray.method(concurrency_group="io")
    def io(self, gate: Gate, tally: Tally) -> str:
        tally.add("in")
        gate.wait()
        return "done"

    @ray.method(concurrency_group="compute")
    def compute(self) -> str:
        return "computed"

    def default(self) -> str:
        return "default"


@pytest.fixture(params=["async", "threaded"])
def grouped(request: pytest.FixtureRequest, session: None) -> Any:
    """An actor with the groups io (2) and compute (1)."""
    return (Grouped if request.param == "async" else Threaded).remote()


def test_a_full_group_does_not_block_the_default_one(grouped: Any, gate: Gate, tally: Tally) -> None:
    refs = [grouped.io.remote(gate, tally) for _ in range(4)]
    wait_until(lambda: tally.count() == 2)
    assert ray.get(grouped.default.remote(), timeout=30) == "default"
    gate.open()
    assert ray.get(refs) == ["done"] * 4


def test_a_group_runs_no_more_than_its_limit(grouped: Any, gate: Gate, tally: Tally) -> None:
    refs = [grouped.io.remote(gate, tally) for _ in range(4)]
    wait_until(lambda: tally.count() == 2)
    assert ray.wait(refs, timeout=0.2)[0] == []
    assert tally.count() == 2
    gate.open()
    ray.get(refs)
    assert tally.count() == 4


def test_a_full_group_does_not_block_another_one(gate: Gate, tally: Tally) -> None:
    actor = Threaded.remote()
    refs = [actor.io.remote(gate, tally) for _ in range(2)]
    wait_until(lambda: tally.count() == 2)
    assert ray.get(actor.compute.remote(), timeout=30) == "computed"
    gate.open()
    ray.get(refs)


def test_a_blocked_default_group_does_not_block_others(gate: Gate, tally: Tally) -> None:
    @ray.remote(concurrency_groups={"health": 1})
    class Service:
        def work(self, gate: Gate, tally: Tally) -> str:
            tally.add("working")
            gate.wait()
            return "worked"

        @ray.method(concurrency_group="health")
        def check(self) -> str:
            return "healthy"

    service = Service.remote()
    work = service.work.remote(gate, tally)
    wait_until(lambda: tally.count() == 1)
    assert ray.get(service.check.remote(), timeout=30) == "healthy"
    gate.open()
    assert ray.get(work) == "worked"


def test_the_group_can_be_chosen_at_the_call(gate: Gate, tally: Tally) -> None:
    actor = Grouped.remote()
    refs = [actor.any_group.options(concurrency_group="compute").remote(gate, tally) for _ in range(2)]
    wait_until(lambda: tally.count() == 1)
    assert ray.wait(refs, timeout=0.2)[0] == []
    assert tally.count() == 1
    others = [actor.any_group.options(concurrency_group="io").remote(gate, tally) for _ in range(2)]
    wait_until(lambda: tally.count() == 3)
    gate.open()
    ray.get(refs + others)


def test_groups_of_an_async_actor_have_threads_of_their_own() -> None:
    actor = Grouped.remote()
    assert ray.get(actor.io_thread.remote()) != ray.get(actor.compute_thread.remote())


def test_an_unknown_group_is_refused(gate: Gate, tally: Tally) -> None:
    actor = Grouped.remote()
    with pytest.raises((ValueError, ray.exceptions.RayError)):
        ray.get(actor.any_group.options(concurrency_group="nonsense").remote(gate, tally), timeout=30)


def test_calls_of_one_plain_group_share_the_state() -> None:
    @ray.remote(concurrency_groups={"counting": 1})
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        @ray.method(concurrency_group="counting")
        def increment(self) -> int:
            self.value += 1
            return self.value

    counter = Counter.remote()
    assert sorted(ray.get([counter.increment.remote() for _ in range(20)])) == list(range(1, 21))
