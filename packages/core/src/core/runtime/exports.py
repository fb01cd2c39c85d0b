"""Remote functions as a session knows them: pickled once, numbered, with their measured cost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from core.descriptors import FunctionDescriptor
from core.runtime.packing import unpicklable_error
from core.serialization import dumps_code
from core.state.leases import FunctionCost

try:
    # hashlib loads OpenSSL, 3 ms and 1 MB in every process, for a function that does not need it.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


logger: logging.Logger = logging.getLogger("core")

#: Of a function or class with what it closes over: from here on it is warned of, or refused (Ray's figures).
LARGE_CODE_BYTES, MAX_CODE_BYTES = 10 << 20, 95 << 20


class Exported(Struct, eq=False):
    """A function as this session knows it."""

    #: the runtime that exported it
    session: object
    number: int
    digest: bytes
    blob: bytes
    name: str
    #: ``name`` without module and outer scopes, as Ray shows it
    short_name: str
    cost: FunctionCost
    max_calls: int = 0


class Exports:
    """Exports the functions that this process submits."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._functions = 0

    def export(self, function: FunctionDescriptor, max_calls: int) -> Exported:
        """Pickle a function once per session.

        Raises:
            TypeError, ValueError: as for :func:`pickled_code`.
        """
        blob = pickled_code(f"function {function.name}", function.function)
        with self._rt.lock:
            self._functions += 1
            exported = Exported(
                self._rt,
                self._functions,
                digest(blob),
                blob,
                function.name,
                function.name.rpartition(".")[2],
                FunctionCost(),
                max_calls,
            )
        function.exported = exported
        return exported


def pickled_code(what: str, code: Any) -> bytes:
    """Return a function or class as bytes.

    Raises:
        TypeError: it cannot be pickled; the message names the path to the culprit.
        ValueError: it carries too much along.
    """
    try:
        blob = dumps_code(code)
    except Exception as error:  # user code: closures and class bodies may hold anything
        raise unpicklable_error(what, code, error) from error
    if len(blob) > LARGE_CODE_BYTES:
        advice = (
            f"the {what} is {len(blob) >> 20:,} MiB when pickled, with what it closes over. Does it use a large "
            "variable from outside? put() that and pass the reference as an argument."
        )
        if len(blob) > MAX_CODE_BYTES:
            raise ValueError(f"{advice} At most {MAX_CODE_BYTES >> 20} MiB are accepted.")
        logger.warning("%s", advice)
    return blob


def digest(blob: bytes) -> bytes:
    """Return the digest that names exported code."""
    return blake2b(blob, digest_size=16).digest()
