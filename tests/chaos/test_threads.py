"""The whole API from many threads at once: in a driver, inside a task, inside an actor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import core
from tests.chaos.driver import SOON

THREADS = 8
ROUNDS = 15


@core.remote
def double(value: int) -> int:
    return 2 * value


@core.remote
def total(array: Any) -> int:
    return int(array.sum())


@core.remote
def count_up(limit: int) -> Any:
    yield from range(limit)


@core.remote
def fails() -> None:
    raise KeyError("as planned")


@core.remote(num_cpus=0)
class Cell:
    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


def use_everything(me: int, shared: Any) -> None:
    """One thread's rounds: tasks, actors, objects, streams, errors, cancellation, state."""
    for number in range(ROUNDS):
        assert core.get(double.remote(number), timeout=SOON) == 2 * number
        refs = [double.remote(value) for value in range(10)]
        ready, rest = core.wait(refs, num_returns=10, timeout=SOON)
        assert len(ready) == 10
        assert not rest
        assert core.get(refs, timeout=SOON) == [2 * value for value in range(10)]
        array = np.full(1 << 15, me, np.int64)
        assert core.get(total.remote(core.put(array)), timeout=SOON) == me << 15
        assert [core.get(ref, timeout=SOON) for ref in count_up.remote(5)] == list(range(5))
        with Raises(KeyError):
            core.get(fails.remote(), timeout=SOON)
        core.cancel(double.remote(1))
        assert double.remote(3).future().result(SOON) == 6
        core.get(shared.add.remote(1), timeout=SOON)
        if number % 5 == 0:
            cell = Cell.remote()
            assert core.get([cell.add.remote(1) for _ in range(3)], timeout=SOON) == [1, 2, 3]
            core.kill(cell)
            assert core.cluster_resources()["CPU"] == 2


class Raises:
    """A small ``pytest.raises``: workers need not import pytest."""

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, self._kind), f"{error!r} instead of {self._kind.__name__}"
        return True


def in_threads(work: Callable[[int], None]) -> int:
    """Run ``work`` in many threads; return how many ended well, raise what the first other one raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[number], daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SOON)
    if errors:
        raise errors[0]
    return sum(not thread.is_alive() for thread in threads)


@core.remote(num_cpus=0)
def many_threads_in_a_task(shared: Any) -> int:
    return in_threads(lambda number: use_everything(number, shared))


@core.remote(num_cpus=0)
class Host:
    def many_threads(self, shared: Any) -> int:
        return in_threads(lambda number: use_everything(number, shared))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", ["driver", "task", "actor"])
def test_the_whole_api_from_many_threads(session: object, where: str) -> None:
    shared = Cell.remote()
    if where == "driver":
        ended = in_threads(lambda number: use_everything(number, shared))
    elif where == "task":
        ended = core.get(many_threads_in_a_task.remote(shared), timeout=4 * SOON)
    else:
        ended = core.get(Host.remote().many_threads.remote(shared), timeout=4 * SOON)
    assert ended == THREADS, "no thread hangs"
    assert core.get(shared.add.remote(0), timeout=SOON) == THREADS * ROUNDS
