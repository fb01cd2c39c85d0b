"""Actor classes, handles and ``exit_actor``, under the names they have in ``ray.actor``."""

from __future__ import annotations

from core.api.actor import exit_actor
from core.api.actor_class import ActorClass, method
from core.refs import ActorHandle, ActorMethod

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]
