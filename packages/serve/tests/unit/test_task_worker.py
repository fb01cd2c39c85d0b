"""A worker on a queue, without replicas: what it begins, interrupts, reports and gives back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from serve.tasks.lifecycle import Policy, TaskStatus
from serve.tasks.payload import encode
from serve.tasks.queue import TaskQueue
from serve.tasks.worker import Worker, current

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shop:
    """A queue and a worker whose functions wait until they are let through."""

    def __init__(self, path: Path) -> None:
        self.queue = TaskQueue(path)
        self.go = threading.Event()
        self.begun: list[str] = []
        self.interrupted: list[str] = []
        functions: dict[str, Callable[..., Any]] = {"wait": self._wait, "block": self._block}
        self.worker = Worker(self.queue, functions, 2, asyncio.get_running_loop())

    async def _wait(self, name: str) -> str:
        self.begun.append(name)
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.interrupted.append(name)
            raise
        return name

    def _block(self, name: str) -> str:
        self.begun.append(name)
        about = current()
        assert about is not None
        while not self.go.wait(0.01) and not about.cancelled:
            pass
        if about.cancelled:
            self.interrupted.append(name)
        return name

    def add(self, function: str, name: str, **policy: Any) -> str:
        return self.queue.submit(function, encode([[name], {}]), Policy(**policy)).id

    def status(self, task_id: str) -> TaskStatus:
        return self.queue.get(task_id).status


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path / "q.sqlite3")
    shop.worker.start()
    yield shop
    shop.go.set()
    shop.worker.stop()
    await asyncio.to_thread(shop.worker.join)
    shop.queue.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_so_many_at_a_time(shop: Shop) -> None:
    ids = [shop.add("wait", name) for name in "abc"]
    await until(lambda: len(shop.begun) == 2)
    assert shop.worker.running == 2
    assert shop.status(ids[2]) is TaskStatus.PENDING
    shop.go.set()
    await until(lambda: all(shop.status(task_id) is TaskStatus.SUCCEEDED for task_id in ids))
    assert shop.begun == ["a", "b", "c"]


@pytest.mark.parametrize("function", ["wait", "block"])
async def test_what_is_cancelled_is_interrupted(shop: Shop, function: str) -> None:
    task_id = shop.add(function, "a")
    await until(lambda: shop.begun == ["a"])
    shop.queue.cancel(task_id)
    await until(lambda: shop.status(task_id) is TaskStatus.CANCELLED)
    await until(lambda: shop.interrupted == ["a"])
    assert shop.worker.running == 0


@pytest.mark.parametrize("function", ["wait", "block"])
async def test_a_worker_that_stops_gives_back_what_it_has(shop: Shop, function: str) -> None:
    task_id = shop.add(function, "a", max_retries=0)
    await until(lambda: shop.begun == ["a"])
    shop.worker.stop()
    await asyncio.to_thread(shop.worker.join)
    task = shop.queue.get(task_id)
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 0)
    await until(lambda: shop.interrupted == ["a"])
    assert shop.status(task_id) is TaskStatus.PENDING, "how it ended is not heard any more"


async def test_a_worker_that_drains_finishes_what_it_has_and_begins_nothing(shop: Shop) -> None:
    first, second = shop.add("wait", "a"), shop.add("wait", "b")
    await until(lambda: len(shop.begun) == 2)
    third = shop.add("wait", "c")
    draining = asyncio.create_task(shop.worker.drain())
    shop.go.set()
    await asyncio.wait_for(draining, 60)
    assert [shop.status(task_id) for task_id in (first, second)] == [TaskStatus.SUCCEEDED] * 2
    assert shop.status(third) is TaskStatus.PENDING


async def test_leases_are_extended_while_a_task_runs(shop: Shop) -> None:
    task_id = shop.add("wait", "a", lease_s=0.6)
    await until(lambda: shop.begun == ["a"])
    until_first = shop.queue.get(task_id).lease_until
    await until(lambda: shop.queue.get(task_id).lease_until > until_first)


async def test_a_lost_lease_interrupts_and_nothing_of_it_is_heard(shop: Shop) -> None:
    task_id = shop.add("wait", "a", lease_s=0.6)
    await until(lambda: shop.begun == ["a"])
    claim = shop.queue.get(task_id)
    assert shop.queue.fail(task_id, claim.token, "somebody else reported", retry=False)
    await until(lambda: shop.interrupted == ["a"])
    assert shop.queue.get(task_id).error == "somebody else reported"


async def test_what_cannot_be_read_is_given_up(shop: Shop) -> None:
    task_id = shop.queue.submit("wait", b"pgarbage", Policy()).id
    await until(lambda: shop.status(task_id) is TaskStatus.FAILED)
    assert "Unpickling" in shop.queue.get(task_id).error or "pickle" in shop.queue.get(task_id).error
