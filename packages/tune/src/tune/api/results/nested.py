"""Nested results and configurations by flat names: ``"eval/loss"`` in ``{"eval": {"loss": 0.1}}``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def delimiter() -> str:
    """Return what separates the parts of flat names: ``/``, or the environment's ``TUNE_RESULT_DELIM``."""
    return os.environ.get("TUNE_RESULT_DELIM") or "/"


def flatten(nested: Mapping[str, Any], separator: str = "/") -> dict[str, Any]:
    """Return a dict without dicts in it: the names of nested entries are joined."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            for inner, entry in flatten(value, separator).items():
                flat[f"{name}{separator}{inner}"] = entry
        else:
            flat[str(name)] = value
    return flat
