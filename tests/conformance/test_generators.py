"""Generators: items stream while the task runs; errors, backpressure, cancelling, async iteration."""

# ruff: noqa: UP028 - Ray fails on `yield from` over anything but a generator, so the loops are spelt out here

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions
STREAMING = "the producer must run while the driver reads"
SOON = 30


@ray.remote
def count(n: int) -> Iterator[int]:
    for i in range(n):
        yield i


@ray.remote
def count_then_fail(n: int) -> Iterator[int]:
    for i in range(n):
        yield i
    raise ValueError("generator failed")


@ray.remote
def count_with_tally(n: int, tally: Tally) -> Iterator[int]:
    for i in range(n):
        tally.add(i)
        yield i


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
class Source:
    """Generators as actor methods."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, n: int) -> Iterator[int]:
        self.calls += 1
        for i in range(n):
            yield i

    def fail(self) -> Iterator[int]:
        yield 1
        raise KeyError("method failed")

    def read(self) -> int:
        return self.calls


@ray.remote
class AsyncSource:
    """Async generators as actor methods."""

    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def fail(self) -> AsyncIterator[int]:
        yield 1
        raise KeyError("method failed")


def test_a_generator_function_streams_by_default() -> None:
    assert isinstance(count.remote(1), ray.ObjectRefGenerator)


def test_iteration_gives_references() -> None:
    refs = list(count.remote(3))
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2]


def test_next_gives_one_reference_at_a_time() -> None:
    generator = count.remote(2)
    assert ray.get(next(generator)) == 0
    assert ray.get(next(generator)) == 1
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)


@pytest.mark.better_than_ray("a generator may delegate to any iterable with `yield from`")
def test_a_generator_may_delegate_to_any_iterable() -> None:
    @ray.remote
    def delegate() -> Iterator[int]:
        yield from [1, 2]
        yield from range(3, 5)

    assert ray.get(list(delegate.remote())) == [1, 2, 3, 4]


def test_an_empty_generator() -> None:
    assert list(count.remote(0)) == []


@pytest.mark.needs_processes(STREAMING)
def test_items_arrive_before_the_task_ends(gate: Gate) -> None:
    @ray.remote
    def two(gate: Gate) -> Iterator[str]:
        yield "early"
        gate.wait()
        yield "late"

    generator = two.remote(gate)
    assert ray.get(next(generator)) == "early"
    assert not gate.is_open()
    gate.open()
    assert ray.get(next(generator)) == "late"


def test_items_can_be_arguments_of_tasks() -> None:
    assert ray.get([echo.remote(ref) for ref in count.remote(4)]) == [0, 1, 2, 3]


def test_arguments_by_reference_reach_a_generator() -> None:
    assert ray.get(list(count.remote(ray.put(3)))) == [0, 1, 2]


def test_items_of_any_size_and_number() -> None:
    @ray.remote
    def arrays(n: int) -> Iterator[Any]:
        for i in range(n):
            yield np.full(40_000, i)

    for i, ref in enumerate(arrays.remote(10)):
        array = ray.get(ref)
        assert array.shape == (40_000,) and (array == i).all()
    assert sum(ray.get(list(count.remote(500)))) == sum(range(500))


def test_items_outlive_the_generator() -> None:
    generator = count.remote(3)
    refs = list(generator)
    del generator
    assert ray.get(refs) == [0, 1, 2]


def test_an_error_is_the_last_item() -> None:
    generator = count_then_fail.remote(2)
    assert [ray.get(next(generator)), ray.get(next(generator))] == [0, 1]
    failed = next(generator)
    with pytest.raises(ValueError, match="generator failed"):
        ray.get(failed)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)


def test_an_error_before_the_first_item() -> None:
    (failed,) = count_then_fail.remote(0)
    with pytest.raises(ValueError, match="generator failed"):
        ray.get(failed)


def test_a_generator_with_a_failed_argument() -> None:
    @ray.remote
    def fail() -> int:
        raise KeyError("argument")

    with pytest.raises(KeyError):
        ray.get(list(count.remote(fail.remote())))


def test_an_item_that_cannot_be_pickled_is_an_error() -> None:
    @ray.remote
    def locks() -> Iterator[Any]:
        import threading

        yield 1
        yield threading.Lock()

    generator = locks.remote()
    assert ray.get(next(generator)) == 1
    with pytest.raises(TypeError):
        ray.get(next(generator))


def test_completed_is_ready_when_the_task_ended() -> None:
    generator = count.remote(3)
    completed = generator.completed()
    assert ray.wait([completed], timeout=SOON) == ([completed], [])
    assert ray.get(list(generator)) == [0, 1, 2]


def test_completed_is_ready_also_when_the_task_failed() -> None:
    completed = count_then_fail.remote(1).completed()
    assert ray.wait([completed], timeout=SOON) == ([completed], [])


def test_a_generator_knows_when_it_is_finished() -> None:
    generator = count.remote(1)
    assert not generator.is_finished()
    ray.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()


@pytest.mark.needs_processes(STREAMING)
def test_next_ready_tells_whether_an_item_is_there(gate: Gate) -> None:
    @ray.remote
    def gated(gate: Gate) -> Iterator[int]:
        gate.wait()
        yield 1

    generator = gated.remote(gate)
    assert not generator.next_ready()
    gate.open()
    wait_until(generator.next_ready)
    assert ray.get(next(generator)) == 1


@pytest.mark.needs_processes(STREAMING)
def test_wait_takes_generators(gate: Gate) -> None:
    @ray.remote
    def gated(gate: Gate) -> Iterator[int]:
        gate.wait()
        yield 1

    slow, quick = gated.remote(gate), count.remote(1)
    ready, rest = ray.wait([slow, quick], timeout=SOON)
    assert ready == [quick] and rest == [slow]
    gate.open()
    assert ray.get(list(slow)) == [1]


def test_get_returns_a_generator_unchanged() -> None:
    generator = count.remote(1)
    assert ray.get(generator) is generator


def test_a_generator_cannot_be_pickled() -> None:
    generator = count.remote(1)
    with pytest.raises(TypeError):
        pickle.dumps(generator)
    with pytest.raises(TypeError):
        echo.remote([generator])


def test_a_fixed_number_of_returns_materialises_a_generator() -> None:
    refs = count.options(num_returns=3).remote(3)
    assert ray.get(refs) == [0, 1, 2]


def test_too_few_items_for_a_fixed_number_of_returns() -> None:
    refs = count.options(num_returns=3).remote(2)
    with pytest.raises(ValueError):
        ray.get(refs[2])


def test_num_returns_streaming_may_be_given() -> None:
    @ray.remote(num_returns="streaming")
    def explicit() -> Iterator[int]:
        yield 1

    assert ray.get(list(explicit.remote())) == [1]


def test_num_returns_dynamic_gives_a_reference_to_references() -> None:
    @ray.remote(num_returns="dynamic")
    def dynamic(n: int) -> Iterator[int]:
        for i in range(n):
            yield i

    outer = dynamic.remote(3)
    assert isinstance(outer, ray.ObjectRef)
    assert [ray.get(ref) for ref in ray.get(outer)] == [0, 1, 2]


@pytest.mark.needs_processes(STREAMING)
def test_backpressure_stops_the_producer(tally: Tally) -> None:
    generator = count_with_tally.options(_generator_backpressure_num_objects=2).remote(10, tally)
    wait_until(lambda: tally.count() == 2)
    assert ray.wait([echo.remote(1)], timeout=SOON)[0]
    assert tally.count() == 2
    assert ray.get(next(generator)) == 0
    wait_until(lambda: tally.count() == 3)
    assert [ray.get(ref) for ref in generator] == list(range(1, 10))
    assert tally.count() == 10


@pytest.mark.needs_processes(STREAMING)
def test_without_backpressure_the_producer_runs_ahead(tally: Tally) -> None:
    generator = count_with_tally.remote(50, tally)
    wait_until(lambda: tally.count() == 50)
    assert ray.get(list(generator)) == list(range(50))


@pytest.mark.needs_processes(STREAMING)
@pytest.mark.parametrize("limit", [1, 3])
def test_backpressure_loses_nothing(limit: int) -> None:
    generator = count.options(_generator_backpressure_num_objects=limit).remote(30)
    assert [ray.get(ref) for ref in generator] == list(range(30))


def test_a_backpressure_of_zero_is_refused() -> None:
    with pytest.raises(ValueError):
        count.options(_generator_backpressure_num_objects=0).remote(1)


@pytest.mark.needs_processes(STREAMING)
def test_a_dropped_generator_releases_its_producer(tally: Tally) -> None:
    generator = count_with_tally.options(_generator_backpressure_num_objects=1).remote(5, tally)
    wait_until(lambda: tally.count() == 1)
    del generator  # the session's check would find the CPU still taken


@pytest.mark.needs_processes(STREAMING)
@pytest.mark.better_than_ray("deleting a generator ends an endless producer instead of letting it run on")
def test_a_dropped_generator_ends_an_endless_producer(tally: Tally) -> None:
    @ray.remote(_generator_backpressure_num_objects=1)
    def endless(tally: Tally) -> Iterator[int]:
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            tally.add("closed")

    generator = endless.remote(tally)
    assert ray.get(next(generator)) == 0
    del generator
    wait_until(lambda: tally.lines() == ["closed"], what="the producer to end")


@pytest.mark.needs_processes(STREAMING)
def test_a_running_generator_is_cancelled(gate: Gate) -> None:
    @ray.remote
    def endless(started: Gate) -> Iterator[int]:
        yield 1
        started.open()
        while True:
            time.sleep(0.001)

    generator = endless.remote(gate)
    assert ray.get(next(generator)) == 1
    gate.wait()
    ray.cancel(generator)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in generator:
            ray.get(ref, timeout=SOON)


def test_async_iteration_in_the_driver() -> None:
    async def main() -> list[int]:
        return [await ref async for ref in count.remote(5)]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_two_generators_are_read_side_by_side() -> None:
    async def read(generator: Any) -> list[int]:
        return [await ref async for ref in generator]

    async def main() -> list[list[int]]:
        return list(await asyncio.gather(read(count.remote(3)), read(count.remote(4))))

    assert asyncio.run(main()) == [[0, 1, 2], [0, 1, 2, 3]]


def test_an_error_in_async_iteration() -> None:
    async def main() -> list[int]:
        return [await ref async for ref in count_then_fail.remote(1)]

    with pytest.raises(ValueError, match="generator failed"):
        asyncio.run(main())


def test_generator_methods_of_actors() -> None:
    source = Source.remote()
    assert ray.get(list(source.count.remote(3))) == [0, 1, 2]
    assert ray.get(list(source.count.remote(2))) == [0, 1]
    assert ray.get(source.read.remote()) == 2


def test_an_error_in_a_generator_method() -> None:
    generator = Source.remote().fail.remote()
    assert ray.get(next(generator)) == 1
    with pytest.raises(KeyError):
        ray.get(next(generator))


def test_async_generator_methods_of_actors() -> None:
    source = AsyncSource.remote()
    first, second = source.count.remote(3), source.count.remote(4)
    assert ray.get(list(second)) == [0, 1, 2, 3]
    assert ray.get(list(first)) == [0, 1, 2]


def test_an_error_in_an_async_generator_method() -> None:
    generator = AsyncSource.remote().fail.remote()
    assert ray.get(next(generator)) == 1
    with pytest.raises(KeyError):
        ray.get(next(generator))


def test_a_generator_is_read_inside_a_task() -> None:
    @ray.remote
    def reader(n: int) -> int:
        return sum(ray.get(ref) for ref in count.remote(n))

    assert ray.get(reader.remote(5)) == 10


def test_a_generator_is_read_inside_an_async_actor() -> None:
    @ray.remote
    class Reader:
        async def read(self, n: int) -> int:
            total = 0
            async for ref in count.remote(n):
                total += await ref
            return total

    assert ray.get(Reader.remote().read.remote(5)) == 10


@pytest.mark.needs_processes("the worker process ends")
def test_a_crashed_generator_is_retried(tally: Tally) -> None:
    @ray.remote(max_retries=2)
    def crash_once(tally: Tally) -> Iterator[int]:
        attempt = tally.add()
        for i in range(4):
            if i == 2 and attempt == 1:
                os._exit(1)
            yield i

    assert [ray.get(ref, timeout=60) for ref in crash_once.remote(tally)] == [0, 1, 2, 3]
    assert tally.count() == 2


@pytest.mark.needs_processes("the worker process ends")
def test_a_crash_without_retries_is_the_last_item() -> None:
    @ray.remote(max_retries=0)
    def crash() -> Iterator[int]:
        yield 1
        os._exit(1)

    with pytest.raises(exceptions.WorkerCrashedError):
        for ref in crash.remote():
            ray.get(ref, timeout=SOON)


@pytest.mark.needs_processes(STREAMING)
def test_killing_the_actor_ends_its_generator(gate: Gate) -> None:
    @ray.remote
    class Waiter:
        def items(self, gate: Gate) -> Iterator[int]:
            yield 1
            gate.wait()
            yield 2

    waiter = Waiter.remote()
    generator = waiter.items.remote(gate)
    assert ray.get(next(generator)) == 1
    ray.kill(waiter)
    with pytest.raises(exceptions.RayActorError):
        for ref in generator:
            ray.get(ref, timeout=SOON)


@pytest.mark.needs_processes("the worker process ends")
def test_a_new_attempt_leaves_the_items_that_are_there_already_alone(tally: Tally) -> None:
    @ray.remote(max_retries=2)
    def crash_once(tally: Tally) -> Iterator[Any]:
        attempt = tally.add()
        for i in range(3):
            if i == 2 and attempt == 1:
                os._exit(1)
            yield np.full(300_000, i, np.uint8)

    refs = list(crash_once.remote(tally))
    assert [int(ray.get(ref, timeout=60)[0]) for ref in refs] == [0, 1, 2]


@pytest.mark.needs_processes("the worker process ends")
def test_a_new_attempt_knows_how_much_is_consumed(tally: Tally) -> None:
    @ray.remote(max_retries=2, _generator_backpressure_num_objects=1)
    def crash_once(tally: Tally) -> Iterator[int]:
        attempt = tally.add()
        for i in range(4):
            if i == 2 and attempt == 1:
                os._exit(1)
            yield i

    assert [ray.get(ref, timeout=60) for ref in crash_once.remote(tally)] == [0, 1, 2, 3]


@pytest.mark.needs_processes("inline, items that were yielded are not taken back")
def test_a_failed_generator_is_tried_again_where_exceptions_are(tally: Tally) -> None:
    @ray.remote(max_retries=2, retry_exceptions=[ValueError])
    def fail_once(tally: Tally) -> Iterator[int]:
        attempt = tally.add()
        for i in range(4):
            if i == 2 and attempt == 1:
                raise ValueError("only once")
            yield i

    assert [ray.get(ref, timeout=60) for ref in fail_once.remote(tally)] == [0, 1, 2, 3]
    assert tally.count() == 2


@pytest.mark.needs_processes("inline, items that were yielded are not taken back")
def test_a_failed_generator_method_is_tried_again_where_exceptions_are(tally: Tally) -> None:
    @ray.remote(max_task_retries=2)
    class Failing:
        def items(self, tally: Tally) -> Iterator[int]:
            attempt = tally.add()
            for i in range(4):
                if i == 2 and attempt == 1:
                    raise ValueError("only once")
                yield i

    failing = Failing.remote()
    items = failing.items.options(retry_exceptions=True).remote(tally)
    assert [ray.get(ref, timeout=60) for ref in items] == [0, 1, 2, 3]


@pytest.mark.needs_processes("two tasks at a time")
def test_a_task_that_waits_for_a_generator_lends_its_cpus() -> None:
    @ray.remote(num_cpus=4)
    def outer() -> int:
        generator = count.options(num_cpus=4).remote(1)
        ready, _ = ray.wait([generator], timeout=SOON)
        return len(ready)

    assert ray.get(outer.remote(), timeout=60) == 1


@pytest.mark.needs_processes(STREAMING)
def test_waiting_for_an_item_may_be_given_up(gate: Gate) -> None:
    @ray.remote
    def after(gate: Gate) -> Iterator[int]:
        gate.wait()
        yield 1
        yield 2

    async def consume() -> list[int]:
        generator = after.remote(gate)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(generator), 0.05)
        gate.open()
        await asyncio.to_thread(ray.wait, [generator.completed()], timeout=SOON)
        return [await ref async for ref in generator]

    assert asyncio.run(consume()) == [1, 2]
