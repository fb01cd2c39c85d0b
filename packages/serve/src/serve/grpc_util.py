"""What the method of a deployment that answers gRPC may ask for. Ray Serve's names.

::

    @serve.deployment
    class Greeter:
        def Hello(self, request, grpc_context: RayServegRPCContext):
            grpc_context.set_trailing_metadata([("language", "en")])
            return HelloReply(text=f"Hello {request.name}!")

        async def HelloToAll(self, request_stream: gRPCInputStream):
            return HelloReply(text=" ".join([request.name async for request in request_stream]))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from serve.errors import RayServeException

if TYPE_CHECKING:
    import grpc

T = TypeVar("T")
Metadata = Sequence[tuple[str, "str | bytes"]]


class gRPCStatusError(RayServeException):  # noqa: N801 - Ray's name
    """Ends a call with a status of gRPC's; raised by `RayServegRPCContext.abort`, or by the method itself.

    Args:
        code: the status.
        details: text for the client.
    """

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(code, details)
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return the text for the client."""
        return self._details

    def __str__(self) -> str:
        return f"{self._code.name}: {self._details}"


class RayServegRPCContext:
    """The call that a method answers: given to a method that has a parameter ``grpc_context``.

    The methods are those of `grpc.ServicerContext`; what they set travels with the answer.

    Args:
        grpc_context: what to take over from: a `grpc.ServicerContext`, or anything with ``invocation_metadata()``,
            ``peer()``, ``auth_context()``, ``peer_identities()`` and ``peer_identity_key()``.
    """

    def __init__(self, grpc_context: Any) -> None:
        self._metadata: list[tuple[str, str | bytes]] = [
            (key, value) for key, value in grpc_context.invocation_metadata() or ()
        ]
        self._peer: str = grpc_context.peer()
        self._auth: dict[str, Any] = dict(grpc_context.auth_context() or {})
        self._identities = grpc_context.peer_identities()
        self._identity_key: str | None = grpc_context.peer_identity_key()
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: list[tuple[str, str | bytes]] = []
        self._compression: grpc.Compression | None = None

    # -- the client ---------------------------------------------------------------------------------------------------

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """Return the metadata that the client sent; values of names that end with ``-bin`` are bytes."""
        return self._metadata

    def _named(self, name: str) -> str | None:
        return next((str(value) for key, value in self._metadata if key == name), None)

    def request_id(self) -> str | None:
        """Return the id that the client gave the call; None if it gave none."""
        return self._named("request_id")

    def application(self) -> str | None:
        """Return the application that the client named; None if it named none."""
        return self._named("application")

    def multiplexed_model_id(self) -> str | None:
        """Return the model that the client asks for; None if for none."""
        return self._named("multiplexed_model_id")

    def traceparent(self) -> str | None:
        """Return the client's trace (W3C Trace Context); None if there is none."""
        return self._named("traceparent")

    def tracestate(self) -> str | None:
        """Return the client's trace state (W3C Trace Context); None if there is none."""
        return self._named("tracestate")

    def peer(self) -> str:
        """Return the client's address, in gRPC's notation: ``ipv4:127.0.0.1:40000``."""
        return self._peer

    def auth_context(self) -> dict[str, Any]:
        """Return what TLS tells of the client."""
        return self._auth

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return who the client is, by TLS; None if it did not say."""
        identities: Iterable[bytes] | None = self._identities
        return identities

    def peer_identity_key(self) -> str | None:
        """Return which of `auth_context` tells who the client is."""
        return self._identity_key

    # -- the answer ---------------------------------------------------------------------------------------------------

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that the call ends with."""
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        """Return the status that was set."""
        return self._code

    def set_details(self, details: str) -> None:
        """Set the text that goes with the status."""
        self._details = details

    def details(self) -> str:
        """Return the text that was set."""
        return self._details

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set metadata that follows the answer; what was set before is replaced."""
        self._trailing = list(trailing_metadata)

    def trailing_metadata(self) -> list[tuple[str, str | bytes]]:
        """Return the metadata that follows the answer."""
        return self._trailing

    def set_compression(self, compression: grpc.Compression) -> None:
        """Set how the answer is compressed."""
        self._compression = compression

    def compression(self) -> grpc.Compression | None:
        """Return how the answer is compressed; None for the server's way."""
        return self._compression

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            gRPCStatusError: always.
        """
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        raise gRPCStatusError(code, details)


class gRPCInputStream(AsyncIterator[T], Generic[T]):  # noqa: N801 - Ray's name
    """The messages of a client that streams: iterate with ``async for``. Ends when the client has sent its last.

    Args:
        more: returns the next messages, whether they are the last, and whether the client went away.
    """

    def __init__(self, more: Callable[[], Awaitable[tuple[Sequence[T], bool, bool]]]) -> None:
        self._more = more
        self._ready: list[T] = []
        self._ended = False
        self._cancelled = False

    def __aiter__(self) -> gRPCInputStream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            messages, self._ended, cancelled = await self._more()
            self._cancelled = self._cancelled or cancelled
            self._ready = list(reversed(messages))
        return self._ready.pop()

    def is_cancelled(self) -> bool:
        """Tell whether the stream ended because the client went away, or `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Take no further messages."""
        self._cancelled = self._ended = True
        self._ready = []

    @property
    def is_exhausted(self) -> bool:
        """Whether all messages were taken."""
        return self._ended and not self._ready
