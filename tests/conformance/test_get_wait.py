"""``get`` and ``wait``: order, deadlines, counts and refused arguments."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
CONCURRENCY = "one task must stay unfinished while the driver goes on"


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def after(gate: Gate, value: Any = None) -> Any:
    gate.wait()
    return value


@ray.remote
def fail(message: str = "failed") -> None:
    raise ValueError(message)


def test_get_of_a_list_keeps_its_order() -> None:
    assert ray.get([echo.remote(i) for i in (3, 1, 2)]) == [3, 1, 2]


def test_get_of_an_empty_list() -> None:
    assert ray.get([]) == []


def test_get_takes_the_same_reference_twice() -> None:
    ref = ray.put("x")
    assert ray.get([ref, ref]) == ["x", "x"]


def test_get_again_gives_the_value_again() -> None:
    ref = echo.remote("again")
    assert [ray.get(ref) for _ in range(3)] == ["again"] * 3


@pytest.mark.parametrize("argument", [5, None, "ref", {"a": 1}], ids=lambda value: type(value).__name__)
def test_get_refuses_what_is_neither_reference_nor_list(argument: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        ray.get(argument)


def test_get_refuses_a_tuple_of_references() -> None:
    with pytest.raises(ValueError):
        ray.get((ray.put(1), ray.put(2)))


def test_get_refuses_a_list_with_something_else_in_it() -> None:
    with pytest.raises(TypeError):
        ray.get([ray.put(1), 2])


@pytest.mark.needs_processes(CONCURRENCY)
def test_get_times_out_and_succeeds_later(gate: Gate) -> None:
    ref = after.remote(gate, "late")
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.05)
    gate.open()
    assert ray.get(ref, timeout=30) == "late"


@pytest.mark.needs_processes(CONCURRENCY)
def test_the_timeout_error_is_a_timeout_error(gate: Gate) -> None:
    with pytest.raises(TimeoutError):
        ray.get(after.remote(gate), timeout=0.05)


@pytest.mark.needs_processes(CONCURRENCY)
def test_get_with_timeout_zero_is_now_or_never(gate: Gate) -> None:
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(after.remote(gate), timeout=0)


def test_get_with_timeout_zero_returns_what_is_there() -> None:
    assert ray.get(ray.put("there"), timeout=0) == "there"


def test_get_with_a_negative_timeout_waits_for_ever() -> None:
    assert ray.get(echo.remote("waited"), timeout=-1) == "waited"


@pytest.mark.needs_processes(CONCURRENCY)
def test_get_of_a_list_times_out_as_a_whole(gate: Gate) -> None:
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get([ray.put(1), after.remote(gate)], timeout=0.1)


@pytest.mark.needs_processes(CONCURRENCY)
def test_get_raises_as_soon_as_one_reference_failed(gate: Gate) -> None:
    slow = after.remote(gate)
    with pytest.raises(ValueError, match="failed"):
        ray.get([fail.remote(), slow], timeout=30)
    assert not gate.is_open()


@pytest.mark.needs_processes(CONCURRENCY)
def test_get_raises_early_also_when_the_failure_is_last_in_the_list(gate: Gate) -> None:
    slow = after.remote(gate)
    with pytest.raises(ValueError, match="failed"):
        ray.get([slow, fail.remote()], timeout=30)
    assert not gate.is_open()


@pytest.mark.needs_processes("a second thread gets while the first one waits")
def test_many_threads_get_the_same_reference(gate: Gate) -> None:
    ref = after.remote(gate, "shared")
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(ray.get(ref))) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert answers == ["shared"] * 4


def test_many_threads_submit_and_get() -> None:
    answers: dict[int, int] = {}

    def work(number: int) -> None:
        answers[number] = sum(ray.get([echo.remote(i) for i in range(number, number + 10)]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: sum(range(n, n + 10)) for n in range(5)}


def test_wait_returns_two_lists() -> None:
    ref = echo.remote(1)
    assert ray.wait([ref]) == ([ref], [])


@pytest.mark.needs_processes(CONCURRENCY)
def test_wait_returns_the_finished_one(gate: Gate) -> None:
    slow, quick = after.remote(gate), echo.remote(1)
    assert ray.wait([slow, quick]) == ([quick], [slow])


def test_wait_returns_exactly_num_returns_even_if_more_are_ready() -> None:
    refs = [ray.put(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=2)
    assert len(ready) == 2 and len(rest) == 3
    assert set(ready) | set(rest) == set(refs)


def test_wait_for_all() -> None:
    refs = [echo.remote(i) for i in range(10)]
    assert ray.wait(refs, num_returns=10) == (refs, [])


@pytest.mark.needs_processes(CONCURRENCY)
def test_wait_with_a_timeout_returns_what_is_ready(gate: Gate) -> None:
    slow, quick = after.remote(gate), ray.put(1)
    assert ray.wait([slow, quick], num_returns=2, timeout=0.1) == ([quick], [slow])


@pytest.mark.needs_processes(CONCURRENCY)
def test_wait_with_timeout_zero_does_not_wait(gate: Gate) -> None:
    slow = after.remote(gate)
    assert ray.wait([slow], timeout=0) == ([], [slow])


@pytest.mark.needs_processes(CONCURRENCY)
def test_both_lists_of_wait_keep_the_order_of_the_input(make_gate: Any) -> None:
    gates = [make_gate(str(i)) for i in range(4)]
    refs = [after.remote(gate) for gate in gates]
    for index in (2, 0):
        gates[index].open()
    try:
        ray.get([refs[0], refs[2]])
        assert ray.wait(refs, num_returns=2) == ([refs[0], refs[2]], [refs[1], refs[3]])
    finally:
        for gate in gates:
            gate.open()
    ray.get(refs)


def test_a_failed_reference_counts_as_ready() -> None:
    ref = fail.remote()
    assert ray.wait([ref], timeout=30) == ([ref], [])
    with pytest.raises(ValueError):
        ray.get(ref)


def test_wait_on_nothing() -> None:
    assert ray.wait([], num_returns=1, timeout=1) == ([], [])


def test_wait_refuses_duplicates() -> None:
    ref = ray.put(1)
    with pytest.raises(ValueError):
        ray.wait([ref, ref])


@pytest.mark.parametrize("num_returns", [0, -1, 3])
def test_wait_refuses_an_impossible_count(num_returns: int) -> None:
    with pytest.raises(ValueError):
        ray.wait([ray.put(1), ray.put(2)], num_returns=num_returns)


def test_wait_refuses_a_negative_timeout() -> None:
    with pytest.raises(ValueError):
        ray.wait([ray.put(1)], timeout=-1)


@pytest.mark.parametrize("container", [tuple, set])
def test_wait_refuses_anything_but_a_list(container: Any) -> None:
    with pytest.raises(TypeError):
        ray.wait(container([ray.put(1)]))


def test_wait_refuses_a_bare_reference() -> None:
    with pytest.raises(TypeError):
        ray.wait(ray.put(1))


def test_wait_refuses_a_list_of_something_else() -> None:
    with pytest.raises(TypeError):
        ray.wait([1, 2])


def test_wait_without_fetching() -> None:
    ref = echo.remote(b"x" * 200_000)
    assert ray.wait([ref], fetch_local=False, timeout=30) == ([ref], [])


def test_wait_inside_a_task() -> None:
    @ray.remote
    def waits() -> tuple[int, int]:
        ready, rest = ray.wait([echo.remote(i) for i in range(4)], num_returns=4)
        return len(ready), len(rest)

    assert ray.get(waits.remote()) == (4, 0)


def test_wait_drains_a_list_step_by_step() -> None:
    rest = [echo.remote(i) for i in range(20)]
    seen = []
    while rest:
        (ready,), rest = ray.wait(rest)
        seen.append(ray.get(ready))
    assert sorted(seen) == list(range(20))


@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
def test_futures_of_references(size: int) -> None:
    @ray.remote
    def make(size: int) -> bytes:
        return b"x" * size

    futures = [make.remote(size).future() for _ in range(20)]
    assert [len(future.result(timeout=30)) for future in futures] == [size] * 20


@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
def test_awaiting_references(size: int) -> None:
    @ray.remote
    def make(size: int) -> bytes:
        return b"x" * size

    async def sizes() -> list[int]:
        values = await asyncio.wait_for(asyncio.gather(*(make.remote(size) for _ in range(20))), 30)
        return [len(value) for value in values]

    assert asyncio.run(sizes()) == [size] * 20


@pytest.mark.better_than_ray("a callback of an ObjectRef's future may call get")
def test_a_callback_of_a_future_may_get() -> None:
    @ray.remote
    def double(value: int) -> int:
        return 2 * value

    got: list[int] = []
    called = threading.Event()

    def go_on(future: Any) -> None:
        got.append(ray.get(double.remote(future.result()), timeout=30))
        called.set()

    double.remote(1).future().add_done_callback(go_on)
    assert called.wait(30)
    assert got == [4]


def test_looking_again_and_again_for_what_another_process_owns() -> None:
    @ray.remote
    def look(refs: list[Any]) -> bool:
        deadline = time.monotonic() + 30
        while not ray.wait(refs, timeout=0)[0]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    assert ray.get(look.remote([ray.put(1)]))
