"""Which worker to end when memory runs short: the one that outgrew it.

Ending the newest task (Ray's default policy) often ends an innocent one while the hog grows on. Private resident
memory says who the hog is; workers too small to matter are left alone, since ending them would not help.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

#: Workers below this many private bytes are never chosen.
MIN_VICTIM_BYTES = 64 * 1024 * 1024


class Usage(Struct, frozen=True):
    """What one worker uses."""

    address: bytes
    pid: int
    private_bytes: int


def choose_victim(usages: Iterable[Usage]) -> Usage | None:
    """Return the worker to end, the one with most private memory; None if ending any would not help."""
    victim = max(usages, key=lambda usage: (usage.private_bytes, usage.address), default=None)
    return victim if victim is not None and victim.private_bytes >= MIN_VICTIM_BYTES else None
