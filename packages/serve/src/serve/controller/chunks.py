"""Bytes of any length in the control store, in parts, since a value there has a limit."""

from __future__ import annotations

from core.util import kv

#: bytes of a part
PART = 4 * 1024 * 1024


def put(prefix: str, data: bytes) -> None:
    """Keep bytes under keys that begin with ``prefix/``."""
    for number, at in enumerate(range(0, max(1, len(data)), PART)):
        kv.put(f"{prefix}/{number:06d}", data[at : at + PART])


def get(prefix: str) -> bytes:
    """Return the bytes; b"" if there are none."""
    entries = (kv.get(key) for key in kv.keys(f"{prefix}/"))
    return b"".join(entry.value for entry in entries if entry is not None)


def delete(prefix: str) -> None:
    """Forget the bytes; nothing happens if there are none."""
    for key in kv.keys(f"{prefix}/"):
        kv.delete(key)
