"""Requests and answers of the protocol as JSON with raw bytes, and as protobuf messages."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.oip import grpc_codec, json_codec
from serve.oip.errors import InferenceError
from serve.oip.tensors import InferRequest, InferResponse, RequestedOutput, Tensor


def request(**fields: Any) -> bytes:
    return json.dumps({"inputs": [], **fields}).encode()


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "INT8", "shape": [2], **fields}


def test_json_and_raw_bytes_in_one_body() -> None:
    head = request(
        id="7",
        parameters={"level": 3},
        outputs=[{"name": "y", "parameters": {"binary_data": True}}],
        inputs=[tensor(parameters={"binary_data_size": 2, "unit": "m"}), tensor(name="z", data=[3, 4])],
    )
    found = json_codec.decode("m", "1", head + b"\x01\xff", str(len(head)))
    assert (found.model_name, found.model_version, found.id, found.parameters) == ("m", "1", "7", {"level": 3})
    assert [(each.name, each.array.tolist(), each.parameters) for each in found.inputs] == [
        ("x", [1, -1], {"unit": "m"}),
        ("z", [3, 4], {}),
    ]
    assert found.outputs == [RequestedOutput("y", {"binary_data": True})]


@pytest.mark.parametrize(
    ("body", "length", "text"),
    [
        (b"{", None, "no inference request"),
        (b"\xff", None, "no inference request"),
        (b"[" * 100_000, None, "no inference request"),
        (b'{"inputs": 7}', None, "no inference request"),
        (request(inputs=[{"name": "x"}]), None, "no inference request"),
        (request(inputs=[tensor()]), None, "expected either data or"),
        (request(inputs=[tensor(data=[1, 2], parameters={"binary_data_size": 2})]), None, "expected either data or"),
        (request(inputs=[tensor(parameters={"binary_data_size": 2})]), None, "up to 0, which are left, not 2"),
        (request(inputs=[tensor(parameters={"binary_data_size": -1})]), None, "not -1"),
        (request(inputs=[tensor(parameters={"binary_data_size": True})]), None, "not True"),
        (request(inputs=[tensor(parameters={"shared_memory_region": "r"})]), None, "shared memory"),
        (request() + b"xy", "14", "2 bytes follow that belong to no input"),
        (request(), "99", "Inference-Header-Content-Length is a number of bytes of the body (14), not '99'"),
        (request(), "-1", "not '-1'"),
        (request(), "٣", "not '٣'"),
    ],
)
def test_what_is_no_request(body: bytes, length: str | None, text: str) -> None:
    with pytest.raises(InferenceError) as caught:
        json_codec.decode("m", "", body, length)
    assert text in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=60), st.none() | st.text(max_size=3))
def test_any_body_is_a_request_or_refused(body: bytes, length: str | None) -> None:
    with contextlib.suppress(InferenceError):
        json_codec.decode("m", "", body, length)


def answer(*outputs: Tensor) -> InferResponse:
    return InferResponse("m", list(outputs), "1", "7", {"p": 1})


Y = Tensor("y", "FP32", np.array([[1.5]], dtype=np.float32))
RAW = Tensor("z", "BYTES", np.array([b"\xff"], dtype=object))


def test_answers_as_json_and_raw_bytes() -> None:
    plain = InferRequest("m", [])
    (body,), length = json_codec.encode(answer(Y), plain)
    assert length is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "parameters": {"p": 1},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}],
    }
    with pytest.raises(InferenceError, match="no UTF-8 text"):
        json_codec.encode(answer(RAW), plain)
    (head, *raws), length = json_codec.encode(
        answer(Y, RAW), InferRequest("m", [], parameters={"binary_data_output": True})
    )
    assert length == len(head)
    assert raws == [b"\x00\x00\xc0\x3f", b"\x01\x00\x00\x00\xff"]
    assert [each["parameters"] for each in json.loads(head)["outputs"]] == [
        {"binary_data_size": 4},
        {"binary_data_size": 5},
    ]


def message(contents: dict[str, Any] | None = None, raw: tuple[bytes, ...] = (), **fields: Any) -> Any:
    kind = grpc_codec.message_class("ModelInferRequest")
    made = kind.InferInputTensor(name="x", datatype="INT8", shape=[2])
    for name, value in fields.items():
        if name == "shape":
            made.shape[:] = value
        else:
            setattr(made, name, value)
    if contents is not None:
        made.contents.CopyFrom(grpc_codec.message("InferTensorContents", **contents))
    return kind(model_name="m", inputs=[made], raw_input_contents=raw)


def test_messages_with_contents_and_with_raw_bytes() -> None:
    for encoded in (message({"int_contents": [1, -1]}), message(raw=(b"\x01\xff",))):
        found = grpc_codec.decode(encoded)
        assert (found.inputs[0].array.tolist(), found.inputs[0].array.dtype) == ([1, -1], np.int8)
    texts = grpc_codec.decode(message({"bytes_contents": [b"\xff", b""]}, datatype="BYTES"))
    assert texts.inputs[0].array.tolist() == [b"\xff", b""]
    truths = grpc_codec.decode(message({"bool_contents": [True, False]}, datatype="BOOL"))
    assert truths.inputs[0].array.tolist() == [True, False]
    numbers = grpc_codec.decode(message({"fp32_contents": [0.1, 2]}, datatype="FP32"))
    assert numbers.inputs[0].array.tolist() == np.array([0.1, 2], dtype=np.float32).tolist()


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (message({"fp32_contents": [1, 2]}), "elements of INT8 belong in int_contents, not in fp32_contents"),
        (message({"int_contents": [1, 200]}), "from -128 to 127"),
        (message({"int_contents": [1]}), "1 elements were sent, but shape [2] takes 2"),
        (message({"fp64_contents": [1]}, datatype="FP64"), "1 elements were sent, but shape [2] takes 2"),
        (message({"int_contents": [1, 2]}, shape=[-2]), "whole numbers of at least 0"),
        (message({}, datatype="FP16"), "FP16 can only be sent as raw_input_contents"),
        (message({"int_contents": [1, 2]}, raw=(b"ab",)), "has contents although"),
        (message(raw=(b"ab", b"c")), "1 inputs were sent, but 2 raw_input_contents"),
        (message(raw=(b"abc",)), "3 bytes were sent"),
        (message({}, datatype="INT9"), "unknown datatype 'INT9'"),
    ],
)
def test_what_is_wrong_with_a_message(encoded: Any, text: str) -> None:
    with pytest.raises(InferenceError) as caught:
        grpc_codec.decode(encoded)
    assert text in str(caught.value)


def test_answers_as_messages() -> None:
    found = grpc_codec.encode(answer(Y), raw=False)
    assert (found.model_name, found.model_version, found.id) == ("m", "1", "7")
    assert grpc_codec.parameters(found.parameters) == {"p": 1}
    assert list(found.outputs[0].contents.fp32_contents) == [1.5]
    assert not found.raw_output_contents
    half = Tensor("h", "FP16", np.array([1], dtype=np.float16))
    assert list(grpc_codec.encode(answer(half), raw=False).raw_output_contents) == [b"\x00\x3c"]
    assert list(grpc_codec.encode(answer(RAW), raw=True).raw_output_contents) == [b"\x01\x00\x00\x00\xff"]
    assert grpc_codec.wants_raw(message(raw=(b"ab",)))
    assert not grpc_codec.wants_raw(message({"int_contents": [1, 2]}))
