"""Tasks that start tasks: depth, width, references handed up and down, threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def fibonacci(n: int) -> int:
    return n if n < 2 else sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))


def test_a_tree_of_tasks() -> None:
    assert ray.get(fibonacci.remote(5)) == 5


def test_deep_nesting() -> None:
    @ray.remote
    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + ray.get(down.remote(depth - 1))

    assert ray.get(down.remote(8)) == 8


def test_wide_nesting() -> None:
    @ray.remote
    def wide(n: int) -> int:
        return sum(ray.get([echo.remote(i) for i in range(n)]))

    assert ray.get([wide.remote(20) for _ in range(6)]) == [190] * 6


def test_many_three_level_tasks_finish() -> None:
    @ray.remote
    def middle(value: int) -> int:
        return ray.get(echo.remote(value))

    @ray.remote
    def outer(value: int) -> int:
        return ray.get(middle.remote(value))

    assert ray.get([outer.remote(i) for i in range(30)]) == list(range(30))


def test_a_reference_to_a_child_can_be_returned() -> None:
    @ray.remote
    def start() -> list[Any]:
        return [echo.remote("child")]

    (child,) = ray.get(start.remote())
    assert ray.get(child) == "child"


def test_references_handed_up_several_levels() -> None:
    @ray.remote
    def level(depth: int) -> list[Any]:
        return [echo.remote("bottom") if depth == 0 else level.remote(depth - 1)]

    value: Any = level.remote(3)
    while isinstance(value, ray.ObjectRef):
        got = ray.get(value)
        value = got[0] if isinstance(got, list) else got
    assert value == "bottom"


def test_a_reference_handed_down_several_levels() -> None:
    @ray.remote
    def down(refs: list[Any], depth: int) -> Any:
        return ray.get(refs[0]) if depth == 0 else ray.get(down.remote(refs, depth - 1))

    assert ray.get(down.remote([ray.put("from the top")], 3)) == "from the top"


def test_a_remote_function_defined_inside_a_task() -> None:
    @ray.remote
    def define() -> int:
        @ray.remote
        def inner(x: int) -> int:
            return x + 1

        return ray.get(inner.remote(1))

    assert ray.get(define.remote()) == 2


def test_an_actor_class_defined_inside_a_task() -> None:
    @ray.remote
    def define() -> str:
        @ray.remote
        class Inner:
            def hello(self) -> str:
                return "hello"

        return ray.get(Inner.remote().hello.remote())

    assert ray.get(define.remote()) == "hello"


def test_threads_inside_a_task_use_the_api() -> None:
    @ray.remote
    def threaded() -> list[int]:
        answers: list[int] = []

        def work(number: int) -> None:
            answers.append(ray.get(echo.remote(number)) + ray.get(ray.put(0)))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(answers)

    assert ray.get(threaded.remote()) == [0, 1, 2, 3]


def test_threads_inside_an_actor_use_the_api() -> None:
    @ray.remote
    class Threaded:
        def run(self) -> list[int]:
            answers: list[int] = []
            threads = [threading.Thread(target=lambda i=i: answers.append(ray.get(echo.remote(i)))) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sorted(answers)

    assert ray.get(Threaded.remote().run.remote()) == [0, 1, 2, 3]


def test_an_error_travels_up_several_levels() -> None:
    @ray.remote
    def down(depth: int) -> Any:
        if depth == 0:
            raise KeyError("bottom")
        return ray.get(down.remote(depth - 1))

    with pytest.raises(KeyError, match="bottom"):
        ray.get(down.remote(3))
