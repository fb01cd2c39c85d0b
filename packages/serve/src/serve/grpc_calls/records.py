"""What a proxy and a replica send each other for a gRPC call."""

from __future__ import annotations

from typing import Any

import msgspec

from serve.errors import RayServeException


class Upload(msgspec.Struct, frozen=True):
    """Where a replica gets the messages of a client that streams."""

    #: of the proxy, in the namespace of Serve's actors
    actor_name: str
    stream_id: int


class Incoming(msgspec.Struct, frozen=True):
    """A call as the client made it."""

    #: ``/package.Service/Method``
    path: str
    #: the request, serialized; or an object, if its service has a deserializer of its own; None if the client streams
    message: Any
    #: full name of the request's message, and the module that defines it; empty for an object
    type_name: str
    module: str
    upload: Upload | None
    metadata: tuple[tuple[str, str | bytes], ...]
    peer: str
    #: who the client is, where TLS tells
    auth: dict[str, Any]


class Outgoing(msgspec.Struct, frozen=True):
    """The end of an answer: the last item of a stream, or the whole of a single one."""

    #: serialized; None at the end of a stream and with an error
    message: bytes | None = None
    #: number of the status
    code: int = 0
    details: str = ""
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    #: number of a `grpc.Compression`; None for the server's
    compression: int | None = None

    @property
    def error(self) -> Exception | None:
        """What the call ended with, if not well, for whoever counts errors."""
        return RayServeException(self.details) if self.code else None


class Uploaded(msgspec.Struct, frozen=True):
    """Messages of a client that streams, as many as there were."""

    messages: tuple[Any, ...]
    #: no more will come
    ended: bool
    #: because the client went away
    cancelled: bool = False
