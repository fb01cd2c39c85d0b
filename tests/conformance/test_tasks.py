"""Remote functions: how they are declared, called and fed, and what they return."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")

GLOBAL_VALUE = "before"


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def add(a: int, b: int = 10, *rest: int, scale: int = 1) -> int:
    return (a + b + sum(rest)) * scale


def test_a_task_returns_its_value() -> None:
    assert ray.get(echo.remote(42)) == 42


def test_a_task_without_return_gives_none() -> None:
    @ray.remote
    def nothing() -> None:
        pass

    assert ray.get(nothing.remote()) is None


def test_remote_returns_an_object_ref_at_once() -> None:
    assert isinstance(echo.remote(1), ray.ObjectRef)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1,), {}, 11),
        ((1, 2), {}, 3),
        ((1,), {"b": 2}, 3),
        ((), {"a": 1, "b": 2}, 3),
        ((1, 2, 3, 4), {}, 10),
        ((1, 2), {"scale": 3}, 9),
    ],
)
def test_arguments_bind_as_in_a_plain_call(args: tuple[int, ...], kwargs: dict[str, int], expected: int) -> None:
    assert ray.get(add.remote(*args, **kwargs)) == expected


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1,), {"nonsense": 1}), ((1, 2), {"a": 1})])
def test_a_wrong_signature_is_refused_at_the_call(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        add.remote(*args, **kwargs)


def test_a_remote_function_cannot_be_called_directly() -> None:
    with pytest.raises(TypeError):
        add(1, 2)


def test_remote_may_be_used_as_a_plain_function() -> None:
    assert ray.get(ray.remote(lambda x: x + 1).remote(1)) == 2


def test_remote_with_options_may_be_used_as_a_plain_function() -> None:
    doubled = ray.remote(num_cpus=2, max_retries=0)(lambda x: 2 * x)
    assert ray.get(doubled.remote(4)) == 8


def test_remote_with_empty_parentheses_is_refused() -> None:
    with pytest.raises((AssertionError, TypeError)):

        @ray.remote()
        def function() -> None:
            pass


def test_remote_refuses_what_is_neither_function_nor_class() -> None:
    with pytest.raises((AssertionError, TypeError)):
        ray.remote(5)


def test_an_async_function_is_refused_as_a_task() -> None:
    async def coroutine() -> int:
        return 1

    with pytest.raises(ValueError):
        ray.get(ray.remote(coroutine).remote())


@pytest.mark.better_than_ray("a remote function keeps the __name__ and __doc__ of the function it wraps")
def test_a_remote_function_keeps_its_name_and_docstring() -> None:
    @ray.remote
    def documented() -> None:
        """What it does."""

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it does."


def test_a_reference_passed_as_an_argument_arrives_as_its_value() -> None:
    assert ray.get(add.remote(echo.remote(1), echo.remote(2))) == 3


def test_a_reference_passed_by_keyword_arrives_as_its_value() -> None:
    assert ray.get(add.remote(1, b=ray.put(5))) == 6


def test_references_in_star_arguments_arrive_as_values() -> None:
    assert ray.get(add.remote(*[ray.put(i) for i in range(5)])) == 10


@pytest.mark.parametrize("wrap", [lambda r: [r], lambda r: (r,), lambda r: {"key": r}, lambda r: {r}])
def test_a_reference_inside_a_container_stays_a_reference(wrap: Any) -> None:
    @ray.remote
    def inspect(container: Any) -> tuple[bool, Any]:
        (item,) = container.values() if isinstance(container, dict) else container
        return isinstance(item, ray.ObjectRef), ray.get(item)

    assert ray.get(inspect.remote(wrap(ray.put("inner")))) == (True, "inner")


def test_a_task_waits_for_its_arguments(gate: Gate) -> None:
    @ray.remote
    def slow(gate: Gate) -> int:
        gate.wait()
        return 1

    gate.open()
    assert ray.get(add.remote(slow.remote(gate), 1)) == 2


def test_a_chain_of_dependent_tasks() -> None:
    ref = ray.put(0)
    for _ in range(50):
        ref = add.remote(ref, 1)
    assert ray.get(ref) == 50


def test_arguments_are_copied_when_the_call_is_made() -> None:
    @ray.remote
    def length(ignored: Any, items: list[int]) -> int:
        return len(items)

    items = [1, 2, 3]
    ref = length.remote(echo.remote(0), items)
    items.append(4)
    assert ray.get(ref) == 3


def test_a_task_cannot_change_its_callers_objects() -> None:
    @ray.remote
    def grow(items: list[int]) -> int:
        items.append(99)
        return len(items)

    items = [1]
    assert ray.get(grow.remote(items)) == 2
    assert items == [1]


def test_globals_are_captured_at_the_first_call() -> None:
    global GLOBAL_VALUE

    @ray.remote
    def read() -> str:
        return GLOBAL_VALUE

    GLOBAL_VALUE = "first"
    assert ray.get(read.remote()) == "first"
    GLOBAL_VALUE = "second"
    assert ray.get(read.remote()) == "first"


def test_closures_are_captured() -> None:
    offset = 7

    @ray.remote
    def shifted(x: int) -> int:
        return x + offset

    assert ray.get(shifted.remote(1)) == 8


def test_a_helper_defined_after_decoration_is_found() -> None:
    @ray.remote
    def outer(x: int) -> int:
        return helper(x) + 1

    def helper(x: int) -> int:
        return 10 * x

    assert ray.get(outer.remote(2)) == 21


def test_a_task_calls_itself() -> None:
    @ray.remote
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))

    assert ray.get(factorial.remote(4)) == 24


def test_the_newest_definition_of_a_name_wins() -> None:
    def define(value: int) -> Any:
        @ray.remote
        def redefined() -> int:
            return value

        return redefined

    first, second = define(1), define(2)
    assert ray.get([first.remote(), second.remote(), first.remote()]) == [1, 2, 1]


def test_redefinition_inside_a_task() -> None:
    @ray.remote
    def define_and_call() -> list[int]:
        answers = []
        for value in (1, 2, 3):

            @ray.remote
            def redefined(value: int = value) -> int:
                return value

            answers.append(ray.get(redefined.remote()))
        return answers

    assert ray.get(define_and_call.remote()) == [1, 2, 3]


def test_a_remote_function_can_be_passed_to_a_task() -> None:
    @ray.remote
    def apply(function: Any, value: int) -> Any:
        return ray.get(function.remote(value))

    assert ray.get(apply.remote(echo, 5)) == 5


def test_a_plain_function_can_be_passed_to_a_task() -> None:
    @ray.remote
    def apply(function: Any, value: int) -> Any:
        return function(value)

    assert ray.get(apply.remote(lambda x: x * 3, 5)) == 15


def test_num_returns_gives_one_reference_each() -> None:
    @ray.remote(num_returns=3)
    def three() -> tuple[int, int, int]:
        return 1, 2, 3

    refs = three.remote()
    assert isinstance(refs, list) and len(refs) == 3
    assert ray.get(refs) == [1, 2, 3]


def test_num_returns_accepts_a_list_as_the_result() -> None:
    @ray.remote(num_returns=2)
    def two() -> list[str]:
        return ["a", "b"]

    assert ray.get(two.remote()) == ["a", "b"]


def test_num_returns_one_keeps_a_tuple_whole() -> None:
    @ray.remote
    def pair() -> tuple[int, int]:
        return 1, 2

    assert ray.get(pair.remote()) == (1, 2)


def test_num_returns_through_options() -> None:
    @ray.remote
    def pair() -> tuple[int, int]:
        return 1, 2

    first, second = pair.options(num_returns=2).remote()
    assert ray.get(second) == 2
    assert ray.get(first) == 1


def test_num_returns_zero_returns_no_reference_and_still_runs(tally: Tally) -> None:
    @ray.remote(num_returns=0)
    def silent(tally: Tally) -> None:
        tally.add("ran")

    assert silent.remote(tally) is None
    wait_until(lambda: tally.count() == 1, what="the task to run")


@pytest.mark.parametrize("produced", [1, 3])
def test_a_wrong_number_of_results_is_a_value_error(produced: int) -> None:
    @ray.remote(num_returns=2)
    def mismatch() -> tuple[int, ...]:
        return tuple(range(produced))

    for ref in mismatch.remote():
        with pytest.raises(ValueError):
            ray.get(ref)


def test_an_unpicklable_argument_is_a_type_error_at_the_call() -> None:
    with pytest.raises(TypeError):
        echo.remote(threading.Lock())


def test_an_unpicklable_closure_is_a_type_error_at_the_call() -> None:
    lock = threading.Lock()

    @ray.remote
    def locked() -> bool:
        return lock.locked()

    with pytest.raises(TypeError):
        locked.remote()


def test_an_unpicklable_result_is_a_type_error_at_get() -> None:
    @ray.remote
    def make_lock() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError) as caught:
        ray.get(make_lock.remote())
    assert isinstance(caught.value, ray.exceptions.RayTaskError)


@pytest.mark.parametrize("size", [1, 100, 100_000, 1_000_000], ids=["1B", "100B", "100kB", "1MB"])
def test_arguments_and_results_of_any_size(size: int) -> None:
    assert ray.get(echo.remote(b"x" * size)) == b"x" * size


def test_a_task_with_very_many_arguments() -> None:
    @ray.remote
    def total(*values: int) -> int:
        return sum(values)

    assert ray.get(total.remote(*[ray.put(1) for _ in range(200)], *range(100))) == 200 + 4950


def test_many_tasks_in_flight() -> None:
    assert ray.get([echo.remote(i) for i in range(500)]) == list(range(500))


def test_one_reference_as_two_arguments() -> None:
    @ray.remote
    def equal(a: Any, b: Any) -> bool:
        return bool(a == b)

    ref = ray.put([1, 2, 3])
    assert ray.get(equal.remote(ref, ref))


def test_a_function_with_only_keyword_arguments() -> None:
    @ray.remote
    def keyword_only(*, a: int, b: int) -> int:
        return a - b

    assert ray.get(keyword_only.remote(b=1, a=5)) == 4
    with pytest.raises(TypeError):
        keyword_only.remote(1, 2)


def test_arbitrary_keyword_arguments() -> None:
    @ray.remote
    def collect(**kwargs: Any) -> dict[str, Any]:
        return kwargs

    assert ray.get(collect.remote(x=1, y=ray.put(2))) == {"x": 1, "y": 2}


@pytest.mark.needs_processes("inline runs tasks in the calling process")
def test_a_task_runs_in_another_process() -> None:
    assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()


@pytest.mark.needs_processes("tasks that wait for each other must run at the same time")
def test_as_many_tasks_as_cpus_run_at_the_same_time(tally: Tally) -> None:
    @ray.remote
    def meet(tally: Tally) -> bool:
        tally.add("here")
        wait_until(lambda: tally.count() == 4, what="the others")
        return True

    assert ray.get([meet.remote(tally) for _ in range(4)]) == [True] * 4


@pytest.mark.needs_processes("an independent task must overtake a blocked one")
def test_a_blocked_task_does_not_hold_up_others(gate: Gate) -> None:
    @ray.remote
    def blocked(gate: Gate) -> str:
        gate.wait()
        return "done"

    slow = blocked.remote(gate)
    assert ray.get([echo.remote(i) for i in range(20)]) == list(range(20))
    gate.open()
    assert ray.get(slow) == "done"


def test_tasks_see_modules_the_driver_imported_by_name() -> None:
    @ray.remote
    def version() -> tuple[int, int]:
        return sys.version_info[:2]

    assert ray.get(version.remote()) == sys.version_info[:2]


@pytest.mark.parametrize("nested", [False, True], ids=["in-band", "nested"])
@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
@pytest.mark.parametrize("consumer", ["task", "actor"])
@pytest.mark.parametrize("producer", ["task", "actor"])
def test_call_matrix(producer: str, consumer: str, size: int, nested: bool) -> None:
    @ray.remote(num_cpus=0)
    class Peer:
        def produce(self, size: int) -> bytes:
            return b"p" * size

        def consume(self, value: Any) -> int:
            return len(ray.get(value[0]) if isinstance(value, list) else value)

    @ray.remote
    def produce(size: int) -> bytes:
        return b"p" * size

    @ray.remote
    def consume(value: Any) -> int:
        return len(ray.get(value[0]) if isinstance(value, list) else value)

    maker = Peer.remote() if producer == "actor" else None
    ref = maker.produce.remote(size) if maker else produce.remote(size)
    argument = [ref] if nested else ref
    taker = Peer.remote() if consumer == "actor" else None
    answer = taker.consume.remote(argument) if taker else consume.remote(argument)
    assert ray.get(answer) == size
