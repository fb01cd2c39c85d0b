"""``core.util.multiprocessing.Pool``: what programs written for the standard library's pool rely on."""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.exceptions import RayActorError
from core.util.multiprocessing import Pool, TimeoutError
from tests.conformance.rendezvous import Gate, Tally

pytestmark = pytest.mark.usefixtures("session")

_state: Any = None


def square(x: int) -> int:
    return x * x


def reciprocal(x: int) -> float:
    return 1 / x


def add(a: int, b: int, *, c: int = 0) -> int:
    return a + b + c


def process_id(_: Any) -> int:
    return os.getpid()


def wait_for(gate: Gate) -> str:
    gate.wait()
    return "through"


def set_state(value: Any) -> None:
    global _state
    _state = value


def get_state(_: Any) -> Any:
    return _state


class Stubborn(Exception):
    """Cannot be rebuilt from its arguments, so it does not survive pickling."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def fail_stubbornly(_: Any) -> None:
    raise Stubborn(1, 2)


@pytest.fixture
def pool(session: object) -> Iterator[Pool]:
    with Pool(2) as made:
        yield made
    made.join()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(str(tmp_path / "gate"))
    yield gate
    gate.open()


def test_map_and_its_relatives(pool: Pool) -> None:
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert pool.map(square, range(7), chunksize=3) == [x * x for x in range(7)]
    assert pool.map(square, []) == []
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.map_async(square, iter([2, 3])).get(60) == [4, 9]
    assert pool.starmap_async(add, iter([(1, 1)])).get(60) == [2]


def test_apply(pool: Pool) -> None:
    assert pool.apply(add, (1, 2), {"c": 3}) == 6
    assert pool.apply(add, (1, 2), kwds={"c": 4}) == 7
    assert pool.apply(os.getpid) != os.getpid()


def test_functions_that_cannot_be_imported(pool: Pool) -> None:
    offset = 10
    assert pool.map(lambda x: x + offset, range(3)) == [10, 11, 12]


def test_a_bound_method_is_sent_as_it_is_at_the_call(pool: Pool) -> None:
    basket: list[int] = [1]
    assert pool.apply(basket.__len__) == 1
    basket.append(2)
    assert pool.apply(basket.__len__) == 2


def test_imap_keeps_the_order_and_imap_unordered_need_not(pool: Pool) -> None:
    assert list(pool.imap(square, range(20), chunksize=3)) == [x * x for x in range(20)]
    assert sorted(pool.imap_unordered(square, range(20))) == [x * x for x in range(20)]
    assert list(pool.imap(square, [])) == []


def test_imap_takes_endless_input(pool: Pool) -> None:
    results = pool.imap(square, itertools.count())
    assert [next(results) for _ in range(50)] == [x * x for x in range(50)]


def test_imap_unordered_does_not_wait_for_the_slow_one(pool: Pool, gate: Gate, tmp_path: Path) -> None:
    opened = Gate(str(tmp_path / "opened"))
    opened.open()
    results = pool.imap_unordered(wait_for, [gate, opened, opened, opened])
    assert [next(results) for _ in range(3)] == ["through"] * 3
    with pytest.raises(TimeoutError):
        results.next(timeout=0.01)
    gate.open()
    assert results.next() == "through"
    with pytest.raises(StopIteration):
        results.next()


def test_imap_goes_on_after_an_error(pool: Pool) -> None:
    results = pool.imap(reciprocal, [1, 0, 2], chunksize=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5
    with pytest.raises(StopIteration):
        next(results)


def test_an_error_of_the_input_comes_in_its_turn(pool: Pool) -> None:
    def numbers() -> Iterator[int]:
        yield 3
        raise KeyError("no more numbers")

    results = pool.imap(square, numbers())
    assert next(results) == 9
    with pytest.raises(KeyError):
        next(results)


def test_errors_keep_type_and_show_the_worker_s_traceback(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(reciprocal, [1, 0])
    assert type(caught.value) is ZeroDivisionError
    assert "in reciprocal" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError, match="Stubborn: 1 and 2"):
        pool.apply(fail_stubbornly, (0,))


def test_arguments_that_cannot_be_pickled_fail_their_call_only(pool: Pool) -> None:
    result = pool.apply_async(square, (threading.Lock(),))
    with pytest.raises(TypeError, match="lock"):
        result.get(60)
    assert pool.apply(square, (3,)) == 9


def test_callbacks(pool: Pool) -> None:
    called: queue.Queue[Any] = queue.Queue()
    assert pool.apply_async(square, (3,), callback=called.put).get(60) == 9
    assert called.get(timeout=60) == 9
    assert pool.map_async(square, [1, 2], callback=called.put).get(60) == [1, 4]
    assert called.get(timeout=60) == [1, 4]
    failed = pool.apply_async(reciprocal, (0,), callback=called.put, error_callback=called.put)
    failed.wait(60)
    assert isinstance(called.get(timeout=60), ZeroDivisionError)
    assert called.empty()


def test_a_failing_callback_harms_nobody(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    def fail(value: Any) -> None:
        raise LookupError(f"callback got {value}")

    assert pool.apply_async(square, (3,), callback=fail).get(60) == 9
    assert pool.apply(square, (4,)) == 16
    assert "callback got 9" in caplog.text


def test_async_result_states(pool: Pool, gate: Gate) -> None:
    result = pool.apply_async(wait_for, (gate,))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)
    result.wait(0.01)
    gate.open()
    assert result.get(60) == "through"
    assert result.ready()
    assert result.successful()
    failed = pool.apply_async(reciprocal, (0,))
    failed.wait(60)
    assert not failed.successful()


def test_a_short_job_does_not_wait_behind_a_long_one(pool: Pool, gate: Gate) -> None:
    blocked = pool.apply_async(wait_for, (gate,))
    assert pool.map(square, range(10), chunksize=1) == [x * x for x in range(10)]
    assert not blocked.ready()
    gate.open()
    assert blocked.get(60) == "through"


@pytest.mark.parametrize("argument", ["value", None])
def test_initializer_sets_globals(argument: str | None) -> None:
    with Pool(2, initializer=set_state, initargs=(argument,)) as pool:
        assert set(pool.map(get_state, range(8), chunksize=1)) == {argument}
    pool.join()


def test_initializer_of_the_main_script_reaches_functions_pickled_by_value() -> None:
    # As in a script, where functions of __main__ are pickled by value, each with globals of its own.
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("def setup(v):\n    global state\n    state = v\n\ndef read(_):\n    return state\n", script)
    with Pool(2, script["setup"], (42,)) as pool:
        assert pool.map(script["read"], range(4)) == [42] * 4
    pool.join()


def test_a_failing_initializer_is_reported() -> None:
    with Pool(1, initializer=reciprocal, initargs=(0,)) as pool:
        with pytest.raises(RayActorError, match="division by zero"):
            pool.apply(square, (1,))
    pool.join()


def test_processes_are_kept_or_replaced() -> None:
    with Pool(1) as pool:
        assert len(set(pool.map(process_id, range(6), chunksize=1))) == 1
    pool.join()
    with Pool(1, maxtasksperchild=2) as pool:
        assert len(set(pool.map(process_id, range(6), chunksize=1))) == 3
    pool.join()


def test_a_killed_process_fails_its_job_and_is_replaced() -> None:
    with Pool(1) as pool:
        with pytest.raises(RayActorError):
            pool.apply(os._exit, (3,))
        assert pool.apply(square, (5,)) == 25
    pool.join()


def test_close_lets_submitted_work_finish(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path / "tally"))
    pool = Pool(2)
    results = [pool.apply_async(tally.add, (number,)) for number in range(10)]
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    pool.join()
    assert all(result.ready() for result in results)
    assert sorted(map(int, tally.lines())) == list(range(10))


def test_terminate_ends_unfinished_work(gate: Gate) -> None:
    pool = Pool(1)
    running = pool.apply_async(wait_for, (gate,))
    waiting = pool.apply_async(square, (2,))
    pool.terminate()
    pool.join()
    for result in (running, waiting):
        with pytest.raises(RuntimeError, match="terminated"):
            result.get(60)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=">0"):
        Pool(0)
    with pytest.raises(ValueError, match="only 2 CPUs"):
        Pool(3)
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(1, maxtasksperchild=0)
    with pytest.raises(TypeError):
        Pool(1, initializer=3)  # type: ignore[arg-type]
    with Pool(1) as pool, pytest.raises(ValueError, match="Chunksize"):
        pool.map(square, [1], chunksize=0)
    pool.join()


def test_default_size_is_the_number_of_cpus() -> None:
    with Pool() as pool:
        assert len(set(pool.map(process_id, range(40), chunksize=1))) <= 2
        assert pool.map(square, range(3)) == [0, 1, 4]
    pool.join()
