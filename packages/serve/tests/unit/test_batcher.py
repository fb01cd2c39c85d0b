"""Batches: who travels with whom, when they leave, what each gets, and who may get off."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import cloudpickle
import pytest

import serve
from serve.batching.batcher import Batcher, BatchOptions, batchers
from serve.context import RequestContext, reset_request_context, set_request_context
from serve.errors import RayServeException

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """A function of lists that waits until it is let go on."""

    def __init__(self, *, open: bool = True, **options: Any) -> None:
        self.batches: list[list[Any]] = []
        self.cancelled = 0
        self.go = asyncio.Event()
        if open:
            self.go.set()
        defaults = {"max_batch_size": 4, "batch_wait_timeout_s": 0.0}
        self.batcher = Batcher(self._work, "work", BatchOptions(**{**defaults, **options}))

    async def _work(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [item * 2 for item in items]

    def bring(self, *items: Any) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.batcher.one((item,))) for item in items]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_comes_while_a_batch_runs_travels_together_up_to_the_limit() -> None:
    server = Server(open=False)
    tasks = server.bring(1)
    await settle()
    tasks += server.bring(2, 3, 4, 5, 6)
    await settle()
    assert server.batches == [[1]]
    assert server.batcher.waiting == 5
    server.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12]
    assert server.batches == [[1], [2, 3, 4, 5], [6]]
    assert server.batcher.counters.batches == 3
    assert server.batcher.counters.items == 6


async def test_a_full_batch_does_not_wait() -> None:
    server = Server(batch_wait_timeout_s=math.inf)
    assert await asyncio.gather(*server.bring(1, 2, 3, 4)) == [2, 4, 6, 8]
    waiting = server.bring(5)
    await settle()
    assert server.batches == [[1, 2, 3, 4]]
    waiting[0].cancel()
    await settle()
    assert server.batcher.waiting == 0


async def test_several_batches_at_a_time() -> None:
    server = Server(open=False, max_batch_size=1, max_concurrent_batches=2)
    tasks = server.bring(1, 2, 3)
    await settle()
    assert server.batches == [[1], [2]]
    server.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_the_size_of_a_batch_by_a_function() -> None:
    server = Server(open=False, max_batch_size=10, batch_size_fn=lambda items: sum(len(item) for item in items))
    tasks = server.bring("first")
    await settle()
    tasks += server.bring("aaaa", "bbbb", "cccc", "longer than any batch", "d")
    await settle()
    server.go.set()
    await asyncio.gather(*tasks)
    assert server.batches == [["first"], ["aaaa", "bbbb"], ["cccc"], ["longer than any batch"], ["d"]]


async def test_models_never_share_a_batch_and_none_waits_behind_another() -> None:
    server = Server(batch_wait_timeout_s=math.inf, max_batch_size=2)

    async def bring(model_id: str, item: str) -> Any:
        token = set_request_context(RequestContext("r", multiplexed_model_id=model_id))
        try:
            return await server.batcher.one((item,))
        finally:
            reset_request_context(token)

    lonely = asyncio.create_task(bring("a", "a1"))
    await settle()
    assert await asyncio.gather(bring("b", "b1"), bring("b", "b2")) == ["b1b1", "b2b2"]
    assert server.batches == [["b1", "b2"]]
    assert await bring("a", "a2") == "a2a2"
    assert await lonely == "a1a1"
    assert server.batches[1:] == [["a1", "a2"]]


async def test_who_goes_away_leaves_the_line() -> None:
    server = Server(open=False)
    tasks = server.bring(1)
    await settle()
    tasks += server.bring(2, 3)
    await settle()
    tasks[1].cancel()
    await settle()
    server.go.set()
    assert await asyncio.gather(tasks[0], tasks[2]) == [2, 6]
    assert server.batches == [[1], [3]]


async def test_a_batch_is_cancelled_only_when_nobody_waits_for_it() -> None:
    server = Server(open=False, batch_wait_timeout_s=math.inf, max_batch_size=2)
    tasks = server.bring(1, 2)
    await settle()
    tasks[0].cancel()
    await settle()
    assert server.cancelled == 0
    tasks[1].cancel()
    await settle()
    assert server.cancelled == 1
    server.go.set()
    assert await asyncio.gather(*server.bring(3, 4)) == [6, 8]


@pytest.mark.parametrize(
    ("results", "words"), [([1], "2 items and gave 1"), ("ab", "not 'ab'"), (None, "not None"), ({1: 1, 2: 2}, "not {")]
)
async def test_what_is_no_list_of_results_is_refused(results: Any, words: str) -> None:
    async def wrong(items: list[int]) -> Any:
        return results

    batcher = Batcher(wrong, "wrong", BatchOptions(max_batch_size=2, batch_wait_timeout_s=math.inf))
    answers = await asyncio.gather(batcher.one((1,)), batcher.one((2,)), return_exceptions=True)
    assert all(isinstance(answer, RayServeException) and words in str(answer) for answer in answers), answers


async def test_streams() -> None:
    closed: list[str] = []

    async def count(limits: list[int]) -> AsyncIterator[list[Any]]:
        try:
            for number in range(max(limits) + 1):
                yield [
                    number if number < limit else (ValueError("odd") if limit == 1 else StopIteration)
                    for limit in limits
                ]
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    batcher = Batcher(count, "count", BatchOptions(max_batch_size=3, batch_wait_timeout_s=math.inf))

    async def collect(limit: int) -> list[Any]:
        seen: list[Any] = []
        try:
            async for item in batcher.stream((limit,)):
                seen.append(item)
        except ValueError as error:
            seen.append(str(error))
        return seen

    assert await asyncio.gather(collect(0), collect(1), collect(3)) == [[], [0, "odd"], [0, 1, 2]]
    await settle()
    assert closed == ["closed"]


async def test_a_stream_that_nobody_reads_any_more_is_ended() -> None:
    ended = asyncio.Event()

    async def forever(items: list[int]) -> AsyncIterator[list[int]]:
        try:
            while True:
                yield items
                await asyncio.sleep(0)
        finally:
            ended.set()

    batcher = Batcher(forever, "forever", BatchOptions(max_batch_size=1))
    stream = batcher.stream((1,))
    assert await anext(stream) == 1  # type: ignore[arg-type]
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(ended.wait(), 10)


async def test_functions_of_several_parameters() -> None:
    class Model:
        @serve.batch(max_batch_size=3, batch_wait_timeout_s=0.01)
        async def weigh(self, values: list[int], weights: list[int], bias: list[int] = 0) -> list[int]:  # type: ignore[assignment]
            return [value * weight + extra for value, weight, extra in zip(values, weights, bias, strict=True)]

    model: Any = Model()
    answers = await asyncio.gather(model.weigh(1, 2), model.weigh(3, weights=4), model.weigh(5, 6, bias=1))
    assert answers == [2, 12, 31]
    with pytest.raises(TypeError, match="weights"):
        await model.weigh(1)


async def test_options_change_while_items_wait() -> None:
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=600)
    async def double(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    first = asyncio.create_task(double(1))
    await settle()
    double.set_batch_wait_timeout_s(0)
    assert await asyncio.wait_for(first, 30) == 1
    double.set_batch_wait_timeout_s(600)
    double.set_max_batch_size(2)
    assert await asyncio.wait_for(asyncio.gather(double(1), double(2)), 30) == [2, 2]
    assert double.get_max_batch_size() == 2
    assert [batcher.name for batcher in batchers() if "double" in batcher.name]
    for name, wrong in (("max_batch_size", 0), ("batch_wait_timeout_s", -1), ("target_latency_ms", 0)):
        with pytest.raises(ValueError, match=name):
            getattr(double, f"set_{name}")(wrong)


async def test_a_target_makes_the_first_batches_small_and_later_ones_larger() -> None:
    sizes: list[int] = []

    @serve.batch(target_latency_ms=60_000)
    async def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    for _ in range(8):
        await asyncio.gather(*(work(number) for number in range(64)))
    assert sizes[:4] == [1, 2, 4, 8]
    assert max(sizes) > 16
    assert work.get_target_latency_ms() == 60_000


def test_a_batched_function_can_be_sent_to_another_process() -> None:
    @serve.batch(max_batch_size=7)
    async def work(items: list[int]) -> list[int]:
        return items

    there = cloudpickle.loads(cloudpickle.dumps(work))
    assert there.get_max_batch_size() == 7
    assert asyncio.run(there(3)) == 3


def test_wrong_uses_are_refused() -> None:
    with pytest.raises(TypeError, match="async def"):
        serve.batch(lambda items: items)

    async def variadic(*items: list[int]) -> None: ...

    async def nothing(self: object) -> None: ...

    with pytest.raises(TypeError, match="name its parameters"):
        serve.batch(variadic)
    with pytest.raises(TypeError, match="at least one argument"):
        serve.batch(nothing)
    with pytest.raises(TypeError, match="batch_size_fn"):
        serve.batch(batch_size_fn=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_concurrent_batches"):
        serve.batch(max_concurrent_batches=0)
