"""What goes wrong with a request of the protocol, as its client is told by HTTP and by gRPC."""

from __future__ import annotations

from typing import Any

from serve.errors import RayServeException
from serve.grpc_calls.messages import need

#: status of HTTP -> name of gRPC's
_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    409: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    415: "UNIMPLEMENTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class InferenceError(RayServeException):
    """A request cannot be answered; also for user code to raise.

    Args:
        message: for the client.
        status: of HTTP; gRPC's follows from it: 400 INVALID_ARGUMENT, 404 NOT_FOUND, 409 FAILED_PRECONDITION, 503
            UNAVAILABLE, all else INTERNAL.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message

    def code(self) -> Any:
        """Return gRPC's status."""
        return need("grpc").StatusCode[_CODES.get(self.status, "INTERNAL")]

    def details(self) -> str:
        """Return the text for gRPC."""
        return self.message
