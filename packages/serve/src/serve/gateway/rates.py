"""Rate limits as pure arithmetic: so many requests in a period, and so many at once.

Two algorithms that let exactly the same requests through. The *token bucket* keeps a number of tokens and when it was
last looked at. *GCRA* (the generic cell rate algorithm of ATM networks, ITU-T I.371) keeps one time: when the requests
so far would have come if evenly spread (the *theoretical arrival time*); a request may be ahead of it by the burst.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

#: seconds of a period's name
PERIODS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_RATE = re.compile(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+?)s?\s*")
#: slack for sums of fractions
_EPSILON = 1e-9

#: what a limit remembers of one client: two numbers whose meaning is the algorithm's, and when it could be forgotten
State = tuple[float, float, float]


@dataclass(frozen=True)
class Decision:
    """What a limit says of one request."""

    allowed: bool
    #: requests that may come at once, at most
    limit: int
    #: of them, how many may still come now
    remaining: int
    #: seconds after which all of them may come again
    reset_s: float
    #: seconds after which a refused request would be let through; 0 for one that is
    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Rate:
    """So many requests in a period.

    Args:
        count: requests.
        period_s: seconds.
        burst: requests that may come at once; 0 for `count`.
    """

    count: int
    period_s: float
    burst: int = 0

    @classmethod
    def parse(cls, text: str, burst: int | None = None) -> Rate:
        """Read a rate such as ``100/minute``, ``5/s`` or ``1000/24h``.

        Raises:
            ValueError: it is none.
        """
        found = _RATE.fullmatch(text.lower())
        unit = PERIODS.get(found[3], 0.0) if found else 0.0
        period = float(found[2] or 1) * unit if found else 0.0
        if not found or not int(found[1]) or not period:
            raise ValueError(f"a rate looks like '100/minute', '5/s' or '1000/24h', not {text!r}")
        return cls(int(found[1]), period, burst or 0)

    @property
    def capacity(self) -> int:
        """Requests that may come at once."""
        return self.burst or self.count

    @property
    def interval_s(self) -> float:
        """Seconds between two requests that come evenly."""
        return self.period_s / self.count


class Gcra:
    """The generic cell rate algorithm: one time for each client."""

    name = "gcra"

    def take(self, rate: Rate, state: State | None, now: float, cost: float = 1.0) -> tuple[Decision, State]:
        """Decide about a request, and return what is to be remembered if it is let through."""
        interval, capacity = rate.interval_s, rate.capacity
        arrival = max(now, state[0]) if state is not None else now
        after = arrival + cost * interval
        ahead = after - now - capacity * interval
        if ahead > _EPSILON * max(1.0, interval * capacity):
            left = math.floor((now + capacity * interval - arrival) / interval + _EPSILON)
            return Decision(False, capacity, max(0, left), arrival - now, ahead), state or (now, 0.0, now)
        left = math.floor((now + capacity * interval - after) / interval + 1e-6)
        return Decision(True, capacity, max(0, left), after - now), (after, 0.0, after)


class TokenBucket:
    """The token bucket: how many tokens there were, and when."""

    name = "token_bucket"

    def take(self, rate: Rate, state: State | None, now: float, cost: float = 1.0) -> tuple[Decision, State]:
        """Decide about a request, and return what is to be remembered if it is let through."""
        interval, capacity = rate.interval_s, rate.capacity
        tokens, stamp = (state[0], state[1]) if state is not None else (float(capacity), now)
        tokens = min(float(capacity), tokens + max(0.0, now - stamp) / interval)
        if tokens < cost - 1e-6:
            wait = (cost - tokens) * interval
            decision = Decision(False, capacity, math.floor(tokens), (capacity - tokens) * interval, wait)
            return decision, state or (tokens, now, now)
        tokens -= cost
        reset = (capacity - tokens) * interval
        return Decision(True, capacity, max(0, math.floor(tokens + 1e-6)), reset), (tokens, now, now + reset)


ALGORITHMS: dict[str, Gcra | TokenBucket] = {"gcra": Gcra(), "token_bucket": TokenBucket()}


def tightest(decisions: list[Decision]) -> Decision:
    """Return the decision that a client has to hear: the longest wait, else the fewest requests left."""
    refused = [decision for decision in decisions if not decision.allowed]
    if refused:
        return max(refused, key=lambda decision: decision.retry_after_s)
    return min(decisions, key=lambda decision: decision.remaining / decision.limit)


def headers(decision: Decision) -> list[tuple[bytes, bytes]]:
    """Return the header fields that tell a client where it stands."""
    fields = [
        (b"ratelimit-limit", b"%d" % decision.limit),
        (b"ratelimit-remaining", b"%d" % decision.remaining),
        (b"ratelimit-reset", b"%d" % math.ceil(decision.reset_s)),
    ]
    if not decision.allowed:
        fields.append((b"retry-after", b"%d" % max(1, math.ceil(decision.retry_after_s))))
    return fields
