"""Values as bytes and back: what is copied, what is not, what is read-only, what travels by value."""

from __future__ import annotations

import sys
import threading
import types

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import custom_serializers, serialization
from core.serialization import INLINE_MAX, Parts, dumps, loads


def _whole(value: object) -> bytes:
    data = dumps(value)
    return data.join() if isinstance(data, Parts) else data


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(value=plain)
def test_plain_values_survive(value: object) -> None:
    assert loads(_whole(value)) == value


@given(shape=st.lists(st.integers(0, 20), max_size=3), kind=st.sampled_from(["f8", "i4", "u1", "c16"]))
def test_arrays_survive_and_are_read_only(shape: list[int], kind: str) -> None:
    array = np.arange(np.prod(shape, dtype=int)).astype(kind).reshape(shape)
    back = loads(_whole({"a": [array]}))["a"][0]
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    assert not back.flags.writeable or back.size == 0


def test_fortran_order_survives() -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    back = loads(_whole(array))
    assert back.flags.f_contiguous
    assert np.array_equal(back, array)


def test_buffers_are_aligned_and_not_copied_on_reading() -> None:
    arrays = [np.arange(5.0), np.arange(30_000.0), np.arange(7, dtype="u1")]
    data = memoryview(_whole(arrays))
    start = np.frombuffer(data, "u1").ctypes.data
    for back in loads(data):
        offset = back.ctypes.data - start
        assert 0 < offset < len(data)
        assert offset % serialization.ALIGNMENT == 0


def test_arrow_tables_are_read_where_they_lie() -> None:
    table = pa.table({"x": list(range(50_000))})
    data = dumps(table)
    assert isinstance(data, Parts)
    assert loads(data.join()).equals(table)


def test_only_large_values_become_parts() -> None:
    assert isinstance(dumps(b"x" * (INLINE_MAX - 100)), bytes)
    assert isinstance(dumps(b"x" * (INLINE_MAX + 1)), Parts)
    assert isinstance(dumps(np.zeros(INLINE_MAX, "u1")), Parts)


def test_writing_needs_exactly_the_announced_room() -> None:
    parts = dumps(np.arange(100_000.0))
    assert isinstance(parts, Parts)
    room = bytearray(parts.nbytes)
    parts.write(memoryview(room))
    assert np.array_equal(loads(bytes(room)), np.arange(100_000.0))


def test_lambdas_and_local_classes_travel_by_value() -> None:
    class Local:
        def __init__(self, number: int) -> None:
            self.number = number

    function = loads(_whole(lambda number: number + 1))
    assert function(1) == 2
    assert loads(_whole(Local(3))).number == 3


def test_functions_of_a_module_that_workers_cannot_import_travel_by_value() -> None:
    module = types.ModuleType("made_up_here")
    exec("def twice(number):\n    return 2 * number", module.__dict__)
    sys.modules["made_up_here"] = module
    try:
        blob = serialization.dumps_code(module.twice)
    finally:
        del sys.modules["made_up_here"]
    assert loads(blob)(4) == 8


def test_functions_of_importable_modules_travel_by_name() -> None:
    import json

    assert len(serialization.dumps_code(json.dumps)) < 100


def test_registered_serializers_are_used() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError):
        dumps(lock)
    custom_serializers.register(type(lock), serializer=lambda _: "a lock", deserializer=lambda text: [text])
    try:
        assert loads(_whole({"lock": lock})) == {"lock": ["a lock"]}
    finally:
        custom_serializers.deregister(type(lock))
