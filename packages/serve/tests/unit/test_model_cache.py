"""The cache of multiplexed models: what is loaded, what goes, and who is waited for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

import serve
from serve.context import RequestContext, reset_request_context, set_request_context
from serve.multiplex.cache import ModelCache, ModelState

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Model:
    """Says when it goes."""

    def __init__(self, model_id: str, gone: list[str]) -> None:
        self.model_id = model_id
        self.gone = gone

    def __del__(self) -> None:
        self.gone.append(self.model_id)


class Shop:
    """A loader whose loads wait until they are let through."""

    def __init__(self, limit: int, *, slow: bool = False) -> None:
        self.loads: list[str] = []
        self.gone: list[str] = []
        self.go = asyncio.Event()
        if not slow:
            self.go.set()
        self.cache = ModelCache(self._load, limit)

    async def _load(self, model_id: str) -> Model:
        self.loads.append(model_id)
        await self.go.wait()
        if model_id == "broken":
            raise OSError("no such weights")
        return Model(model_id, self.gone)


async def request(work: Coroutine[Any, Any, Any], name: str = "r") -> Any:
    """Run something as a request."""
    token = set_request_context(RequestContext(name))
    try:
        return await work
    finally:
        reset_request_context(token)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_least_recently_used_goes_before_the_next_is_loaded() -> None:
    shop = Shop(2)
    for model_id in ("a", "b", "a", "c"):
        assert (await request(shop.cache.get(model_id))).model_id == model_id
    assert shop.gone == ["b"]
    assert shop.cache.model_ids == ("a", "c")
    assert shop.cache.counters.loads == 3
    assert shop.cache.counters.hits == 1


async def test_one_load_for_all_who_ask() -> None:
    shop = Shop(3, slow=True)
    asking = [asyncio.create_task(request(shop.cache.get("a"))) for _ in range(5)]
    await settle()
    assert shop.cache.states() == {"a": ModelState.LOADING}
    asking[0].cancel()  # the others' load goes on
    shop.go.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert len({id(answer) for answer in answers[1:]}) == 1
    assert shop.loads == ["a"]
    assert shop.cache.states() == {"a": ModelState.READY}


async def test_a_failed_load_fails_all_who_wait_and_is_tried_again() -> None:
    shop = Shop(3)
    answers = await asyncio.gather(*(request(shop.cache.get("broken")) for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["no such weights"] * 3
    with pytest.raises(OSError, match="weights"):
        await request(shop.cache.get("broken"))
    assert shop.loads == ["broken", "broken"]
    assert shop.cache.states() == {}


async def test_a_model_waits_for_its_users() -> None:
    shop = Shop(1)
    leave = asyncio.Event()

    async def use() -> str:
        model = await shop.cache.get("a")
        await leave.wait()
        return str(model.model_id)

    using = asyncio.create_task(request(use()))
    await settle()
    other = asyncio.create_task(request(shop.cache.get("b")))
    await settle()
    assert shop.cache.states() == {"a": ModelState.UNLOADING, "b": ModelState.LOADING}
    assert shop.loads == ["a"]
    assert shop.gone == []
    leave.set()
    assert await using == "a"
    assert (await other).model_id == "b"
    assert shop.gone == ["a"]


async def test_an_idle_model_goes_before_one_in_use() -> None:
    shop = Shop(2)
    leave = asyncio.Event()

    async def use(model_id: str) -> None:
        await shop.cache.get(model_id)
        await leave.wait()

    using = asyncio.create_task(request(use("a")))
    await settle()
    await request(shop.cache.get("b"))
    await request(shop.cache.get("c"))
    assert shop.gone == ["b"]
    leave.set()
    await using


async def test_requests_that_hold_one_model_and_wait_for_another_do_not_wait_for_each_other() -> None:
    shop = Shop(1)
    met = asyncio.Barrier(2)

    async def both() -> str:
        first = await shop.cache.get("a")
        await met.wait()
        second = await shop.cache.get("b")
        return f"{first.model_id}{second.model_id}"

    answers = await asyncio.wait_for(asyncio.gather(request(both(), "1"), request(both(), "2")), 10)
    assert answers == ["ab", "ab"]


async def test_many_requests_for_more_models_than_there_is_room() -> None:
    """However loads and ends interleave, everybody gets the model he asked for, and none is lost or kept."""
    shop = Shop(2)

    async def use(number: int) -> None:
        for step in range(5):
            wanted = f"m{(number * 7 + step) % 5}"
            model = await shop.cache.get(wanted)
            assert model.model_id == wanted
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(request(use(n), str(n)) for n in range(20))), 30)
    assert len(shop.cache.model_ids) <= 2
    gc.collect()
    assert len(shop.gone) == len(shop.loads) - len(shop.cache.model_ids)


async def test_unloading_by_order() -> None:
    shop = Shop(-1)
    await shop.cache.load("a")
    await shop.cache.load("b")
    assert await shop.cache.unload("a")
    assert not await shop.cache.unload("a")
    await shop.cache.unload_all()
    assert shop.gone == ["a", "b"]
    assert shop.cache.counters.unloads == 2


async def test_an_asynchronous_finalizer_is_awaited_once() -> None:
    finalized: list[str] = []

    class Connected:
        async def __del__(self) -> None:
            await asyncio.sleep(0)
            finalized.append("closed")

    async def load(model_id: str) -> Connected:
        return Connected()

    cache = ModelCache(load, 1)
    await request(cache.get("a"))
    await request(cache.get("b"))
    assert finalized == ["closed"]
    await cache.unload_all()
    gc.collect()
    assert finalized == ["closed"] * 2


async def test_a_finalizer_that_raises_fails_nobody() -> None:
    class Bad:
        async def __del__(self) -> None:
            raise RuntimeError("cannot close")

    async def load(model_id: str) -> Bad:
        return Bad()

    cache = ModelCache(load, 1)
    await request(cache.get("a"))
    assert isinstance(await request(cache.get("b")), Bad)
    await cache.unload_all()


async def test_a_model_that_refers_to_itself_is_freed_before_the_next_load() -> None:
    gone: list[str] = []

    class Knot(Model):
        def __init__(self, model_id: str, gone: list[str]) -> None:
            super().__init__(model_id, gone)
            self.myself = self

    async def load(model_id: str) -> Knot:
        return Knot(model_id, gone)

    cache = ModelCache(load, 1)
    await request(cache.get("a"))
    await request(cache.get("b"))
    assert gone == ["a"]


def test_wrong_uses_are_refused() -> None:
    with pytest.raises(ValueError, match="max_num_models_per_replica"):
        serve.multiplexed(max_num_models_per_replica=0)
    with pytest.raises(TypeError, match="async def"):
        serve.multiplexed(lambda model_id: model_id)

    async def two(first: str, second: str) -> None: ...

    with pytest.raises(TypeError, match="one argument"):
        serve.multiplexed(two)

    @serve.multiplexed
    async def load(model_id: str) -> str:
        return model_id

    with pytest.raises(ValueError, match="id of a model"):
        asyncio.run(load(""))
