"""``get_runtime_context`` under the name it has in ``ray.runtime_context``."""

from __future__ import annotations

from core.api.runtime_context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
