"""``multiprocessing.Pool`` on the cluster (``ray.util.multiprocessing``)."""

from __future__ import annotations

from multiprocessing import TimeoutError  # noqa: A004 - the name users know

from core.util.multiprocessing.pool import Pool
from core.util.multiprocessing.results import AsyncResult, IMapIterator

__all__ = ["AsyncResult", "IMapIterator", "Pool", "TimeoutError"]
