"""API keys: known by their hashes, found in the header of requests.

A key is compared by its SHA-256, in constant time. That is enough for keys with the entropy of a random number, as
`new_key` makes them (256 bits); passwords that people think up need a slow hash, and are no API keys.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from serve.config import APIKey
from serve.gateway.rates import Rate


def new_key(prefix: str = "sk") -> tuple[str, str]:
    """Return a new key, for the client, and its hash, for the configuration."""
    key = f"{prefix}_{secrets.token_urlsafe(32)}"
    return key, hash_key(key)


def hash_key(key: str) -> str:
    """Return a key's hash as configurations have it: ``sha256:...``."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@dataclass(frozen=True)
class Holder:
    """Whom a key belongs to."""

    name: str
    #: of this key alone; None for what holds for all
    rate: Rate | None = None
    #: the highest class its requests may have; None for the default
    priority: str | None = None


class KeyRing:
    """The keys that open an application.

    Args:
        keys: with hashes, or with names of environment variables that hold the keys.

    Raises:
        ValueError: a variable is not set, or two keys are the same.
    """

    def __init__(self, keys: Iterable[APIKey]) -> None:
        #: by digest: guessing one says nothing about a key that has it, so looking it up may take what time it takes
        self._holders: dict[bytes, tuple[bytes, Holder]] = {}
        for key in keys:
            digest = bytes.fromhex((key.hash or _from_environment(key)).removeprefix("sha256:"))
            if digest in self._holders:
                raise ValueError(f"API keys {self._holders[digest][1].name!r} and {key.name!r} are the same")
            rate = None if key.rate_limit is None else Rate.parse(key.rate_limit, key.burst)
            self._holders[digest] = (digest, Holder(key.name, rate, key.priority))

    def holder(self, key: bytes) -> Holder | None:
        """Return whom a key belongs to; None if it is none of ours."""
        digest = hashlib.sha256(key).digest()
        kept, holder = self._holders.get(digest, (bytes(32), None))
        return holder if hmac.compare_digest(kept, digest) else None


def _from_environment(key: APIKey) -> str:
    value = os.environ.get(key.env or "")
    if not value:
        raise ValueError(f"API key {key.name!r} is taken from the environment's {key.env}, which is not set")
    return hash_key(value)
