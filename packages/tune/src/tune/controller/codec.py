"""Encoding of journal records: MessagePack, because JSON has no NaN, and reports do.

Reports and configurations hold whatever users put there. What MessagePack cannot hold is pickled into an extension
value. Numbers of numpy's become numbers; tuples in *results* become lists. Configurations are kept exactly (`exact`),
because a resumed trial runs with what is read back.
"""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import msgspec

#: extension type of a pickled value
_PICKLED = 1
_SIMPLE = frozenset({str, float, bool, type(None)})


def exact(value: Any) -> Any:
    """Return something that decodes to an equal value of the same types: the value itself where that is so."""
    return value if _survives(value) else pickled(value)


def pickled(value: Any) -> msgspec.msgpack.Ext:
    """Return the value as an extension value that decodes to it."""
    return msgspec.msgpack.Ext(_PICKLED, cloudpickle.dumps(value))


def _survives(value: Any) -> bool:
    kind = type(value)
    if kind in _SIMPLE:
        return not (kind is str and not value.isascii() and _unencodable(value))
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is dict:
        return all(type(key) is str and key.isascii() and _survives(item) for key, item in value.items())
    return kind is list and all(_survives(item) for item in value)


def _unencodable(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _encode_strange(value: Any) -> Any:
    if isinstance(value, float):
        return float(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return pickled(value)


def _decode_extension(code: int, data: memoryview) -> Any:
    if code != _PICKLED:
        return msgspec.msgpack.Ext(code, bytes(data))
    return pickle.loads(data)


ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode_strange)


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return a decoder of records of this type or union."""
    return msgspec.msgpack.Decoder(kind, ext_hook=_decode_extension)
