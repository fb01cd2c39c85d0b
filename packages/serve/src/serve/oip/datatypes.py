"""The protocol's datatypes as numpy has them, and tensors as bytes.

``BYTES`` tensors are arrays of Python bytes (``dtype=object``). numpy has no ``BF16``; such tensors are float32 here,
and are rounded to the nearest value (ties to even) when they go out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve.oip.errors import InferenceError

Array = np.ndarray[Any, Any]

#: name -> numpy's type
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.float32),
    "BYTES": np.dtype(np.object_),
}
_LENGTH = struct.Struct("<I")


def dtype_of(datatype: str, what: str) -> np.dtype[Any]:
    """Return numpy's type for a datatype.

    Raises:
        InferenceError: there is no such datatype.
    """
    found = DTYPES.get(datatype)
    if found is None:
        raise InferenceError(f"{what}: unknown datatype {datatype!r}; expected one of {', '.join(DTYPES)}")
    return found


def check_shape(shape: Sequence[Any], what: str) -> tuple[int, ...]:
    """Return a shape of a tensor that is there: whole numbers, none negative.

    Raises:
        InferenceError: it is none.
    """
    if not all(type(length) is int and length >= 0 for length in shape):
        raise InferenceError(f"{what}: a shape is a list of whole numbers of at least 0, not {list(shape)!r}")
    return tuple(shape)


def from_bytes(raw: bytes | memoryview, datatype: str, shape: Sequence[int], what: str) -> Array:
    """Make a tensor of its raw bytes (little-endian, row-major). It shares their memory, and is read-only.

    Raises:
        InferenceError: the bytes are too many or too few for the shape.
    """
    dtype = dtype_of(datatype, what)
    shape = check_shape(shape, what)
    count = math.prod(shape)
    if datatype == "BYTES":
        return _split(memoryview(raw), count, what).reshape(shape)
    size = 2 if datatype == "BF16" else dtype.itemsize
    if len(raw) != count * size:
        raise InferenceError(
            f"{what}: {len(raw)} bytes were sent, but shape {list(shape)} of {datatype} takes {count * size}"
        )
    if datatype == "BF16":
        high = np.frombuffer(raw, dtype="<u2").astype(np.uint32)
        return (high << np.uint32(16)).view(np.float32).reshape(shape)
    if datatype == "BOOL":
        return np.frombuffer(raw, dtype=np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(raw, dtype=dtype.newbyteorder("<")).reshape(shape)


def _split(raw: memoryview, count: int, what: str) -> Array:
    """Cut elements apart, each after its length in four bytes."""
    elements = np.empty(count, dtype=np.object_)
    position = 0
    for number in range(count):
        start = position + 4
        end = start + _LENGTH.unpack_from(raw, position)[0] if start <= len(raw) else start
        if end > len(raw):
            raise InferenceError(f"{what}: the bytes end within element {number} of {count}")
        elements[number] = bytes(raw[start:end])
        position = end
    if position != len(raw):
        raise InferenceError(f"{what}: {len(raw) - position} bytes follow the last of {count} elements")
    return elements


def to_bytes(array: Array, datatype: str) -> bytes:
    """Return a tensor's raw bytes (little-endian, row-major)."""
    if datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(element)) + element for element in array.reshape(-1))
    if datatype == "BF16":
        return _rounded(array).tobytes()
    return np.ascontiguousarray(array, dtype=DTYPES[datatype].newbyteorder("<")).tobytes()


def _rounded(array: Array) -> Array:
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4").astype(np.uint64)
    rounded = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    quiet = (bits >> np.uint64(16)) | np.uint64(0x40)  # a NaN must not round to infinity
    return np.where(np.isnan(array), quiet, rounded).astype("<u2")


def from_values(values: Any, datatype: str, shape: Sequence[int], what: str) -> Array:
    """Make a tensor of a list of numbers, truth values or texts, nested or flat, as JSON has them.

    Raises:
        InferenceError: elements of the wrong type or out of range, or too many or too few of them.
    """
    dtype = dtype_of(datatype, what)
    shape = check_shape(shape, what)
    if not isinstance(values, list):
        raise InferenceError(f"{what}: data is a list, not {type(values).__name__}")
    array = _bytes_of(values, what) if datatype == "BYTES" else _numbers_of(values, dtype, datatype, what)
    if array.size != math.prod(shape):
        raise InferenceError(
            f"{what}: {array.size} elements were sent, but shape {list(shape)} takes {math.prod(shape)}"
        )
    return array.reshape(shape)


def _bytes_of(values: list[Any], what: str) -> Array:
    flat: list[bytes] = []
    pending = [iter(values)]
    while pending:
        for value in pending[-1]:
            if isinstance(value, list):
                pending.append(iter(value))
                break
            if not isinstance(value, (str, bytes)):
                raise InferenceError(f"{what}: elements of BYTES are texts, not {value!r}")
            flat.append(value.encode() if isinstance(value, str) else value)
        else:
            pending.pop()
    array = np.empty(len(flat), dtype=np.object_)
    array[:] = flat
    return array


#: kinds of arrays that numpy makes of lists, and whether elements of a wanted kind may be that
_ADMITTED = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
_WORDS = {"b": "truth values", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}


def _numbers_of(values: list[Any], dtype: np.dtype[Any], datatype: str, what: str) -> Array:
    if not values:
        return np.empty(0, dtype=dtype)
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise InferenceError(f"{what}: data is no regular list of lists: {error}") from None
    if not found.size:
        return found.astype(dtype)
    if dtype == np.uint64 and found.dtype == np.float64:
        found = _exact(values, found)
    if found.dtype.kind not in _ADMITTED[dtype.kind]:
        raise InferenceError(f"{what}: elements of {datatype} are {_WORDS[dtype.kind]}; others were sent")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise InferenceError(
                f"{what}: elements of {datatype} are from {limits.min} to {limits.max}; others were sent"
            )
        return found.astype(dtype)
    with np.errstate(over="ignore"):
        cast = found.astype(dtype)
    if dtype.kind == "f" and bool((np.isinf(cast) & np.isfinite(found)).any()):
        raise InferenceError(f"{what}: elements of {datatype} are up to {np.finfo(dtype).max:.4g}; others were sent")
    return cast


def _exact(values: list[Any], found: Array) -> Array:
    """Undo what numpy makes of whole numbers of which some fit int64 and some do not: floats."""
    exact = np.asarray(values, dtype=np.object_)
    whole = all(type(element) is int and 0 <= element < 2**64 for element in exact.reshape(-1))
    return exact.astype(np.uint64) if whole else found


def to_values(array: Array, datatype: str, what: str) -> list[Any]:
    """Return a tensor's elements in row-major order, as JSON has them.

    Raises:
        InferenceError: an element of BYTES is no UTF-8 text.
    """
    flat = array.reshape(-1)
    if datatype != "BYTES":
        listed: list[Any] = flat.tolist()
        return listed
    try:
        return [element.decode() for element in flat]
    except UnicodeDecodeError:
        raise InferenceError(
            f"{what}: an element is no UTF-8 text, which JSON needs; ask for binary data", 400
        ) from None
