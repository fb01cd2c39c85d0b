"""Records that the public API and the engines share: remote functions and classes, and the engines' answers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.refs import MethodInfo, ObjectRef
from core.specs import RuntimeEnv


class FunctionDescriptor(Struct, eq=False):
    """A remote function as engines see it. One per ``@remote`` function object; engines cache in ``exported``."""

    function: Any
    #: module-qualified name, for people
    name: str
    is_generator: bool = False
    #: the engine's export of the function, keyed by session
    exported: Any = None


class ClassDescriptor(Struct, eq=False):
    """An actor class as engines see it."""

    cls: type
    name: str
    methods: dict[str, MethodInfo]
    #: any ``async def`` method makes the actor an asyncio actor
    is_async: bool = False
    exported: Any = None


class InitConfig(Struct, frozen=True):
    """What ``init`` was asked for, checked; None where the engine shall choose."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    #: custom resources, natural units
    resources: dict[str, float] = {}
    #: bytes of the "memory" resource
    memory: int | None = None
    #: bytes of the shared-memory store
    object_store_memory: int | None = None
    object_spilling_directory: str = ""
    temp_dir: str = ""
    #: None for an anonymous namespace
    namespace: str | None = None
    runtime_env: RuntimeEnv = RuntimeEnv()
    log_to_driver: bool = True
    logging_level: int = 20
    labels: dict[str, str] = {}
    #: idle workers that are kept ready; None for one per CPU
    prestarted_workers: int | None = None
    #: modules that workers have imported before they start
    preloaded_modules: list[str] = []


class PlacementGroupState(Struct, frozen=True):
    """What the engine tells of a placement group."""

    placement_group_id: bytes
    name: str
    strategy: str
    #: resources of each bundle, in natural units
    bundles: list[dict[str, float]]
    #: "PENDING", "CREATED", "REMOVED" or "INFEASIBLE"
    state: str
    ready: ObjectRef[Any] | None = None


class RuntimeFacts(Struct, frozen=True):
    """The answers of ``get_runtime_context()``; ids in hexadecimal, None where there is none."""

    job_id: str
    node_id: str
    worker_id: str
    namespace: str
    session_name: str
    session_dir: str
    task_id: str | None = None
    task_name: str | None = None
    task_function_name: str | None = None
    actor_id: str | None = None
    actor_name: str | None = None
    placement_group_id: str | None = None
    capture_child_tasks: bool = False
    assigned_resources: dict[str, float] = {}
    gpu_ids: list[int] = []
    runtime_env: dict[str, Any] = {}
    was_reconstructed: bool = False
    is_canceled: bool = False
    mode: str = "driver"
