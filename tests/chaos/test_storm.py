"""Work goes on while workers are killed: every result is exact, whatever dies when.

Kills follow progress, not the clock: a victim falls each time so many results have come, chosen by a seeded generator.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import core
from tests.conformance.rendezvous import Tally, wait_until

pytestmark = pytest.mark.usefixtures("session")
#: Seconds in which a batch of results must have come; a run without faults needs a tenth.
PATIENCE = 60


@core.remote(max_retries=-1)
def square(number: int, tally: Tally) -> int:
    tally.add(os.getpid())
    time.sleep(0.01)
    return number * number


@core.remote(max_retries=-1)
def total(array: np.ndarray, number: int, tally: Tally) -> float:
    tally.add(os.getpid())
    return float(array.sum()) + number


class Nemesis:
    """Kills by SIGKILL one of the processes that wrote their pid into the tally last."""

    def __init__(self, tally: Tally, seed: int) -> None:
        self._tally = tally
        self._random = random.Random(seed)
        self.kills = 0

    def strike(self) -> None:
        """Kill one of the last four known workers that still lives."""
        victims = list(dict.fromkeys(reversed(self._tally.lines())))[:4]
        self._random.shuffle(victims)
        for victim in victims:
            try:
                os.kill(int(victim), signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills += 1
            return


def collect(refs: list[Any], every: int, strike: Callable[[], None]) -> list[Any]:
    """Get all values; strike each time ``every`` more are there."""
    waiting = refs
    while waiting:
        ready, waiting = core.wait(waiting, num_returns=min(every, len(waiting)), timeout=PATIENCE)
        assert ready, "no progress"
        strike()
    return core.get(refs, timeout=PATIENCE)


@pytest.mark.slow
def test_a_thousand_tasks_with_workers_killed_all_along(tally: Tally) -> None:
    nemesis = Nemesis(tally, seed=7)
    refs = [square.remote(number, tally) for number in range(1000)]
    assert collect(refs, 100, nemesis.strike) == [number * number for number in range(1000)]
    assert nemesis.kills >= 8
    assert tally.count() >= 1000
    wait_until(lambda: core.available_resources().get("CPU") == 2.0, what="all CPUs to come back")


def test_large_arguments_and_dependencies_survive_the_killing(tally: Tally) -> None:
    nemesis = Nemesis(tally, seed=11)
    arrays = [np.full(40_000, float(number)) for number in range(5)]
    stored = [core.put(array) for array in arrays]
    refs = [total.remote(stored[number % 5], number, tally) for number in range(200)]
    expected = [float(arrays[number % 5].sum()) + number for number in range(200)]
    assert collect(refs, 20, nemesis.strike) == expected
    assert nemesis.kills >= 5


def test_chains_survive_the_killing(tally: Tally) -> None:
    """Each link depends on the one before; results in shared memory are made again if need be."""
    nemesis = Nemesis(tally, seed=13)

    @core.remote(max_retries=-1)
    def grow(array: np.ndarray, tally: Tally) -> np.ndarray:
        tally.add(os.getpid())
        return array + 1

    chains = []
    for start in range(10):
        link: Any = core.put(np.full(20_000, float(start)))
        for _ in range(10):
            link = grow.remote(link, tally)
        chains.append(link)
    arrays = collect(chains, 1, nemesis.strike)
    for start, array in enumerate(arrays):
        assert array.shape == (20_000,)
        assert (array == start + 10).all()
    assert nemesis.kills >= 5


def test_nested_tasks_survive_the_killing(tally: Tally) -> None:
    nemesis = Nemesis(tally, seed=17)

    @core.remote(max_retries=-1)
    def parent(number: int, tally: Tally) -> int:
        tally.add(os.getpid())
        return sum(core.get([square.remote(number, tally) for _ in range(3)]))

    refs = [parent.remote(number, tally) for number in range(60)]
    assert collect(refs, 10, nemesis.strike) == [3 * number * number for number in range(60)]
    assert nemesis.kills >= 3


def test_300_actor_calls_with_the_actor_killed_all_along(tally: Tally) -> None:
    nemesis = Nemesis(tally, seed=19)

    @core.remote(max_restarts=-1, max_task_retries=-1)
    class Squares:
        def __init__(self, tally: Tally) -> None:
            tally.add(os.getpid())

        def square(self, number: int) -> int:
            time.sleep(0.002)
            return number * number

    actors = [Squares.remote(tally) for _ in range(2)]
    refs = [actors[number % 2].square.remote(number) for number in range(300)]
    assert collect(refs, 25, nemesis.strike) == [number * number for number in range(300)]
    assert nemesis.kills >= 8


def test_a_stream_survives_the_killing(tally: Tally) -> None:
    nemesis = Nemesis(tally, seed=23)

    @core.remote(num_returns="streaming", max_retries=-1)
    def count(tally: Tally) -> Any:
        tally.add(os.getpid())
        for number in range(300):
            time.sleep(0.001)
            yield number

    got = []
    for ref in count.remote(tally):
        got.append(core.get(ref, timeout=PATIENCE))
        if len(got) % 60 == 0:
            nemesis.strike()
    assert got == list(range(300))
    assert nemesis.kills >= 3
