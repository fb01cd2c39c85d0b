"""What stands before an application: API keys, rate limits, CORS, priorities, time limits. ASGI middleware.

An application of Serve gets them with ``@serve.deployment(gateway={...})``; any other ASGI application with the classes
here (``app.add_middleware(serve.gateway.APIKeys, keys=[...])``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.config import GatewayConfig
    from serve.gateway.keys import hash_key, new_key
    from serve.gateway.middleware import APIKeys, Priorities, RateLimits, TimeLimits
    from serve.gateway.stack import Gateway

#: name -> module that defines it
_HOMES = {
    "APIKeys": "serve.gateway.middleware",
    "Gateway": "serve.gateway.stack",
    "GatewayConfig": "serve.config",
    "Priorities": "serve.gateway.middleware",
    "RateLimits": "serve.gateway.middleware",
    "TimeLimits": "serve.gateway.middleware",
    "hash_key": "serve.gateway.keys",
    "new_key": "serve.gateway.keys",
}

__all__ = [
    "APIKeys",
    "Gateway",
    "GatewayConfig",
    "Priorities",
    "RateLimits",
    "TimeLimits",
    "hash_key",
    "new_key",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
