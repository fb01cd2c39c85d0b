"""``core.util.Queue``."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import pytest

import core
from core.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def two(session: object) -> Iterator[Queue]:
    """A queue with room for two items."""
    made = Queue(maxsize=2)
    yield made
    made.shutdown(force=True)


@core.remote
def produce(items: Queue, count: int) -> None:
    for number in range(count):
        items.put(number)


@core.remote
def consume(items: Queue, count: int) -> list[Any]:
    return [items.get() for _ in range(count)]


def test_first_in_first_out(two: Queue) -> None:
    two.put("a")
    two.put("b")
    assert (two.size(), two.qsize(), len(two), two.full(), two.empty()) == (2, 2, 2, True, False)
    assert [two.get(), two.get()] == ["a", "b"]
    assert two.empty()


def test_a_full_queue_refuses(two: Queue) -> None:
    two.put_nowait(1)
    two.put_nowait(2)
    with pytest.raises(Full):
        two.put_nowait(3)
    with pytest.raises(Full):
        two.put(3, block=False)
    with pytest.raises(queue.Full):
        two.put(3, timeout=0.01)
    assert two.size() == 2


def test_an_empty_queue_refuses(two: Queue) -> None:
    with pytest.raises(Empty):
        two.get_nowait()
    with pytest.raises(Empty):
        two.get(block=False)
    with pytest.raises(queue.Empty):
        two.get(timeout=0.01)


def test_negative_timeouts_are_refused(two: Queue) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        two.put(1, timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        two.get(timeout=-1)


def test_batches_go_whole_or_not_at_all(two: Queue) -> None:
    with pytest.raises(Full, match="Cannot add 3 items"):
        two.put_nowait_batch([1, 2, 3])
    assert two.empty()
    two.put_nowait_batch(iter([1, 2]))
    with pytest.raises(Empty, match="Cannot get 3 items"):
        two.get_nowait_batch(3)
    assert two.get_nowait_batch(2) == [1, 2]
    assert two.get_nowait_batch(0) == []
    with pytest.raises(TypeError):
        two.put_nowait_batch(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        two.get_nowait_batch("7")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nonnegative"):
        two.get_nowait_batch(-1)


def test_producer_and_consumer_wait_for_each_other(two: Queue) -> None:
    # Room for two, twenty items: each side must block and be woken many times.
    consumed = consume.remote(two, 20)
    core.get(produce.remote(two, 20))
    assert core.get(consumed) == list(range(20))


def test_a_blocked_get_does_not_block_other_callers(two: Queue) -> None:
    waiting = consume.remote(two, 1)
    assert two.empty()
    two.put("for the one who waits")
    assert core.get(waiting) == ["for the one who waits"]


def test_async_methods() -> None:
    async def scenario() -> list[Any]:
        items = Queue(maxsize=1)
        getter = asyncio.ensure_future(items.get_async())
        await items.put_async("first")
        first = await getter
        with pytest.raises(Empty):
            await items.get_async(block=False)
        with pytest.raises(Empty):
            await items.get_async(timeout=0.01)
        await items.put_async("second")
        with pytest.raises(Full):
            await items.put_async("third", block=False)
        with pytest.raises(Full):
            await items.put_async("third", timeout=0.01)
        second = await items.get_async()
        items.shutdown()
        return [first, second]

    assert asyncio.run(scenario()) == ["first", "second"]


def test_unlimited_queue_and_actor_options() -> None:
    items = Queue(actor_options={"name": "items"})
    items.put_nowait_batch(range(1000))
    assert items.size() == 1000
    assert not items.full()
    assert core.get_actor("items") == items.actor
    items.shutdown()
    assert items.actor is None
    items.shutdown()
