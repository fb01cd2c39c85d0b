"""Ray's module of this name: ``from serve.task_consumer import task_consumer, task_handler``."""

from __future__ import annotations

from serve.tasks.consumer import instantiate_adapter_from_config, task_consumer, task_handler

__all__ = ["instantiate_adapter_from_config", "task_consumer", "task_handler"]
