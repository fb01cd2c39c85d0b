"""The head of a client's request, as it came and as it goes on to a replica."""

from __future__ import annotations

from serve.context import new_request_id
from serve.http.headers import CLIENT, OURS, REVISION, ROOT_PATH
from serve.specs import Route, Split

#: fields of one connection (RFC 9110, 7.6.1), and our own, which clients may not set
NOT_RELAYED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        *OURS,
    }
)
#: fields that stay even if the client names them in ``Connection``: without them it would be another request
_NEEDED = frozenset({b"host", b"content-length", b"close", b"x-request-id"})
#: attributes that header fields are noted in
_NOTED = {
    b"host": "host",
    b"x-request-id": "request_id",
    b"serve_multiplexed_model_id": "model_id",
    b"x-session-id": "session_id",
    b"x-request-timeout-seconds": "timeout",
}


class RequestHead:
    """See the module's docstring.

    Args:
        method: of the request.
        target: path and query.
        path: without the query, decoded.
        version: of HTTP.
        headers: names in lower case.
    """

    __slots__ = (
        "chunked",
        "headers",
        "host",
        "method",
        "model_id",
        "path",
        "request_id",
        "session_id",
        "target",
        "timeout",
        "version",
    )

    def __init__(
        self, method: bytes, target: bytes, path: str, version: str, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.version = version
        self.headers = headers
        self.host: str | None = None
        self.request_id = ""
        self.model_id = ""
        self.session_id = ""
        #: what the client says of its own time limit
        self.timeout = ""
        #: its body comes in chunks
        self.chunked = False

    def fields(self) -> dict[str, str]:
        """Return the header fields by name; of several the last."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}

    def encode(self, origin: bytes) -> list[bytes]:
        """Return the head for a replica, but for its end, and note what matters to the proxy.

        Args:
            origin: line of the header that tells the replica whom the request comes from.
        """
        version = b" HTTP/1.0\r\n" if self.version == "1.0" else b" HTTP/1.1\r\n"
        parts = [self.method, b" ", self.target, version]
        dropped: frozenset[bytes] = frozenset()
        for name, value in self.headers:
            if name in NOT_RELAYED:
                if name == b"transfer-encoding":
                    self.chunked = True
                elif name == b"connection":
                    dropped = _named(value)
                continue
            noted = _NOTED.get(name)
            if noted is not None:
                setattr(self, noted, value.decode("latin-1"))
            parts += (name, b": ", value, b"\r\n")
        if dropped:
            parts = _without(parts, dropped)
        if self.host is None:
            parts.append(b"host: localhost\r\n")  # a client of HTTP/1.0
        if not self.request_id:
            self.request_id = new_request_id()
            parts += (b"x-request-id: ", self.request_id.encode("latin-1"), b"\r\n")
        if self.chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(origin)
        return parts

    def encode_upgrade(self, origin: bytes) -> list[bytes]:
        """Return the head of a WebSocket's handshake for a replica, but for its end."""
        parts = [self.method, b" ", self.target, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in OURS:
                parts += (name, b": ", value, b"\r\n")
            if name == b"x-request-id":
                self.request_id = value.decode("latin-1")
        if not self.request_id:
            self.request_id = new_request_id()
            parts += (b"x-request-id: ", self.request_id.encode("latin-1"), b"\r\n")
        parts.append(origin)
        return parts


def origin_line(client: tuple[str, int] | None, scheme: str | None) -> bytes:
    """Return the line that tells a replica whom a request comes from."""
    if client is None:
        return b""
    return b"%b: %b\r\n" % (CLIENT, f"{client[0]} {client[1]} {scheme}".encode())


def root_path_line(root_path: str) -> bytes:
    """Return the line that tells a replica which part of the path is not the application's."""
    return b"%b: %b\r\n" % (ROOT_PATH, root_path.encode()) if root_path else b""


def revision_line(route: Route, split: Split) -> bytes:
    """Return the line that tells a replica which revision answers; empty where there is one alone."""
    return b"%b: %d\r\n" % (REVISION, split.revision) if len(route.splits) > 1 else b""


def _named(connection: bytes) -> frozenset[bytes]:
    names = frozenset(token.strip().lower() for token in connection.split(b","))
    return names - _NEEDED


def _without(parts: list[bytes], dropped: frozenset[bytes]) -> list[bytes]:
    """Take the fields out that the client has named as of its connection only."""
    kept = parts[:4]
    for at in range(4, len(parts), 4):
        if parts[at] not in dropped:
            kept += parts[at : at + 4]
    return kept
