"""Skate's core: functions as tasks, classes as actors, values as objects in shared memory.

A drop-in for Ray's core API on one machine::

    import core as ray


    @ray.remote
    def square(x: int) -> int:
        return x * x


    print(ray.get([square.remote(i) for i in range(4)]))  # [0, 1, 4, 9]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from core.api.actor import exit_actor
from core.api.actor_class import method, typed
from core.api.batch_map import map, map_unordered  # noqa: A004 - as core.map
from core.api.decorator import remote
from core.api.operations import (
    available_resources,
    cancel,
    cluster_resources,
    empty,
    get,
    get_actor,
    get_gpu_ids,
    kill,
    nodes,
    put,
    timeline,
    wait,
)
from core.api.runtime_context import get_runtime_context
from core.api.session import RayContext, init, is_initialized, shutdown
from core.refs import ActorHandle, ObjectRef, ObjectRefGenerator
from core.version import __version__

if TYPE_CHECKING:
    from core import actor, exceptions, runtime_context, runtime_env, util

__all__ = [
    "ActorHandle",
    "ObjectRef",
    "ObjectRefGenerator",
    "RayContext",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "cluster_resources",
    "empty",
    "exceptions",
    "exit_actor",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "map",
    "map_unordered",
    "method",
    "nodes",
    "put",
    "remote",
    "runtime_context",
    "runtime_env",
    "shutdown",
    "timeline",
    "typed",
    "util",
    "wait",
]

#: Public modules that are imported when they are first used, as in ``core.util.ActorPool``.
_LAZY_MODULES = frozenset({"actor", "exceptions", "runtime_context", "runtime_env", "util"})


#: Names that Ray's core has: those without a counterpart, and what to write for the others.
_NOT_THERE = frozenset(
    {"LoggingConfig", "air", "autoscaler", "client", "cross_language", "dag", "data", "experimental", "internal"}
    | {"java_function", "job_submission", "rllib", "train", "workflow"}
)
_MISSING = "; this part of Ray is not there: see 'Coming from Ray' in the documentation"
_OF_RAY = {
    "tune": ": sweeps are a distribution of their own, skate-tune; write `import tune`",
    "serve": ": serving is a distribution of its own, skate-serve; write `import serve`",
    "cloudpickle": "; write `import cloudpickle`",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"core.{name}")
    advice = _MISSING if name in _NOT_THERE else _OF_RAY.get(name, "")
    raise AttributeError(f"module 'core' has no attribute {name!r}{advice}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES})
