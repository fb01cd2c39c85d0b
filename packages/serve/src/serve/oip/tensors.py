"""Requests and answers of the protocol, whichever way they came, and what a model says of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serve.oip.datatypes import DTYPES, Array
from serve.oip.errors import InferenceError

Parameters = dict[str, Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Args:
        name: of the tensor, and of the argument of ``predict``.
        datatype: ``BOOL``, ``UINT8`` to ``UINT64``, ``INT8`` to ``INT64``, ``FP16``, ``BF16``, ``FP32``, ``FP64``,
            ``BYTES``.
        shape: length of each dimension, -1 where any will do.
        optional: an input that requests may leave out; ``predict`` needs a default for it.

    Raises:
        ValueError: an unknown datatype, or lengths that are none.
    """

    name: str
    datatype: str
    shape: Sequence[int] = (-1,)
    optional: bool = False

    def __post_init__(self) -> None:
        if self.datatype not in DTYPES:
            raise ValueError(
                f"tensor {self.name!r}: unknown datatype {self.datatype!r}; expected one of {', '.join(DTYPES)}"
            )
        lengths: Sequence[Any] = self.shape
        if not all(isinstance(length, int) and length >= -1 for length in lengths):
            raise ValueError(
                f"tensor {self.name!r}: shape {list(self.shape)!r} has lengths that are none; -1 means any"
            )

    def admits(self, shape: Sequence[int]) -> bool:
        """Tell whether a tensor may have this shape."""
        return len(shape) == len(self.shape) and all(
            wanted in (-1, length) for wanted, length in zip(self.shape, shape, strict=True)
        )


@dataclass
class Tensor:
    """A tensor with its name and what else was said of it."""

    name: str
    datatype: str
    array: Array
    parameters: Parameters = field(default_factory=dict)


@dataclass
class RequestedOutput:
    """An output that a client asks for."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass
class InferRequest:
    """What a client wants inferred."""

    model_name: str
    inputs: list[Tensor]
    model_version: str = ""
    id: str = ""
    parameters: Parameters = field(default_factory=dict)
    #: the outputs that are wanted; none for all
    outputs: list[RequestedOutput] = field(default_factory=list)


@dataclass
class InferResponse:
    """What was inferred."""

    model_name: str
    outputs: list[Tensor]
    model_version: str = ""
    id: str = ""
    parameters: Parameters = field(default_factory=dict)


def checked_inputs(request: InferRequest, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return a request's tensors by name, if they are those that a model takes.

    Raises:
        InferenceError: one is missing, unknown, there twice, or of the wrong type or shape.
    """
    known = {spec.name: spec for spec in specs}
    arrays: dict[str, Array] = {}
    for tensor in request.inputs:
        spec = known.get(tensor.name)
        if spec is None:
            raise InferenceError(
                f"model {request.model_name!r} has no input {tensor.name!r}; it has {', '.join(known) or 'none'}"
            )
        if tensor.name in arrays:
            raise InferenceError(f"input {tensor.name!r} was sent twice")
        _check(spec, tensor, "input", 400)
        arrays[tensor.name] = tensor.array
    missing = [spec.name for spec in specs if not spec.optional and spec.name not in arrays]
    if missing:
        raise InferenceError(f"model {request.model_name!r} needs input {', '.join(map(repr, missing))}")
    return arrays


def checked_outputs(result: Any, specs: Sequence[TensorSpec], wanted: Sequence[RequestedOutput]) -> list[Tensor]:
    """Return what a model's ``predict`` returned as tensors: those that are wanted, in that order.

    Raises:
        InferenceError: the client wants an output that the model does not have; or the model broke its word (500).
    """
    known = {spec.name: spec for spec in specs}
    unknown = [output.name for output in wanted if output.name not in known]
    if unknown:
        raise InferenceError(f"there is no output {unknown[0]!r}; there are {', '.join(known)}")
    if not isinstance(result, Mapping):
        if len(specs) != 1:
            raise InferenceError(
                f"predict() must return a dictionary of arrays by name, not {type(result).__name__}", 500
            )
        result = {specs[0].name: result}
    missing = [name for name in known if name not in result]
    if missing:
        raise InferenceError(f"predict() returned no output {', '.join(map(repr, missing))}", 500)
    asked = wanted or [RequestedOutput(spec.name) for spec in specs]
    return [_output(known[each.name], result[each.name], each.parameters) for each in asked]


def _output(spec: TensorSpec, value: Any, parameters: Parameters) -> Tensor:
    array = _bytes_array(value) if spec.datatype == "BYTES" else np.asarray(value)
    dtype = DTYPES[spec.datatype]
    if array.dtype != dtype:
        if spec.datatype == "BYTES" or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise InferenceError(
                f"predict() returned {array.dtype} for output {spec.name!r}, which cannot become {spec.datatype}", 500
            )
        with np.errstate(over="ignore"):  # what is too large for it becomes infinite
            array = array.astype(dtype)
    tensor = Tensor(spec.name, spec.datatype, array, dict(parameters))
    _check(spec, tensor, "predict()'s output", 500)
    return tensor


def _bytes_array(value: Any) -> Array:
    found = np.asarray(value, dtype=np.object_)
    array = np.empty(found.shape, dtype=np.object_)
    for index, element in enumerate(found.reshape(-1)):
        if not isinstance(element, (str, bytes)):
            raise InferenceError(f"elements of BYTES are bytes or texts; predict() returned {element!r}", 500)
        array.reshape(-1)[index] = element.encode() if isinstance(element, str) else element
    return array


def _check(spec: TensorSpec, tensor: Tensor, what: str, status: int) -> None:
    if tensor.datatype != spec.datatype:
        raise InferenceError(f"{what} {spec.name!r} is {spec.datatype}, not {tensor.datatype}", status)
    if not spec.admits(tensor.array.shape):
        raise InferenceError(
            f"{what} {spec.name!r} has shape {list(spec.shape)} (-1: any), not {list(tensor.array.shape)}", status
        )
