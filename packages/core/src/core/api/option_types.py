"""The options of ``@remote``, ``.options()`` and ``@method`` as type checkers see them: names and types, no values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class _CommonOptions(TypedDict, total=False):
    num_cpus: float | None
    num_gpus: float | None
    memory: float | None
    resources: Mapping[str, float] | None
    accelerator_type: str | None
    name: str | None
    runtime_env: Mapping[str, Any] | None
    scheduling_strategy: Any
    label_selector: Mapping[str, str] | None
    fallback_strategy: list[Mapping[str, Any]] | None
    placement_group: Any
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None
    enable_task_events: bool
    _labels: Mapping[str, str] | None
    _metadata: Mapping[str, Any] | None


class TaskCallOptions(_CommonOptions, total=False):
    """Options of ``function.options()``, but for ``num_returns``, which changes what a call returns."""

    max_retries: int | None
    retry_exceptions: bool | Sequence[type[Exception]] | None
    _generator_backpressure_num_objects: int | None


class ActorCallOptions(_CommonOptions, total=False):
    """Options of ``Class.options()``."""

    max_restarts: int | None
    max_task_retries: int | None
    max_concurrency: int | None
    max_pending_calls: int | None
    allow_out_of_order_execution: bool | None
    namespace: str | None
    lifetime: Literal["detached", "non_detached"] | None
    get_if_exists: bool | None


class RemoteOptions(ActorCallOptions, total=False):
    """Options of the ``@remote`` decorator, but for ``num_returns``."""

    max_retries: int | None
    retry_exceptions: bool | Sequence[type[Exception]] | None
    max_calls: int | None
    concurrency_groups: Mapping[str, int] | None
    _generator_backpressure_num_objects: int | None


class MethodDecoratorOptions(TypedDict, total=False):
    """Options of the ``@method`` decorator, but for ``num_returns``."""

    max_task_retries: int | None
    retry_exceptions: bool | Sequence[type[Exception]] | None
    concurrency_group: str | None
    enable_task_events: bool
    tensor_transport: Any
    _generator_backpressure_num_objects: int | None
