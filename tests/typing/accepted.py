"""Programs a type checker must accept, with the types it must find. Read by ``test_typing.py``, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, assert_type

import core
from core import ActorHandle, ObjectRef, ObjectRefGenerator


@core.remote
def text(number: int) -> str:
    return str(number)


@core.remote(num_cpus=2, max_retries=0)
def scale(number: int, unit: str = "m", *, factor: float = 1.0) -> float:
    return number * factor


@core.remote
def nothing() -> None: ...


@core.remote
def count(limit: int) -> Generator[str, None, None]:
    yield str(limit)


@core.remote
def count_too(limit: int) -> Iterator[str]:
    yield str(limit)


@core.remote(num_returns=2)
def two(number: int) -> tuple[int, int]:
    return number, number


@core.remote
def many(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: str) -> list[int]:
    return [a, b, c, d, e, f, g]


class Counter:
    """An actor class, made remote by a call, which mypy understands as well as pyright."""

    def __init__(self, start: int, name: str = "") -> None:
        self.n = start

    def plain(self, k: int) -> int:
        return self.n + k

    @core.method
    def add(self, k: int) -> int:
        return self.n + k

    def twice(self, k: int) -> int:
        return 2 * self.add(k)

    @core.method(max_task_retries=2)
    def name(self) -> str:
        return ""

    @core.method
    async def later(self, k: int) -> str:
        return ""

    @core.method
    def stream(self, k: int) -> Iterator[bytes]:
        yield b""

    @core.method(num_returns=2)
    def both(self) -> tuple[int, str]:
        return 1, ""


number_ref = core.put(3)
text_ref = core.put("x")
assert_type(number_ref, ObjectRef[int])

# calls, by position and by keyword, with values and with references
assert_type(core.get(text.remote(1)), str)
assert_type(core.get(text.remote(number_ref)), str)
assert_type(core.get(text.remote(number=1)), str)
assert_type(scale.remote(1), ObjectRef[float])
assert_type(scale.remote(number_ref, text_ref), ObjectRef[float])
assert_type(scale.remote(1, text_ref), ObjectRef[float])
assert_type(scale.remote(1, unit="km", factor=2.0), ObjectRef[float])
assert_type(core.get(nothing.remote()), None)
assert_type(many.remote(1, 2, 3, number_ref, 5, 6, number_ref, text_ref), ObjectRef[list[int]])
assert_type(text.remote(core.get(number_ref)), ObjectRef[str])

# options
assert_type(text.options(num_cpus=1, name="t").remote(1), ObjectRef[str])
assert_type(text.options(num_returns=1).remote(1), Any)
assert_type(two.remote(1), Any)

# generators
assert_type(count.remote(3), ObjectRefGenerator[str])
assert_type(count_too.remote(number_ref), ObjectRefGenerator[str])
for item in count.remote(3):
    assert_type(core.get(item), str)


async def awaiting() -> None:
    """References and generators in coroutines."""
    assert_type(await text.remote(1), str)
    async for item in count.remote(3):
        assert_type(await item, str)


# get, wait, put
assert_type(core.get([text.remote(1), text.remote(2)]), list[str])
assert_type(core.wait([number_ref]), tuple[list[ObjectRef[int]], list[ObjectRef[int]]])
stream = count.remote(1)
assert_type(core.get(stream), ObjectRefGenerator[str])

# actors
RemoteCounter = core.remote(Counter)
counter = RemoteCounter.remote(1, name="c")
assert_type(counter, ActorHandle[Counter])
assert_type(RemoteCounter.options(lifetime="detached", name="c", max_restarts=-1).remote(1), ActorHandle[Counter])
RemoteCounter.remote(number_ref)
counter.plain.remote(1)
counter.plain.options(name="p").remote(1)
typed = core.typed(counter)
assert_type(typed.add.remote(1), ObjectRef[int])
assert_type(typed.add.remote(number_ref), ObjectRef[int])
assert_type(typed.name.remote(), ObjectRef[str])
assert_type(typed.later.remote(1), ObjectRef[str])
assert_type(typed.stream.remote(1), ObjectRefGenerator[bytes])
assert_type(typed.both.remote(), Any)
assert_type(Counter(1).add(2), int)
core.kill(counter)

# map
assert_type(list(core.map(text, [1, 2])), list[str])
assert_type(list(core.map(len, ["a"])), list[int])
assert_type(list(core.map_unordered(scale, [number_ref])), list[float])

# modules under Ray's names
assert_type(core.exceptions.GetTimeoutError("x"), core.exceptions.GetTimeoutError)


async def streaming() -> AsyncIterator[int]:
    """A plain asynchronous generator, for the imports above."""
    yield 1


def pools() -> None:
    # A pool needs no annotation; what its results are depends on the function.
    pool = core.util.ActorPool([core.remote(Plain).remote()])
    for _ in pool.map(lambda actor, number: actor.get.remote(number), [1, 2]):
        pool.submit(lambda actor, text: actor.get.remote(text), "a")


class Plain:
    def get(self, value: object) -> object:
        return value
