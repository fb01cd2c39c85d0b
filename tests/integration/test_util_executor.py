"""``core.util.SkateExecutor``: the interface of ``concurrent.futures``."""

from __future__ import annotations

import concurrent.futures
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
from core.exceptions import WorkerCrashedError
from core.util import SkateExecutor
from tests.conformance.rendezvous import Gate, Tally, wait_until

pytestmark = pytest.mark.usefixtures("session")

_state: Any = None


def square(x: int) -> int:
    return x * x


def reciprocal(x: int) -> float:
    return 1 / x


def add(a: int, b: int = 0, *, c: int = 0) -> int:
    return a + b + c


def process_id(_: Any) -> int:
    return os.getpid()


def wait_for(gate: Gate) -> str:
    gate.wait()
    return "through"


def arrive_and_wait(arrivals: Tally, gate: Gate) -> None:
    arrivals.add(os.getpid())
    gate.wait()


def set_state(value: Any) -> None:
    global _state
    _state = value


def get_state(_: Any) -> Any:
    return _state


@pytest.fixture
def executor(session: object) -> Iterator[SkateExecutor]:
    with SkateExecutor() as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(str(tmp_path / "gate"))
    yield gate
    gate.open()


def test_submit(executor: SkateExecutor) -> None:
    assert executor.submit(add, 1, b=2, c=3).result() == 6
    assert executor.submit(os.getpid).result() != os.getpid()
    offset = 10
    assert executor.submit(lambda x: x + offset, 1).result() == 11


def test_references_arrive_as_values(executor: SkateExecutor) -> None:
    assert executor.submit(add, core.put(1), b=core.put(2)).result() == 3


def test_map(executor: SkateExecutor) -> None:
    assert list(executor.map(square, range(20))) == [x * x for x in range(20)]
    assert list(executor.map(add, [1, 2, 3], [10, 20])) == [11, 22]
    assert list(executor.map(square, range(10), chunksize=4)) == [x * x for x in range(10)]
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(square, [1], chunksize=0)


def test_map_with_timeout(executor: SkateExecutor, gate: Gate) -> None:
    with pytest.raises(concurrent.futures.TimeoutError):
        list(executor.map(wait_for, [gate], timeout=0.05))
    gate.open()


def test_exceptions_keep_their_type(executor: SkateExecutor) -> None:
    future = executor.submit(reciprocal, 0)
    assert type(future.exception()) is ZeroDivisionError
    assert "in reciprocal" in str(future.exception().__cause__)
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_unpicklable_arguments_fail_their_future_only(executor: SkateExecutor) -> None:
    with pytest.raises(TypeError, match="lock"):
        executor.submit(square, threading.Lock()).result()
    assert executor.submit(square, 3).result() == 9


def test_wrong_arguments_of_the_call_fail_its_future(executor: SkateExecutor) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        executor.submit(add, 1, nonsense=2).result()  # type: ignore[call-arg]


def test_callbacks_and_as_completed(executor: SkateExecutor) -> None:
    called: queue.Queue[int] = queue.Queue()
    future = executor.submit(square, 5)
    future.add_done_callback(lambda done: called.put(done.result()))
    assert called.get(timeout=60) == 25
    futures = [executor.submit(square, x) for x in range(10)]
    assert sorted(done.result() for done in concurrent.futures.as_completed(futures)) == [x * x for x in range(10)]


def test_waiting_calls_can_be_cancelled_and_running_ones_cannot(gate: Gate) -> None:
    with SkateExecutor(1) as executor:
        running = executor.submit(wait_for, gate)
        waiting = executor.submit(square, 2)
        after = executor.submit(square, 3)
        wait_until(running.running)
        assert not running.cancel()
        assert waiting.cancel()
        assert waiting.cancelled()
        gate.open()
        assert running.result() == "through"
        assert after.result() == 9
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result()


@pytest.mark.init(num_cpus=4)
def test_max_workers_bounds_what_runs_at_once(gate: Gate, tmp_path: Path) -> None:
    arrivals = Tally(str(tmp_path / "arrivals"))
    with SkateExecutor(2) as executor:
        futures = [executor.submit(arrive_and_wait, arrivals, gate) for _ in range(5)]
        wait_until(lambda: arrivals.count() == 2)
        assert sum(future.running() for future in futures) == 2
        gate.open()
        concurrent.futures.wait(futures)
    assert arrivals.count() == 5


def test_shutdown_waits_for_everything() -> None:
    executor = SkateExecutor(1)
    futures = [executor.submit(square, x) for x in range(10)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == [x * x for x in range(10)]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    executor.shutdown()


def test_shutdown_can_cancel_what_waits(gate: Gate) -> None:
    executor = SkateExecutor(1)
    running = executor.submit(wait_for, gate)
    waiting = [executor.submit(square, x) for x in range(5)]
    wait_until(running.running)
    executor.shutdown(wait=False, cancel_futures=True)
    done, _ = concurrent.futures.wait(waiting, timeout=60)
    assert len(done) == 5
    assert all(future.cancelled() for future in waiting)
    gate.open()
    executor.shutdown()
    assert running.result(timeout=0) == "through"


def test_initializer_runs_before_the_first_call_of_each_process() -> None:
    with SkateExecutor(2, initializer=set_state, initargs=("ready",)) as executor:
        assert set(executor.map(get_state, range(10))) == {"ready"}
    with SkateExecutor(2, initializer=set_state, initargs=("again",)) as executor:
        assert set(executor.map(get_state, range(10))) == {"again"}


def test_a_failing_initializer_fails_the_calls() -> None:
    with SkateExecutor(1, initializer=reciprocal, initargs=(0,)) as executor:
        with pytest.raises(ZeroDivisionError):
            executor.submit(square, 2).result()


def test_max_tasks_per_child_replaces_processes() -> None:
    with SkateExecutor(1, max_tasks_per_child=1) as executor:
        assert len(set(executor.map(process_id, range(3)))) == 3


def test_a_dead_worker_fails_its_call_only(executor: SkateExecutor) -> None:
    with pytest.raises(WorkerCrashedError):
        executor.submit(os._exit, 3).result()
    assert executor.submit(square, 4).result() == 16


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="max_workers"):
        SkateExecutor(0)
    with pytest.raises(ValueError, match="max_tasks_per_child"):
        SkateExecutor(1, max_tasks_per_child=0)
    with pytest.raises(TypeError, match="initializer"):
        SkateExecutor(1, initializer=3)  # type: ignore[arg-type]
