"""Functions that callers have defined: unpickled on first use, one copy per worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.protocol import peer
from core.serialization import loads


class Function:
    """One remote function in this worker. Callers that define the same bytes share it."""

    __slots__ = ("_blob", "_function", "calls", "max_calls", "name")

    def __init__(self, message: peer.DefineFunction) -> None:
        self.name = message.name
        self.max_calls = message.max_calls
        #: how often it ran here, for ``max_calls``
        self.calls = 0
        self._blob: bytes = message.blob
        self._function: Callable[..., Any] | None = None

    def load(self) -> Callable[..., Any]:
        """Return the function.

        Raises:
            Whatever unpickling raises; the next call tries again.
        """
        function = self._function
        if function is None:
            function = self._function = loads(self._blob)
            self._blob = b""
        return function


class FunctionTable:
    """All functions of a worker, by digest."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Function] = {}

    def define(self, message: peer.DefineFunction) -> Function:
        """Return the (shared) function of a definition."""
        function = self._by_digest.get(message.digest)
        if function is None:
            function = self._by_digest[message.digest] = Function(message)
        return function
