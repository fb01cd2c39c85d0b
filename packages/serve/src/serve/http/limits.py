"""What a client may ask for before it is refused. Ray Serve and uvicorn have no such limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request. Beyond them the answer is 408, 413, 414 or 431, and the connection is closed."""

    #: bytes of the request line's target
    target_bytes: int = 16 * 1024
    #: bytes of all header names and values together
    header_bytes: int = 64 * 1024
    #: number of header fields
    headers: int = 128
    #: bytes of the body; None for no limit
    body_bytes: int | None = None
    #: seconds from a request's first byte to the end of its header
    header_timeout_s: float = 10.0
    #: seconds a client may send nothing in the middle of a body that is being read
    body_timeout_s: float = 30.0
    #: seconds a connection may be open before its first request
    idle_timeout_s: float = 30.0


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is answered without reaching an application."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
