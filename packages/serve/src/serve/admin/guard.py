"""Keep web pages away from the REST API: what a browser sends for a page of somebody else's is refused.

A page in the operator's browser can send requests to addresses of his machine, and a name that its owner points at
127.0.0.1 (DNS rebinding) makes them look like requests to the page's own site. So a request has to name this machine as
its host, and if a page sent it (``Origin``), a page of ours.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

#: what needs no check of where it comes from, because it changes nothing and other pages cannot read the answer
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware; see the module's docstring.

    Args:
        app: what it guards.
        host: that the server listens on.
    """

    def __init__(self, app: App, host: str) -> None:
        self._app = app
        self._names = frozenset({"localhost", host.lower(), socket.gethostname().lower()})

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            refusal = self.refusal(scope["method"], scope["headers"])
            if refusal is not None:
                await _refuse(send, refusal)
                return
        await self._app(scope, receive, send)

    def refusal(self, method: str, headers: list[tuple[bytes, bytes]]) -> str | None:
        """Return why a request is refused; None if it is not."""
        found = {name.lower(): value.decode("latin-1") for name, value in headers}
        host = found.get(b"host", "")
        if not self._is_this_machine(host):
            return f"the request is for host {host!r}, which is not this server; use its address or localhost"
        origin = found.get(b"origin")
        if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
            return f"the request was sent by a page of {origin!r}; only those of this server may"
        if method not in _HARMLESS and found.get(b"sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return "the request was sent by a page of another site; only those of this server may"
        return None

    def _is_this_machine(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # nobody can make a name of an address


async def _refuse(send: Send, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
