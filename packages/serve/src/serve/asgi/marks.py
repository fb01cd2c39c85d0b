"""Attributes of a class decorated with ``@serve.ingress``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: the ASGI application, or the function that makes it in the replica
APP_ATTRIBUTE = "__serve_asgi_app__"
#: what the application's routes take the instance from
SLOT_ATTRIBUTE = "__serve_instance_slot__"
#: method of a class that makes its own application (Ray's hook)
BUILD_ATTRIBUTE = "__serve_build_asgi_app__"


def is_asgi(target: Callable[..., Any]) -> bool:
    """Tell whether a deployment speaks ASGI itself."""
    return hasattr(target, APP_ATTRIBUTE)
