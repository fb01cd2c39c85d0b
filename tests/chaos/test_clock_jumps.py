"""The wall clock jumps by a day, there and back, in the driver and in workers: nothing times out or waits longer."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

import core

#: Seconds that nothing here should ever need.
SOON = 20
DAY = 86_400.0

pytestmark = pytest.mark.usefixtures("session")


def jumping_clock() -> Any:
    """Return a clock that is a day ahead and a day behind in turns."""
    offsets = itertools.cycle([DAY, -DAY, 0.0])
    return lambda: time.monotonic() + 1e9 + next(offsets)


@core.remote
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@core.remote
def nap_with_a_jumping_clock(seconds: float) -> list[float]:
    before, time.time = time.time, jumping_clock()
    try:
        values = core.get([nap.remote(seconds) for _ in range(4)], timeout=SOON)
        with pytest.raises(core.exceptions.GetTimeoutError):
            core.get(nap.remote(SOON), timeout=0.01)
        return values
    finally:
        time.time = before


@core.remote
class Napper:
    async def nap(self, seconds: float) -> float:
        time.time = jumping_clock()
        import asyncio

        await asyncio.sleep(seconds)
        return seconds


def test_a_driver_does_not_care(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping_clock())
        refs = [nap.remote(0.02) for _ in range(8)]
        assert core.wait(refs, num_returns=8, timeout=SOON)[1] == []
        assert core.get(refs, timeout=SOON) == [0.02] * 8
        slow = nap.remote(SOON)
        with pytest.raises(core.exceptions.GetTimeoutError):
            core.get(slow, timeout=0.01)
        assert core.wait([slow], timeout=0.01) == ([], [slow])
        core.cancel(slow)
        napper = Napper.remote()
        assert core.get([napper.nap.remote(0.02) for _ in range(8)], timeout=SOON) == [0.02] * 8


def test_a_worker_does_not_care() -> None:
    assert core.get(nap_with_a_jumping_clock.remote(0.02), timeout=SOON) == [0.02] * 4
