"""Messages of ``GRPCInferenceService`` from and to the records of `serve.oip.tensors`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from serve.grpc_calls.messages import own
from serve.oip.datatypes import Array, check_shape, dtype_of, from_bytes, from_values, to_bytes
from serve.oip.errors import InferenceError
from serve.oip.tensors import InferRequest, InferResponse, RequestedOutput, Tensor, TensorSpec

#: datatype -> the field of InferTensorContents that its elements are in; FP16 and BF16 travel raw alone
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def message_class(name: str) -> Any:
    """Return the class of a message of the protocol."""
    return own(f"inference.{name}")


def message(kind: str, /, **fields: Any) -> Any:
    """Make a message of the protocol."""
    return message_class(kind)(**fields)


def tensor_metadata(specs: Iterable[TensorSpec]) -> list[Any]:
    """Return what a model says of its tensors."""
    kind = message_class("ModelMetadataResponse").TensorMetadata
    return [kind(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as Python values."""
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in given.items()}


def _encoded_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = message_class("InferParameter")
    made = {}
    for name, value in given.items():
        match value:
            case bool():
                made[name] = kind(bool_param=value)
            case int():
                made[name] = kind(int64_param=value)
            case float():
                made[name] = kind(double_param=value)
            case _:
                made[name] = kind(string_param=str(value))
    return made


def wants_raw(request: Any) -> bool:
    """Tell whether a client reads raw bytes: those that send them do, and clients that send nothing may."""
    return bool(request.raw_input_contents) or not any(tensor.HasField("contents") for tensor in request.inputs)


def decode(request: Any) -> InferRequest:
    """Return a request's record.

    Raises:
        InferenceError: its tensors are not what they say.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InferenceError(f"{len(request.inputs)} inputs were sent, but {len(raw)} raw_input_contents")
    return InferRequest(
        request.model_name,
        [_decoded(tensor, raw[number] if raw else None) for number, tensor in enumerate(request.inputs)],
        request.model_version,
        request.id,
        parameters(request.parameters),
        [RequestedOutput(each.name, parameters(each.parameters)) for each in request.outputs],
    )


def _decoded(tensor: Any, raw: bytes | None) -> Tensor:
    what = f"input {tensor.name!r}"
    given = parameters(tensor.parameters)
    if "shared_memory_region" in given:
        raise InferenceError(f"{what}: shared memory is not supported", 501)
    if raw is not None:
        if tensor.HasField("contents"):
            raise InferenceError(f"{what} has contents although the request has raw_input_contents")
        return Tensor(tensor.name, tensor.datatype, from_bytes(raw, tensor.datatype, tensor.shape, what), given)
    return Tensor(tensor.name, tensor.datatype, _from_contents(tensor, what), given)


def _from_contents(tensor: Any, what: str) -> Array:
    dtype = dtype_of(tensor.datatype, what)
    wanted = _FIELDS.get(tensor.datatype)
    if wanted is None:
        raise InferenceError(f"{what}: {tensor.datatype} can only be sent as raw_input_contents")
    wrong = [field.name for field, _ in tensor.contents.ListFields() if field.name != wanted]
    if wrong:
        raise InferenceError(f"{what}: elements of {tensor.datatype} belong in {wanted}, not in {wrong[0]}")
    values = getattr(tensor.contents, wanted)
    if dtype.kind in "iuO":  # narrower than their field, or bytes
        return from_values(list(values), tensor.datatype, tensor.shape, what)
    array = np.array(values, dtype=dtype)
    shape = check_shape(tensor.shape, what)
    if array.size != int(np.prod(shape)):
        raise InferenceError(f"{what}: {array.size} elements were sent, but shape {list(shape)} takes {np.prod(shape)}")
    return array.reshape(shape)


def encode(response: InferResponse, *, raw: bool) -> Any:
    """Return the message of an answer.

    Args:
        response: the answer.
        raw: elements as raw bytes; all of them are if a datatype can travel no other way.
    """
    raw = raw or any(tensor.datatype not in _FIELDS for tensor in response.outputs)
    kind = message_class("ModelInferResponse").InferOutputTensor
    outputs = []
    for tensor in response.outputs:
        output = kind(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.array.shape,
            parameters=_encoded_parameters(tensor.parameters),
        )
        if not raw:
            getattr(output.contents, _FIELDS[tensor.datatype]).extend(tensor.array.reshape(-1).tolist())
        outputs.append(output)
    return message(
        "ModelInferResponse",
        model_name=response.model_name,
        model_version=response.model_version,
        id=response.id,
        parameters=_encoded_parameters(response.parameters),
        outputs=outputs,
        raw_output_contents=[to_bytes(tensor.array, tensor.datatype) for tensor in response.outputs] if raw else (),
    )
