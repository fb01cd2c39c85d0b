"""Objects and references: what can be stored, what comes back, what a reference can do."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import copy
import dataclasses
import datetime
import decimal
import enum
import pickle
import threading
import uuid
from typing import Any

import numpy as np
import pytest

from tests.conformance.target import ray, submodule

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def echo(value: Any) -> Any:
    return value


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "left right")

VALUES = [
    None,
    True,
    -5,
    2**200,
    1.5,
    3 + 4j,
    "",
    "schön 🐟",
    b"",
    b"bytes",
    pytest.param(
        bytearray(b"mutable"), marks=pytest.mark.better_than_ray("a bytearray comes back as a bytearray, not as bytes")
    ),
    (),
    (1, (2, (3,))),
    [],
    {"a": [1, {"b": 2}]},
    {1, 2},
    frozenset({1}),
    range(3),
    slice(1, 2),
    Ellipsis,
    decimal.Decimal("1.10"),
    datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    uuid.UUID(int=7),
    Point(1, 2),
    Colour.RED,
    Pair(1, 2),
    int,
    len,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    from_put, from_task = ray.get(ray.put(value)), ray.get(echo.remote(value))
    assert from_put == value and from_task == value
    assert type(from_put) is type(value) and type(from_task) is type(value)


def test_a_function_can_be_stored() -> None:
    offset = 3
    assert ray.get(ray.put(lambda x: x + offset))(4) == 7


def test_a_class_defined_in_the_test_can_be_stored() -> None:
    class Local:
        value = 5

    assert ray.get(echo.remote(Local)).value == 5
    assert ray.get(ray.put(Local())).value == 5


def test_a_self_referring_object_can_be_stored() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    back = ray.get(ray.put(loop))
    assert back[1] is back


def test_sharing_inside_one_object_is_kept() -> None:
    inner = [1]
    left, right = ray.get(ray.put((inner, inner)))
    assert left is right


def test_put_takes_a_copy() -> None:
    items = [1]
    ref = ray.put(items)
    items.append(2)
    assert ray.get(ref) == [1]


def test_each_get_gives_its_own_copy() -> None:
    ref = ray.put([1])
    ray.get(ref).append(2)
    assert ray.get(ref) == [1]


def test_put_of_a_reference_is_refused() -> None:
    with pytest.raises(TypeError):
        ray.put(ray.put(1))


def test_put_of_something_unpicklable_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        ray.put(threading.Lock())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10),
        np.zeros((0, 3)),
        np.array(5.0),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(100)[::3],
        np.array(["a", "bc"]),
        np.array([1, "x", None], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([True, False]),
        np.arange(200_000, dtype=np.float32).reshape(1000, 200),
    ],
    ids=["ints", "empty", "scalar", "fortran", "strided", "text", "objects", "records", "bools", "large"],
)
def test_arrays_come_back_equal(array: np.ndarray[Any, Any]) -> None:
    for back in (ray.get(ray.put(array)), ray.get(echo.remote(array))):
        assert back.dtype == array.dtype and back.shape == array.shape
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("length", [10, 100_000], ids=["80B", "800kB"])
def test_arrays_from_get_are_read_only(length: int) -> None:
    array = ray.get(ray.put(np.zeros(length)))
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array[0] = 1.0


@pytest.mark.parametrize("length", [10, 100_000], ids=["80B", "800kB"])
def test_arrays_in_task_arguments_are_read_only(length: int) -> None:
    @ray.remote
    def writeable(array: Any) -> bool:
        return bool(array.flags.writeable)

    assert not ray.get(writeable.remote(ray.put(np.zeros(length))))
    assert not ray.get(writeable.remote(np.zeros(length)))


def test_a_large_array_is_not_copied_for_each_reader() -> None:
    ref = ray.put(np.zeros(1_000_000))
    assert np.shares_memory(ray.get(ref), ray.get(ref))


def test_an_array_outlives_its_reference() -> None:
    array = ray.get(ray.put(np.arange(500_000)))
    for _ in range(5):
        ray.get(ray.put(np.zeros(500_000, dtype=np.int64)))
    np.testing.assert_array_equal(array, np.arange(500_000))


def test_arrays_inside_containers() -> None:
    value = {"weights": [np.full(50_000, i) for i in range(3)], "name": "layer"}
    back = ray.get(echo.remote(value))
    assert back["name"] == "layer"
    for i, array in enumerate(back["weights"]):
        np.testing.assert_array_equal(array, np.full(50_000, i))


def test_large_bytes_come_back_as_bytes() -> None:
    payload = bytes(range(256)) * 8000
    back = ray.get(ray.put(payload))
    assert type(back) is bytes and back == payload


def test_references_hash_and_compare_by_identity_of_the_object() -> None:
    ref, other = ray.put(1), ray.put(1)
    same = copy.copy(ref)
    assert ref == same and hash(ref) == hash(same)
    assert ref != other
    assert {ref: "value"}[same] == "value"
    assert ref != "text" and ref is not None


def test_references_can_be_deep_copied() -> None:
    ref = ray.put("deep")
    copied = copy.deepcopy({"refs": [ref]})
    assert ray.get(copied["refs"][0]) == "deep"
    assert copied["refs"][0] == ref


def test_a_reference_names_its_object_in_hexadecimal() -> None:
    ref = ray.put(1)
    assert len(ref.hex()) == 56
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert ref.hex() in repr(ref)
    assert not ref.is_nil()


def test_a_reference_can_be_pickled_by_hand() -> None:
    ref = ray.put("out of band")
    pickler = submodule("cloudpickle") if ray.__name__ == "ray" else pickle
    assert ray.get(pickle.loads(pickler.dumps(ref))) == "out of band"


def test_a_reference_inside_an_object_stays_a_reference() -> None:
    inner = ray.put("inner")
    back = ray.get(ray.put({"ref": inner}))
    assert isinstance(back["ref"], ray.ObjectRef)
    assert back["ref"] == inner
    assert ray.get(back["ref"]) == "inner"


def test_references_nest_to_any_depth() -> None:
    ref = ray.put("bottom")
    for _ in range(10):
        ref = ray.put([ref])
    for _ in range(10):
        (ref,) = ray.get(ref)
    assert ray.get(ref) == "bottom"


def test_future_of_a_reference_gives_the_value() -> None:
    future = echo.remote("later").future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(timeout=30) == "later"


def test_future_of_a_failed_task_raises() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError):
        fail.remote().future().result(timeout=30)


def test_a_reference_is_awaitable_in_the_driver() -> None:
    async def main() -> int:
        return int(await echo.remote(1)) + int(await ray.put(2))

    assert asyncio.run(main()) == 3


def test_references_gather_in_the_driver() -> None:
    async def main() -> list[int]:
        return list(await asyncio.gather(*[echo.remote(i) for i in range(10)]))

    assert asyncio.run(main()) == list(range(10))


def test_asyncio_wait_takes_futures_of_references() -> None:
    async def main() -> set[int]:
        done, pending = await asyncio.wait([asyncio.wrap_future(echo.remote(i).future()) for i in range(4)])
        assert not pending
        return {task.result() for task in done}

    assert asyncio.run(main()) == {0, 1, 2, 3}


def test_awaiting_a_failed_task_raises_its_error() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("awaited")

    async def main() -> None:
        await fail.remote()

    with pytest.raises(ValueError, match="awaited"):
        asyncio.run(main())


def test_a_registered_serializer_is_used() -> None:
    class Locked:
        def __init__(self, value: int) -> None:
            self.value = value
            self.lock = threading.Lock()

    util = submodule("util")
    util.register_serializer(Locked, serializer=lambda obj: obj.value, deserializer=lambda value: Locked(value + 1))
    try:
        assert ray.get(ray.put(Locked(4))).value == 5
    finally:
        util.deregister_serializer(Locked)
    with pytest.raises(TypeError):
        ray.put(Locked(4))


def test_an_objects_own_reduce_is_used() -> None:
    class Reduced:
        def __init__(self, value: int) -> None:
            self.value = value

        def __reduce__(self) -> tuple[Any, ...]:
            return type(self), (self.value * 2,)

    assert ray.get(ray.put(Reduced(3))).value == 6


def test_get_inside_a_task_of_an_object_put_by_the_driver() -> None:
    @ray.remote
    def fetch(refs: list[Any]) -> Any:
        return ray.get(refs)

    assert ray.get(fetch.remote([ray.put(i) for i in range(5)])) == list(range(5))


def test_put_inside_a_task_can_be_read_by_the_driver() -> None:
    @ray.remote
    def store() -> list[Any]:
        return [ray.put("small"), ray.put(np.ones(50_000))]

    small, large = ray.get(store.remote())
    assert ray.get(small) == "small"
    assert ray.get(large).sum() == 50_000


@pytest.mark.better_than_ray("instances of the program's own classes with slots come back from tasks")
def test_instances_with_slots_come_back() -> None:
    @dataclasses.dataclass(slots=True)
    class Point:
        x: int
        y: int = 0

    class Private(Point):
        __slots__ = ("__secret", "__weakref__")

        def __init__(self, secret: int) -> None:
            super().__init__(1)
            self.__secret = secret

        def tell(self) -> int:
            return self.__secret

    point, private = ray.get([echo.remote(Point(1)), echo.remote(Private(7))])
    assert point == Point(1)
    assert private.tell() == 7
    assert not hasattr(private, "__dict__")
    assert type(private) is Private
