"""Tensors of all datatypes as bytes and as JSON has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serve.oip.datatypes import DTYPES, from_bytes, from_values, to_bytes, to_values
from serve.oip.errors import InferenceError
from serve.oip.tensors import InferRequest, RequestedOutput, Tensor, TensorSpec, checked_inputs, checked_outputs

QUICK = settings(max_examples=20, deadline=None)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def tensors(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BYTES":
        return arrays.arrays(object, SHAPES, elements=st.binary(max_size=9))
    if datatype == "BF16":  # every value that has one
        bits = arrays.arrays(np.uint32, SHAPES, elements=st.integers(0, 0xFFFF))
        return bits.map(lambda found: (found << 16).astype(np.uint32).view(np.float32))
    return arrays.arrays(DTYPES[datatype], SHAPES)


@pytest.mark.parametrize("datatype", DTYPES)
@QUICK
@given(data=st.data())
def test_raw_bytes_there_and_back(datatype: str, data: st.DataObject) -> None:
    array = data.draw(tensors(datatype))
    back = from_bytes(to_bytes(array, datatype), datatype, array.shape, "x")
    assert back.dtype == DTYPES[datatype]
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
@QUICK
@given(data=st.data())
def test_values_there_and_back(datatype: str, data: st.DataObject) -> None:
    array = data.draw(tensors(datatype))
    for values in (to_values(array, datatype, "x"), array.tolist() if array.ndim else [array.item()]):
        np.testing.assert_array_equal(from_values(values, datatype, array.shape, "x"), array)


@QUICK
@given(arrays.arrays(object, SHAPES, elements=st.text(max_size=5)))
def test_texts_there_and_back(array: Any) -> None:
    back = from_values(array.tolist() if array.ndim else [array.item()], "BYTES", array.shape, "x")
    assert to_values(back, "BYTES", "x") == array.reshape(-1).tolist()


def test_bf16_rounds_to_the_nearest() -> None:
    array = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, np.nan, -3.3e38, 1e-30], dtype=np.float32)
    back = from_bytes(to_bytes(array, "BF16"), "BF16", array.shape, "x")
    assert back[:4].tolist() == [1.0, 1.0, 1 + 2**-6, np.inf]
    assert np.isnan(back[4])
    assert np.isfinite(back[5])
    np.testing.assert_allclose(back[5:], array[5:], rtol=2**-8)


@settings(deadline=None)
@given(st.binary(max_size=40), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3))
def test_any_bytes_are_a_tensor_or_refused(raw: bytes, datatype: str, shape: list[int]) -> None:
    try:
        array = from_bytes(raw, datatype, shape, "x")
    except InferenceError:
        return
    assert array.shape == tuple(shape)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3))
def test_any_json_is_a_tensor_or_refused(values: Any, datatype: str, shape: list[int]) -> None:
    try:
        array = from_values(values, datatype, shape, "x")
    except InferenceError:
        return
    assert array.shape == tuple(shape)
    assert array.dtype == DTYPES[datatype]


@pytest.mark.parametrize(
    ("values", "datatype", "shape", "text"),
    [
        ([2**63, -1], "UINT64", [2], "whole numbers"),
        ([2**63, 0.5], "UINT64", [2], "whole numbers"),
        ([2**64], "UINT64", [1], "whole numbers"),
        ([1e39], "FP32", [1], "up to 3.403e+38"),
        ([70_000], "FP16", [1], "up to"),
        ([1, 300], "UINT8", [2], "from 0 to 255"),
        ([-1], "UINT64", [1], "from 0 to"),
        ([1.5], "INT32", [1], "whole numbers"),
        ([True], "INT32", [1], "whole numbers"),
        ([1], "BOOL", [1], "truth values"),
        (["1"], "FP32", [1], "numbers"),
        ([1], "BYTES", [1], "texts"),
        ([[1, 2], [3]], "FP32", [3], "no regular list"),
        ([1, 2, 3], "FP32", [2, 2], "3 elements were sent, but shape [2, 2] takes 4"),
        ([1], "FP31", [1], "unknown datatype 'FP31'"),
        ([1], "FP32", [-1], "whole numbers of at least 0"),
        (7, "FP32", [1], "data is a list, not int"),
    ],
)
def test_what_is_wrong_with_values(values: Any, datatype: str, shape: list[int], text: str) -> None:
    with pytest.raises(InferenceError) as caught:
        from_values(values, datatype, shape, "input 'x'")
    assert str(caught.value).startswith("input 'x'")
    assert text in str(caught.value)


SPECS = [TensorSpec("a", "FP32", [-1, 2]), TensorSpec("b", "BYTES", [1], optional=True)]


def test_inputs_are_checked() -> None:
    right = Tensor("a", "FP32", np.zeros((3, 2), dtype=np.float32))
    assert list(checked_inputs(InferRequest("m", [right]), SPECS)) == ["a"]
    for inputs, text in [
        ([], "needs input 'a'"),
        ([right, right], "'a' was sent twice"),
        ([Tensor("c", "FP32", right.array)], "has no input 'c'; it has a, b"),
        ([Tensor("a", "FP32", np.zeros(2, dtype=np.float32))], "has shape [-1, 2] (-1: any), not [2]"),
        ([Tensor("a", "FP64", np.zeros((1, 2)))], "is FP32, not FP64"),
    ]:
        with pytest.raises(InferenceError) as caught:
            checked_inputs(InferRequest("m", inputs), SPECS)
        assert text in str(caught.value)
        assert caught.value.status == 400


def test_outputs_are_checked_and_brought_into_form() -> None:
    result = {"a": [[1.0, 2.0]], "b": ["text"], "internal": 7}
    found = checked_outputs(result, SPECS, [RequestedOutput("b"), RequestedOutput("a")])
    assert [(each.name, each.array.dtype, each.array.tolist()) for each in found] == [
        ("b", np.dtype(object), [b"text"]),
        ("a", np.dtype(np.float32), [[1.0, 2.0]]),
    ]
    assert checked_outputs(np.zeros((1, 2)), SPECS[:1], [])[0].array.dtype == np.float32
    for wrong, text in [
        ({"a": [[1.0, 2.0]]}, "no output 'b'"),
        ({"a": [[1j, 2.0]], "b": ["t"]}, "cannot become FP32"),
        ({"a": [[1.0, 2.0]], "b": [7]}, "elements of BYTES are bytes or texts"),
        ([1], "must return a dictionary of arrays by name, not list"),
    ]:
        with pytest.raises(InferenceError) as caught:
            checked_outputs(wrong, SPECS, [])
        assert text in str(caught.value)
        assert caught.value.status == 500


def test_specs_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown datatype 'FLOAT'"):
        TensorSpec("a", "FLOAT", [1])
    with pytest.raises(ValueError, match="-1 means any"):
        TensorSpec("a", "FP32", [-2])
