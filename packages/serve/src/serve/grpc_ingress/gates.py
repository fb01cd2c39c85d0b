"""The gateways of applications before gRPC: the same keys, limits and classes as before HTTP, from the metadata."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

#: status of HTTP that a gateway refuses with -> number of gRPC's
_CODES = {401: 16, 429: 8, 504: 4}
_PERMISSION_DENIED = 7


class Gates:
    """See the module's docstring.

    Args:
        table: path of the table in which all processes of this machine count.
    """

    def __init__(self, table: str) -> None:
        self._path = table
        self._memory: Any = None
        self._judges: dict[str, tuple[dict[str, Any], Any]] = {}

    def update(self, options: Mapping[str, dict[str, Any]]) -> None:
        """Take over the options of the applications that have a gateway."""
        for app in self._judges.keys() - options.keys():
            del self._judges[app]
        for app, wanted in options.items():
            if app not in self._judges or self._judges[app][0] != wanted:
                self._judges[app] = (wanted, self._judge(app, wanted))

    def judge(self, app: str, path: str, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Any:
        """Return what becomes of a call (`serve.gateway.judge.Verdict`); None if its application has no gateway.

        Raises:
            ValueError: nobody here can decide that.
        """
        found = self._judges.get(app)
        if found is None:
            return None
        if isinstance(found[1], ValueError):
            raise found[1]
        fields = [(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in metadata]
        return found[1].judge(path, fields, address(peer), time.monotonic())

    def _judge(self, app: str, options: dict[str, Any]) -> Any:
        from serve.config import GatewayConfig  # noqa: PLC0415 - only those who want it pay for it
        from serve.gateway.judge import Judge  # noqa: PLC0415 - likewise
        from serve.gateway.table import SharedMemory  # noqa: PLC0415 - likewise

        self._memory = self._memory or SharedMemory(self._path)
        try:
            return Judge(GatewayConfig.model_validate(options), self._memory, app)
        except ValueError as error:  # a key is in a variable that only the replicas have: nobody may pass
            return ValueError(f"the gateway of application {app!r} cannot be had in the gRPC proxy: {error}")


def code_of(status: int) -> int:
    """Return the number of gRPC's status for one of HTTP that a gateway refuses with."""
    return _CODES.get(status, _PERMISSION_DENIED)


def address(peer: str) -> str:
    """Return the address of a client in gRPC's notation, ``ipv4:127.0.0.1:40000``."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")
