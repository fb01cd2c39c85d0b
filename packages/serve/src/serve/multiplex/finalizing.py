"""Asynchronous ``__del__`` methods, which Python itself cannot run. Ray Serve's users write them."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any


def is_asynchronous(value: Any) -> bool:
    """Tell whether an object has a ``__del__`` that is a coroutine function."""
    return inspect.iscoroutinefunction(getattr(type(value), "__del__", None))


async def finalize(value: Any) -> None:
    """Run an object's asynchronous ``__del__``, once: Python does not call it again when the object goes."""
    try:
        await type(value).__del__(value)
    finally:
        with contextlib.suppress(AttributeError, TypeError):
            value.__class__ = type(type(value).__name__, (type(value),), {"__del__": lambda _: None})
