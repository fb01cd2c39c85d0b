"""What programs build on top of tasks and actors (``ray.util``). Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not lazy: the function has its module's name. Imported here, before anyone can import the module, the function is
# bound last and stays; a later ``from core.util.placement_group import ...`` no longer changes the binding.
from core.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

if TYPE_CHECKING:
    from core.util import joblib, kv, metrics, multiprocessing, queue, scheduling_strategies, state
    from core.util.actor_pool import ActorPool
    from core.util.actors import list_named_actors
    from core.util.check_serialize import inspect_serializability
    from core.util.completion import as_completed, map_unordered
    from core.util.debug import log_once
    from core.util.executor import Executor, SkateExecutor
    from core.util.nodes import get_node_ip_address
    from core.util.queue import Queue
    from core.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorPool",
    "Executor",
    "Queue",
    "SkateExecutor",
    "as_completed",
    "deregister_serializer",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "joblib",
    "kv",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "metrics",
    "multiprocessing",
    "placement_group",
    "placement_group_table",
    "queue",
    "register_serializer",
    "remove_placement_group",
    "scheduling_strategies",
    "state",
]

_SUBMODULES = frozenset({"joblib", "kv", "metrics", "multiprocessing", "queue", "scheduling_strategies", "state"})

#: name -> module that defines it
_HOMES = {
    "ActorPool": "actor_pool",
    "Executor": "executor",
    "Queue": "queue",
    "SkateExecutor": "executor",
    "as_completed": "completion",
    "deregister_serializer": "serialization",
    "get_node_ip_address": "nodes",
    "inspect_serializability": "check_serialize",
    "list_named_actors": "actors",
    "log_once": "debug",
    "map_unordered": "completion",
    "register_serializer": "serialization",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
