"""Actors with ``async def`` methods: one event loop, many calls at once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions
OVERLAP = "calls must overlap"


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
class Event:
    """A gate inside an actor: some calls wait until another one opens it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.waiting = 0

    async def wait(self) -> str:
        self.waiting += 1
        await self.event.wait()
        return "opened"

    async def open(self) -> int:
        self.event.set()
        return self.waiting

    async def count(self) -> int:
        return self.waiting


def test_an_async_method_returns_its_value() -> None:
    @ray.remote
    class Adder:
        async def add(self, a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a + b

    assert ray.get(Adder.remote().add.remote(1, 2)) == 3


@pytest.mark.needs_processes(OVERLAP)
def test_calls_overlap() -> None:
    event = Event.remote()
    waiting = [event.wait.remote() for _ in range(5)]
    wait_until(lambda: ray.get(event.count.remote()) == 5)
    assert ray.get(event.open.remote()) == 5
    assert ray.get(waiting) == ["opened"] * 5


@pytest.mark.needs_processes(OVERLAP)
def test_very_many_calls_overlap() -> None:
    event = Event.remote()
    waiting = [event.wait.remote() for _ in range(900)]
    wait_until(lambda: ray.get(event.count.remote()) == 900)
    ray.get(event.open.remote())
    assert ray.get(waiting) == ["opened"] * 900


@pytest.mark.needs_processes(OVERLAP)
def test_max_concurrency_of_one_runs_calls_one_after_another() -> None:
    @ray.remote(max_concurrency=1)
    class Single:
        def __init__(self) -> None:
            self.inside = 0
            self.most = 0

        async def enter(self) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.005)
            self.inside -= 1

        async def read(self) -> int:
            return self.most

    single = Single.remote()
    ray.get([single.enter.remote() for _ in range(10)])
    assert ray.get(single.read.remote()) == 1


@pytest.mark.needs_processes(OVERLAP)
def test_max_concurrency_limits_the_coroutines(gate: Gate, tally: Tally) -> None:
    @ray.remote(max_concurrency=3)
    class Limited:
        async def enter(self, gate: Gate, tally: Tally) -> None:
            tally.add("in")
            while not gate.is_open():
                await asyncio.sleep(0.005)

    actor = Limited.remote()
    refs = [actor.enter.remote(gate, tally) for _ in range(6)]
    wait_until(lambda: tally.count() == 3)
    assert ray.wait(refs, timeout=0.2)[0] == []
    assert tally.count() == 3
    gate.open()
    ray.get(refs)
    assert tally.count() == 6


def test_every_call_runs_once() -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        async def add(self, number: int) -> None:
            self.seen.append(number)
            await asyncio.sleep(0.001)

        async def read(self) -> list[int]:
            return self.seen

    log = Log.remote()
    ray.get([log.add.remote(i) for i in range(50)])
    assert sorted(ray.get(log.read.remote())) == list(range(50))


@pytest.mark.needs_processes(OVERLAP)
def test_a_call_that_waits_for_its_argument_does_not_hold_up_later_ones(gate: Gate) -> None:
    @ray.remote
    class Echo:
        async def echo(self, value: Any) -> Any:
            return value

    @ray.remote
    def slow(gate: Gate) -> str:
        gate.wait()
        return "slow"

    actor = Echo.remote()
    first = actor.echo.remote(slow.remote(gate))
    assert ray.get(actor.echo.remote("quick")) == "quick"
    gate.open()
    assert ray.get(first) == "slow"


def test_references_are_awaited_inside_a_method() -> None:
    @ray.remote
    class Awaiter:
        async def total(self, n: int) -> int:
            return sum([await echo.remote(i) for i in range(n)])

        async def gather(self, n: int) -> list[int]:
            return list(await asyncio.gather(*[echo.remote(i) for i in range(n)]))

        async def nested(self, refs: list[Any]) -> Any:
            return await refs[0]

    awaiter = Awaiter.remote()
    assert ray.get(awaiter.total.remote(4)) == 6
    assert ray.get(awaiter.gather.remote(4)) == [0, 1, 2, 3]
    assert ray.get(awaiter.nested.remote([ray.put("inner")])) == "inner"


def test_awaiting_a_failed_reference_raises_inside_the_method() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("inner")

    @ray.remote
    class Awaiter:
        async def careful(self) -> str:
            try:
                await fail.remote()
            except ValueError:
                return "caught"
            return "nothing raised"

    assert ray.get(Awaiter.remote().careful.remote()) == "caught"


def test_an_async_actor_calls_another_actor() -> None:
    @ray.remote
    class Caller:
        def __init__(self, other: Any) -> None:
            self.other = other

        async def call(self) -> int:
            return 10 * await self.other.compute.remote()

    @ray.remote
    class Worker:
        async def compute(self) -> int:
            return 4

    assert ray.get(Caller.remote(Worker.remote()).call.remote()) == 40


def test_an_error_in_an_async_method() -> None:
    @ray.remote
    class Broken:
        async def fail(self) -> None:
            raise KeyError("async")

        async def fine(self) -> str:
            return "fine"

    broken = Broken.remote()
    with pytest.raises(KeyError, match="async") as caught:
        ray.get(broken.fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert ray.get(broken.fine.remote()) == "fine"


def test_sync_methods_run_on_the_event_loops_thread() -> None:
    @ray.remote
    class Mixed:
        async def of_async(self) -> int:
            return threading.get_ident()

        def of_sync(self) -> int:
            return threading.get_ident()

    mixed = Mixed.remote()
    assert ray.get(mixed.of_async.remote()) == ray.get(mixed.of_sync.remote())


def test_a_task_of_the_event_loop_outlives_the_call() -> None:
    @ray.remote
    class Background:
        def __init__(self) -> None:
            self.done = asyncio.Event()
            self.task: asyncio.Task[None] | None = None

        async def start(self) -> None:
            self.task = asyncio.create_task(self.work())

        async def work(self) -> None:
            await asyncio.sleep(0.01)
            self.done.set()

        async def finished(self) -> bool:
            await self.done.wait()
            return True

    background = Background.remote()
    ray.get(background.start.remote())
    assert ray.get(background.finished.remote(), timeout=30)


def test_state_is_shared_between_calls() -> None:
    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        async def increment(self) -> int:
            self.value += 1
            return self.value

    counter = Counter.remote()
    assert sorted(ray.get([counter.increment.remote() for _ in range(100)])) == list(range(1, 101))


def test_each_call_knows_its_own_task() -> None:
    @ray.remote
    class Context:
        async def task_id(self) -> tuple[str, str]:
            before = ray.get_runtime_context().get_task_id()
            await asyncio.sleep(0.01)
            return before, ray.get_runtime_context().get_task_id()

    context = Context.remote()
    answers = ray.get([context.task_id.remote() for _ in range(5)])
    assert all(before == after for before, after in answers)
    assert len({before for before, _ in answers}) == 5


def test_an_async_method_returns_several_objects() -> None:
    @ray.remote
    class Pairs:
        @ray.method(num_returns=2)
        async def pair(self) -> tuple[str, str]:
            return "left", "right"

    assert ray.get(Pairs.remote().pair.remote()) == ["left", "right"]


@pytest.mark.needs_processes("the actor's process ends")
def test_an_async_actor_leaves_by_itself() -> None:
    @ray.remote
    class Leaver:
        async def leave(self) -> None:
            ray.actor.exit_actor()

        async def hello(self) -> str:
            return "hello"

    leaver = Leaver.remote()
    assert ray.get(leaver.hello.remote()) == "hello"
    with pytest.raises(exceptions.RayActorError):
        ray.get(leaver.leave.remote(), timeout=30)
    with pytest.raises(exceptions.RayActorError):
        ray.get(leaver.hello.remote(), timeout=30)


@pytest.mark.needs_processes(OVERLAP)
def test_kill_fails_all_calls_of_an_async_actor() -> None:
    event = Event.remote()
    waiting = [event.wait.remote() for _ in range(5)]
    wait_until(lambda: ray.get(event.count.remote()) == 5)
    ray.kill(event)
    for ref in waiting:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref, timeout=30)


@pytest.mark.needs_processes(OVERLAP)
def test_cancelling_one_call_leaves_the_others() -> None:
    event = Event.remote()
    first, second = event.wait.remote(), event.wait.remote()
    wait_until(lambda: ray.get(event.count.remote()) == 2)
    ray.cancel(first)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(first, timeout=30)
    ray.get(event.open.remote())
    assert ray.get(second) == "opened"


def test_order_is_not_promised_for_async_actors() -> None:
    class Plain:
        async def method(self) -> None:
            pass

    with pytest.raises(ValueError):
        ray.remote(Plain).options(allow_out_of_order_execution=False).remote()


@pytest.mark.needs_processes(OVERLAP)
def test_a_blocking_sync_method_blocks_the_loop(gate: Gate) -> None:
    @ray.remote
    class Mixed:
        def __init__(self) -> None:
            self.blocked = False

        def block(self, seconds: float) -> None:
            self.blocked = True
            time.sleep(seconds)
            self.blocked = False

        async def is_blocked(self) -> bool:
            return self.blocked

    mixed = Mixed.remote()
    blocking = mixed.block.remote(0.1)
    assert not ray.get(mixed.is_blocked.remote())
    ray.get(blocking)
