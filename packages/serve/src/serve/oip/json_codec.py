"""Requests and answers as HTTP has them: JSON, and after it the raw bytes of tensors (binary tensor data extension)."""

from __future__ import annotations

from typing import Any

import msgspec

from serve.oip.datatypes import Array, from_bytes, from_values, to_bytes, to_values
from serve.oip.errors import InferenceError
from serve.oip.tensors import InferRequest, InferResponse, RequestedOutput, Tensor, TensorSpec

#: header that says where the JSON ends and raw bytes begin
LENGTH_HEADER = "Inference-Header-Content-Length"


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: Any = msgspec.UNSET
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decoder = msgspec.json.Decoder(_Request)


def decode(name: str, version: str, body: bytes, header_length: str | None) -> InferRequest:
    """Return the record of a request.

    Args:
        name: of the model, from the URL.
        version: likewise; empty if there is none.
        body: of the request.
        header_length: bytes of JSON at its beginning, as the header says; None for all.

    Raises:
        InferenceError: it is no request of the protocol.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit() or int(header_length) > length:
            raise InferenceError(f"{LENGTH_HEADER} is a number of bytes of the body ({length}), not {header_length!r}")
        length = int(header_length)
    try:
        request = _decoder.decode(memoryview(body)[:length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InferenceError(f"the body is no inference request: {error}") from None
    raw = _Raw(body, length)
    inputs = [_input(tensor, raw) for tensor in request.inputs]
    raw.finish()
    outputs = [RequestedOutput(output.name, output.parameters) for output in request.outputs]
    return InferRequest(name, inputs, version, request.id, request.parameters, outputs)


class _Raw:
    """The bytes after the JSON, taken tensor by tensor."""

    def __init__(self, body: bytes, begin: int) -> None:
        self._body = memoryview(body)
        self._position = begin

    def take(self, size: Any, what: str) -> memoryview:
        """Return the next bytes."""
        left = len(self._body) - self._position
        if type(size) is not int or not 0 <= size <= left:
            raise InferenceError(
                f"{what}: binary_data_size is a number of bytes up to {left}, which are left, not {size!r}"
            )
        self._position += size
        return self._body[self._position - size : self._position]

    def finish(self) -> None:
        """Refuse bytes that belong to no tensor."""
        left = len(self._body) - self._position
        if left:
            raise InferenceError(f"{left} bytes follow that belong to no input; each names its binary_data_size")


def _input(tensor: _Tensor, raw: _Raw) -> Tensor:
    what = f"input {tensor.name!r}"
    parameters = dict(tensor.parameters)
    if "shared_memory_region" in parameters:
        raise InferenceError(f"{what}: shared memory is not supported", 501)
    size = parameters.pop("binary_data_size", None)
    if (size is None) == (tensor.data is msgspec.UNSET):
        raise InferenceError(f"{what}: expected either data or the parameter binary_data_size")
    array: Array
    if size is None:
        array = from_values(tensor.data, tensor.datatype, tensor.shape, what)
    else:
        array = from_bytes(raw.take(size, what), tensor.datatype, tensor.shape, what)
    return Tensor(tensor.name, tensor.datatype, array, parameters)


def encode(response: InferResponse, request: InferRequest) -> tuple[list[bytes], int | None]:
    """Return the parts of the body of an answer, and the length of its JSON if raw bytes follow.

    Raises:
        InferenceError: a tensor cannot be written as JSON.
    """
    by_default = bool(request.parameters.get("binary_data_output", False))
    outputs: list[dict[str, Any]] = []
    raws: list[bytes] = []
    for tensor in response.outputs:
        parameters = dict(tensor.parameters)
        binary = bool(parameters.pop("binary_data", by_default))
        if parameters.pop("classification", 0):
            raise InferenceError(f"output {tensor.name!r}: classification is not supported", 501)
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}
        if binary:
            raws.append(to_bytes(tensor.array, tensor.datatype))
            parameters["binary_data_size"] = len(raws[-1])
        else:
            output["data"] = to_values(tensor.array, tensor.datatype, f"output {tensor.name!r}")
        if parameters:
            output["parameters"] = parameters
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": response.model_name, "outputs": outputs}
    if response.model_version:
        answer["model_version"] = response.model_version
    if response.id:
        answer["id"] = response.id
    if response.parameters:
        answer["parameters"] = response.parameters
    encoded = msgspec.json.encode(answer)
    return [encoded, *raws], (len(encoded) if raws else None)


def tensor_metadata(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    """Return what a model says of its tensors."""
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
