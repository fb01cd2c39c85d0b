"""Arguments and results as bytes: JSON where that says it all, so that other programs can read the queue; else pickled.

The bytes begin with ``j`` or ``p``. Pickled ones are read only from the user's own file (see `serve.tasks.queue`).
"""

from __future__ import annotations

import json
import pickle
from typing import Any

import cloudpickle

_EXACT = (str, int, float, bool, type(None))


def encode(value: Any) -> bytes:
    """Return a value as bytes.

    Raises:
        TypeError: it can neither be written as JSON nor pickled.
    """
    if _is_json(value):
        return b"j" + json.dumps(value, separators=(",", ":")).encode()
    try:
        return b"p" + bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        raise TypeError(f"a task's arguments and result are kept in a file, and this cannot be: {error}") from error


def decode(data: bytes) -> Any:
    """Return the value again; whatever unpickling raises goes to the caller."""
    return json.loads(data[1:]) if data[:1] == b"j" else pickle.loads(data[1:])


def _is_json(value: Any, depth: int = 50) -> bool:
    """Tell whether JSON gives back exactly the same, types included."""
    if type(value) in _EXACT:
        return True
    if depth == 0:
        return False
    if type(value) is list:
        return all(_is_json(item, depth - 1) for item in value)
    if type(value) is dict:
        return all(type(key) is str and _is_json(item, depth - 1) for key, item in value.items())
    return False
