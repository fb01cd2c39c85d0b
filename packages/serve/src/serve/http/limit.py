"""How long a request may take, for those that read its header: the proxy, and a replica that accepts clients itself."""

from __future__ import annotations

import math

#: a client's own limit in seconds, if it is less than the server's (Ray's name)
TIMEOUT = b"x-request-timeout-seconds"


def time_limit(asked: str | bytes, limit: float | None) -> float | None:
    """Return the seconds that a request may take; None for any number.

    Args:
        asked: the value of the header field; empty if there is none. What is no positive number is ignored.
        limit: of the server.
    """
    if not asked:
        return limit
    try:
        seconds = float(asked)
    except ValueError:
        return limit
    if not seconds > 0 or math.isinf(seconds):
        return limit
    return seconds if limit is None else min(seconds, limit)
