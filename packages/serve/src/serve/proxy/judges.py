"""The gateways of applications, in a proxy: whoever is refused goes no further.

What the proxy decides goes to the replica in a header field, so nothing is decided (or counted) twice. Two kinds of
requests are left to the replica: those of web pages, where CORS has its say in every answer, and WebSockets.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from typing import Any

from serve.http.headers import JUDGED
from serve.proxy.request import RequestHead
from serve.specs import Route

logger = logging.getLogger("serve.proxy")


class Judges:
    """See the module's docstring.

    Args:
        table: path of the table in which all processes of this machine count; None to count in this process alone.
    """

    def __init__(self, table: str | None = None) -> None:
        self._path = table
        self._memory: Any = None
        #: by application: the options, whether pages of other origins use it, and who decides
        self._judges: dict[str, tuple[dict[str, Any], bool, Any]] = {}

    def update(self, routes: Iterable[Route]) -> None:
        """Take a publication over."""
        wanted = {route.app: route.gateway for route in routes if route.gateway is not None}
        for app in self._judges.keys() - wanted.keys():
            del self._judges[app]
        for app, options in wanted.items():
            if app not in self._judges or self._judges[app][0] != options:
                self._judges[app] = (options, options.get("cors") is not None, self._judge(app, options))

    def judge(self, app: str, path: str, head: RequestHead, client: tuple[str, int] | None) -> Any:
        """Return what becomes of a request; None if nobody here decides that.

        Args:
            app: name of the application.
            path: within the application.
            head: the request's.
            client: address that it came from.
        """
        found = self._judges.get(app)
        if found is None:
            return None
        _, has_pages, judge = found
        if judge is None or (has_pages and any(name == b"origin" for name, _ in head.headers)):
            return None
        return judge.judge(path, head.headers, client[0] if client else "", time.monotonic())

    def _judge(self, app: str, options: dict[str, Any]) -> Any:
        from serve.config import GatewayConfig  # noqa: PLC0415 - only those who want it pay for it
        from serve.gateway.judge import Judge  # noqa: PLC0415 - likewise
        from serve.gateway.table import ProcessMemory, SharedMemory  # noqa: PLC0415 - likewise

        if self._memory is None:
            self._memory = ProcessMemory() if self._path is None else SharedMemory(self._path)
        try:
            return Judge(GatewayConfig.model_validate(options), self._memory, app)
        except ValueError as error:  # a key is in a variable that only the replicas have
            logger.info("requests of application %s are judged by its replicas: %s", app, error)
            return None


def judged_line(verdict: Any) -> bytes:
    """Return the line that tells a replica what was decided."""
    decided = {
        "key": verdict.holder.name if verdict.holder is not None else "",
        "fields": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in verdict.fields],
        "timeout_s": verdict.timeout_s,
    }
    return b"%b: %b\r\n" % (JUDGED, json.dumps(decided, separators=(",", ":")).encode())


def field_lines(verdict: Any) -> bytes:
    """Return a verdict's header fields for an answer."""
    return b"".join(b"%b: %b\r\n" % field for field in verdict.fields)
