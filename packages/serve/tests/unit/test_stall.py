"""Blocking code in an event loop is told of, with its line; a loop that waits or works is left alone."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from serve.local.loop_thread import LoopThread
from serve.replica.stall import StallWatch

#: seconds; a test that passes does not wait that long
LONG = 60


@pytest.fixture
def home() -> Iterator[LoopThread]:
    thread = LoopThread("replica")
    yield thread
    thread.close()


def test_blocking_code_is_told_of_once_with_its_line(home: LoopThread) -> None:
    told: queue.Queue[str] = queue.Queue()
    release = threading.Event()

    async def watch() -> StallWatch:
        return StallWatch("app#Model#1", period_s=0.01, tell=told.put)

    async def handler() -> None:
        release.wait(LONG)

    watcher = home.run(watch())
    home.call(lambda: home.spawn(handler()))
    message = told.get(timeout=LONG)
    assert "replica app#Model#1 stands still" in message
    assert "test_stall.py" in message
    assert "in handler: release.wait(LONG)" in message
    release.set()
    home.run(asyncio.sleep(0))  # it goes on
    watcher.close()
    watcher._thread.join(LONG)
    assert told.empty()


def test_a_loop_that_waits_is_left_alone(home: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.Queue[str] = queue.Queue()
    asked = threading.Semaphore(0)
    call_soon = home.loop.call_soon_threadsafe

    def counted(*args: Any) -> object:
        asked.release()
        return call_soon(*args)

    async def watch() -> StallWatch:
        return StallWatch("r", period_s=0.001, tell=told.put)

    watcher = home.run(watch())
    monkeypatch.setattr(home.loop, "call_soon_threadsafe", counted)
    for _ in range(5):  # it is asked again only after a sign of life
        assert asked.acquire(timeout=LONG)
    watcher.close()
    watcher._thread.join(LONG)
    assert told.empty()


def test_it_ends_with_its_loop() -> None:
    home = LoopThread("replica")

    async def watch() -> StallWatch:
        return StallWatch("r", period_s=0.001)

    watcher = home.run(watch())
    home.close()
    watcher._thread.join(LONG)
    assert not watcher._thread.is_alive()
