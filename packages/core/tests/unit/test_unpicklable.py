"""``core.unpicklable``: paths to the culprit."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pytest

from core import custom_serializers
from core.unpicklable import find_failures, find_unpicklable

LOCK = threading.Lock()
WHY = "cannot pickle '_thread.lock' object"


class Model:
    def __init__(self) -> None:
        self.cache = {"weights": [1, 2], "lock": threading.Lock()}

    def predict(self) -> Any:
        return self.cache


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Selective:
    def __getstate__(self) -> dict[str, Any]:
        return {"kept": threading.Lock()}


class Refusing:
    def __reduce__(self) -> Any:
        raise ValueError("not me")


@dataclass
class Nested:
    inner: Any


def _local_class() -> type:
    class Local:
        lock = threading.Lock()

    return Local


def _uses_global() -> Any:
    return LOCK


# As if it were defined in __main__: pickled by value, with the globals it uses.
uses_global = cloudpickle.loads(cloudpickle.dumps(lambda: None))
uses_global = type(_uses_global)(_uses_global.__code__, {"LOCK": LOCK}, "uses_global")
uses_global.__module__ = "__main__"


def _closure() -> Any:
    model = Model()

    def train() -> Any:
        return model.cache

    return train


def _default() -> Any:
    return lambda x, lock=LOCK: (x, lock)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (_closure, "train() -> closure variable model.cache['lock']"),
        (lambda: uses_global, "uses_global() -> global variable LOCK"),
        (_default, "default of parameter lock"),
        (Model, "Model object.cache['lock']"),
        (lambda: Model().predict, ".__self__.cache['lock']"),
        (_local_class, ".lock"),
        (lambda: _local_class()(), "Local"),
        (Slotted, "Slotted object.lock"),
        (Selective, "Selective object.kept"),
        (lambda: Nested(Nested([LOCK])), "Nested object.inner.inner[0]"),
        (lambda: functools.partial(print, LOCK), "partial object.args[0]"),
        (lambda: functools.partial(print, end=LOCK), "partial object.keywords['end']"),
        (lambda: {"a": {"b": (1, LOCK)}}, "dict object['a']['b'][1]"),
        (lambda: {LOCK: 1}, "dict object -> key [lock key]"),
        (lambda: {1, LOCK}, "set object -> an element"),
        (lambda: [*range(100_000), LOCK], "list object[100000]"),
        (lambda: LOCK, "lock object"),
    ],
)
def test_the_path_is_named(make: Any, path: str) -> None:
    (found,) = find_unpicklable(make())
    assert path in found
    assert found.endswith(f": {WHY}")


def test_an_error_in_reduce_is_the_reason() -> None:
    assert find_unpicklable([Refusing()]) == ["list object[0]: not me"]


def test_several_culprits_are_found_but_not_endlessly_many() -> None:
    assert len(find_unpicklable([threading.Lock(), 1, threading.Lock()])) == 2
    assert len(find_unpicklable([threading.Lock() for _ in range(100)])) == 5


def test_cycles_end() -> None:
    cycle: list[Any] = [LOCK]
    cycle.append(cycle)
    assert find_unpicklable(cycle) == [f"list object[0]: {WHY}"]


@pytest.mark.parametrize("value", [1, [1, {"a": (2,)}], Model, Nested(3), lambda x: x, len, functools.partial(len, ())])
def test_nothing_is_found_in_what_can_be_pickled(value: Any) -> None:
    assert find_unpicklable(value) == []


def test_depth_and_name() -> None:
    (failure,) = find_failures({"a": [LOCK]}, name="config", max_depth=1)
    assert failure.path == ("config", "['a']")
    assert failure.parent == {"a": [LOCK]}


def test_time_is_bounded() -> None:
    large_and_bad = [list(range(200_000)), LOCK]
    assert find_failures(large_and_bad, max_seconds=60)[0].path == ("list object", "[1]")
    # Out of time before it was even clear that there is something to find: an answer, not an error.
    assert find_failures(large_and_bad, max_seconds=-1) == []


def test_opaque_types_are_not_looked_into() -> None:
    assert find_unpicklable([Refusing()], opaque=(Refusing,)) == []


def test_registered_classes_count_as_picklable() -> None:
    custom_serializers.register(Slotted, lambda value: None, lambda payload: Slotted())
    try:
        assert find_unpicklable([Slotted()]) == []
        custom_serializers.register(Slotted, lambda value: value.lock, lambda payload: Slotted())
        assert find_unpicklable([Slotted()]) == [f"list object[0] -> what its registered serializer returns: {WHY}"]
    finally:
        custom_serializers.deregister(Slotted)
    assert find_unpicklable(Slotted()) != []


def test_registration_checks_its_arguments() -> None:
    with pytest.raises(TypeError, match="class"):
        custom_serializers.register(3, str, str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="serializer"):
        custom_serializers.register(Slotted, "no", str)  # type: ignore[arg-type]
    assert Slotted not in custom_serializers.table
