"""Aids for log output."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any


def log_once(key: Any) -> bool:
    """Return True the first time this process asks for ``key`` (any hashable), False ever after.

    Example::

        if log_once("slow_path"):
            logger.warning("taking the slow path")
    """
    return next(_times_asked(key)) == 0


@functools.cache
def _times_asked(key: Any) -> Iterator[int]:
    """Return the one counter of ``key``; ``next`` on it is atomic, so threads cannot both be first."""
    return itertools.count()
