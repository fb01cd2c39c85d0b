"""Batches and many models in real replicas, through HTTP and handles."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

import serve
from tests.eventually import eventually
from tests.serve.conftest import url

pytestmark = pytest.mark.usefixtures("apps")

LONG = 60


def test_a_target_finds_sizes_that_keep_up_with_the_load() -> None:
    @serve.deployment
    class Model:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        @serve.batch(target_latency_ms=60_000)
        async def predict(self, numbers: list[int]) -> list[int]:
            self.sizes.append(len(numbers))
            await asyncio.sleep(0.01)
            return [2 * number for number in numbers]

        async def __call__(self, request: Request) -> int:
            return await self.predict(int(request.query_params["number"]))

        async def many(self, count: int) -> list[int]:
            return await asyncio.gather(*(self.predict(number) for number in range(count)))

        async def seen(self) -> list[int]:
            return self.sizes

    handle = serve.run(Model.bind())
    assert handle.many.remote(200).result(LONG) == [2 * number for number in range(200)]
    sizes = handle.seen.remote().result()
    assert sizes[:3] == [1, 2, 4]
    assert max(sizes) >= 32
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: httpx.get(url(f"/?number={number}"), timeout=LONG).json(), range(16)))
    assert answers == [2 * number for number in range(16)]


def test_options_of_batches_follow_the_user_config() -> None:
    @serve.deployment(user_config={"size": 2})
    class Model:
        @serve.batch(batch_wait_timeout_s=600)
        async def size(self, items: list[int]) -> list[int]:
            return [len(items)] * len(items)

        def reconfigure(self, config: dict[str, int]) -> None:
            self.size.set_max_batch_size(config["size"])

        async def __call__(self, item: int) -> int:
            return await self.size(item)

    handle = serve.run(Model.bind(), route_prefix=None)
    assert [response.result(LONG) for response in [handle.remote(1), handle.remote(2)]] == [2, 2]
    waiting = [handle.remote(number) for number in range(3)]
    assert [response.result(LONG) for response in waiting[:2]] == [2, 2]
    serve.run(Model.options(user_config={"size": 1}).bind(), route_prefix=None)
    assert waiting[2].result(LONG) == 1, "whoever waits goes on under the new options"


def test_a_client_that_leaves_takes_its_item_along(tmp_path: Path) -> None:
    @serve.deployment
    class Model:
        def __init__(self, log: Path) -> None:
            self.log = log
            self.items: list[str] = []

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
        async def work(self, items: list[str]) -> list[str]:
            self.items += items
            try:
                if "slow" in items:
                    self.log.write_text("begun")
                    await asyncio.sleep(600)
            except asyncio.CancelledError:
                self.log.write_text("cancelled")
                raise
            return items

        async def __call__(self, item: str) -> str:
            return str(await self.work(item))

        async def seen(self) -> list[str]:
            return self.items

    log = tmp_path / "log"
    handle = serve.run(Model.bind(log), route_prefix=None)
    slow = handle.remote("slow")
    eventually(lambda: log.exists() and log.read_text() == "begun", LONG)
    leaves, stays = handle.remote("leaves"), handle.remote("stays")
    leaves.cancel()
    with pytest.raises(serve.errors.RequestCancelledError):
        leaves.result(LONG)
    slow.cancel()
    eventually(lambda: log.read_text() == "cancelled", LONG)
    assert stays.result(LONG) == "stays"
    assert handle.seen.remote().result() == ["slow", "stays"]


def test_models_wait_for_their_users_and_all_end_with_the_replica(tmp_path: Path) -> None:
    class Model:
        def __init__(self, name: str, log: Path) -> None:
            self.name, self.log = name, log

        async def __del__(self) -> None:
            with self.log.open("a") as file:
                file.write(f"{self.name}\n")

    @serve.deployment
    class Models:
        def __init__(self, log: Path) -> None:
            self.log = log
            self.loads: list[str] = []

        @serve.multiplexed(max_num_models_per_replica=1)
        async def load(self, model_id: str) -> Model:
            self.loads.append(model_id)
            return Model(model_id, self.log)

        async def use(self, until: str) -> str:
            model = await self.load(serve.get_multiplexed_model_id())
            while until and not os.path.exists(until):
                await asyncio.sleep(0.01)
            return str(model.name)

        async def seen(self) -> list[str]:
            return self.loads

    log, go = tmp_path / "log", tmp_path / "go"

    def of(model_id: str) -> Any:
        return handle.options(multiplexed_model_id=model_id).use

    handle = serve.run(Models.bind(log), route_prefix=None)
    using = of("a").remote(str(go))
    eventually(lambda: handle.seen.remote().result() == ["a"], LONG)
    other = of("b").remote("")
    with pytest.raises(TimeoutError):
        other.result(0.3)
    assert not log.exists(), "its user has not ended"
    go.touch()
    assert using.result(LONG) == "a"
    assert other.result(LONG) == "b"
    assert log.read_text().split() == ["a"]
    serve.delete("default")
    assert log.read_text().split() == ["a", "b"]
