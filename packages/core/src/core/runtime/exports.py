"""Remote functions as a session knows them: pickled once, numbered, with their measured cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
            TypeError: it cannot be pickled; the message names the path to the culprit.
        """
        try:
            blob = dumps_code(function.function)
        except Exception as error:  # user code: closures may hold anything
            raise unpicklable_error(f"function {function.name}", function.function, error) from error
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


def digest(blob: bytes) -> bytes:
    """Return the digest that names exported code."""
    return blake2b(blob, digest_size=16).digest()
