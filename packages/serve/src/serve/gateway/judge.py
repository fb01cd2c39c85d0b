"""What becomes of a request before any application sees it: decided from its head alone, without any I/O.

Skins ask: the ASGI middleware (`serve.gateway.middleware`), which replicas put before their application.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from serve.config import GatewayConfig, PrioritiesConfig, RateLimitConfig
from serve.gateway.keys import Holder, KeyRing
from serve.gateway.rates import ALGORITHMS, Decision, Gcra, Rate, State, TokenBucket, headers, tightest
from serve.gateway.table import Memory

Fields = list[tuple[bytes, bytes]]


@dataclass
class Verdict:
    """What becomes of a request."""

    #: status to refuse it with; 0 to let it pass
    status: int = 0
    #: why, for the client
    text: str = ""
    #: header fields for the answer, whoever gives it
    fields: Fields = field(default_factory=list)
    #: whose key it came with
    holder: Holder | None = None
    #: of its class, for lines: 0 for the default, higher comes first
    rank: int = 0
    #: seconds it may take; None for any time
    timeout_s: float | None = None


class Judge:
    """See the module's docstring.

    Args:
        config: what is configured.
        memory: where limits remember clients.
        name: of the application, since several may share a memory.
    """

    def __init__(self, config: GatewayConfig, memory: Memory, name: str = "") -> None:
        self._memory = memory
        self._name = name
        keys = config.api_keys
        self._ring = None if keys is None else KeyRing(keys.keys)
        self._key_header = b"" if keys is None else keys.header.lower().encode()
        self._exempt = _Paths(keys.exempt) if keys is not None else _Paths([])
        self._limits = [_Limit(number, limit) for number, limit in enumerate(config.rate_limits)]
        self._ranks = None if config.priorities is None else _Ranks(config.priorities)
        self._timeouts = [(_Paths(limit.routes), limit.seconds) for limit in config.timeouts]
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in config.trusted_proxies]

    def judge(
        self,
        path: str,
        fields: Iterable[tuple[bytes, bytes]],
        client: str,
        now: float,
        holder: Holder | None = None,
    ) -> Verdict:
        """Decide about a request.

        Args:
            path: within the application.
            fields: of its header, names in lower case.
            client: address that it came from.
            now: the time, on a clock that all processes of this machine share.
            holder: whose key it came with, if that is known.
        """
        verdict = Verdict(holder=holder)
        for paths, seconds in self._timeouts:
            if paths.match(path):
                verdict.timeout_s = seconds
                break
        fields = list(fields)
        if self._ring is not None and not self._exempt.match(path):
            self._check_key(verdict, self._ring, fields)
            if verdict.status:
                return verdict
        if self._ranks is not None:
            verdict.rank = self._ranks.of(fields, verdict.holder)
        self._check_limits(verdict, path, fields, client, now)
        return verdict

    # -- keys ---------------------------------------------------------------------------------------------------------

    def _check_key(self, verdict: Verdict, ring: KeyRing, fields: Fields) -> None:
        key = self._key_of(fields)
        verdict.holder = None if key is None else ring.holder(key)
        if verdict.holder is None:
            verdict.status = 401
            what = "needs an API key" if key is None else "has an API key that is not known here"
            verdict.text = f"the request {what}: send it as {self._key_header.decode()}, or as Authorization: Bearer"
            verdict.fields.append((b"www-authenticate", b"Bearer"))

    def _key_of(self, fields: Fields) -> bytes | None:
        bearer = None
        for name, value in fields:
            if name == self._key_header:
                return value
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                bearer = value[7:].strip()
        return bearer

    # -- limits -------------------------------------------------------------------------------------------------------

    def _check_limits(self, verdict: Verdict, path: str, fields: Fields, client: str, now: float) -> None:
        names: list[bytes] = []
        rates: list[tuple[Gcra | TokenBucket, Rate]] = []
        holder = verdict.holder
        if holder is not None and holder.rate is not None:
            names.append(f"{self._name}|key|{holder.name}|{holder.rate}".encode())
            rates.append((ALGORITHMS["gcra"], holder.rate))
        for limit in self._limits:
            if limit.paths.match(path):
                address = self._address(client, fields) if limit.needs_address(holder) else ""
                names.append(f"{self._name}|{limit.number}|{limit.rate}|{limit.bucket(holder, address, path)}".encode())
                rates.append((limit.algorithm, limit.rate))
        if not names:
            return

        def decide(known: list[State | None]) -> tuple[list[Decision], list[State] | None]:
            taken = [algorithm.take(rate, state, now) for (algorithm, rate), state in zip(rates, known, strict=True)]
            allowed = all(decision.allowed for decision, _ in taken)
            return [decision for decision, _ in taken], [state for _, state in taken] if allowed else None

        decision = tightest(self._memory.update(names, decide))
        verdict.fields += headers(decision)
        if not decision.allowed:
            verdict.status = 429
            verdict.text = f"too many requests; try again in {decision.retry_after_s:.3g} s"

    def _address(self, client: str, fields: Fields) -> str:
        """Return whom to count: the client, or whom a proxy that is believed says it forwards for."""
        hops = [client]
        if self._trusted:
            for name, value in fields:
                if name == b"x-forwarded-for":
                    hops[:0] = [hop.strip() for hop in value.decode("latin-1").split(",")]
        while len(hops) > 1 and self._is_trusted(hops[-1]):
            hops.pop()
        return _network(hops[-1])

    def _is_trusted(self, hop: str) -> bool:
        try:
            address = ipaddress.ip_address(hop)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


class _Limit:
    """One of the configured rate limits."""

    def __init__(self, number: int, config: RateLimitConfig) -> None:
        self.number = number
        self.paths = _Paths(config.routes)
        self.rate = Rate.parse(config.rate, config.burst)
        self.algorithm = ALGORITHMS[config.algorithm]
        self._per = config.per

    def needs_address(self, holder: Holder | None) -> bool:
        return "ip" in self._per or ("key" in self._per and holder is None)

    def bucket(self, holder: Holder | None, address: str, path: str) -> str:
        """Return what the requests have in common that are counted together."""
        parts = [f"key {holder.name}"] if "key" in self._per and holder is not None else []
        if self.needs_address(holder):
            parts.append(f"ip {address}")
        if "route" in self._per:
            parts.append(path)
        return "|".join(parts)


class _Ranks:
    """The classes of requests."""

    def __init__(self, config: PrioritiesConfig) -> None:
        default = config.default or config.classes[(len(config.classes) - 1) // 2]
        zero = config.classes.index(default)
        self._ranks = {name: zero - place for place, name in enumerate(config.classes)}
        self._header = config.header.lower().encode()

    def of(self, fields: Fields, holder: Holder | None) -> int:
        """Return a request's rank: what it asks for, if it may; what its key has, if it does not ask."""
        allowed = self._ranks.get(holder.priority or "", 0) if holder is not None else 0
        for name, value in fields:
            if name == self._header:
                return min(self._ranks.get(value.decode("latin-1").strip(), allowed), allowed)
        return allowed


class _Paths:
    """Patterns of paths, with ``*`` for anything."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._all = "*" in patterns
        joined = "|".join(fnmatch.translate(pattern) for pattern in patterns)
        self._expression = re.compile(joined) if patterns else None

    def match(self, path: str) -> bool:
        return self._all or (self._expression is not None and self._expression.match(path) is not None)


def _network(address: str) -> str:
    """Return an address as it is counted: of IPv6, the network that one subscriber gets."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return address
