"""How many workers the tasks of a queue need."""

from __future__ import annotations

import math
from typing import Protocol


class Context(Protocol):
    """What the policy looks at (`serve.config.AutoscalingContext`)."""

    target_num_replicas: int
    aggregated_metrics: dict[str, dict[str, float]]


def scale_by_backlog(context: Context) -> int:
    """Return the replicas that all due tasks of a queue need at once: an autoscaling policy for ``task_workers``.

    ::

        serve.task_workers(
            transcode,
            concurrency=2,
            num_replicas="auto",
            autoscaling_config={"min_replicas": 1, "max_replicas": 8, "policy": serve.tasks.scale_by_backlog},
        )

    The replicas are what looks into the queue, so there has to be one at least.

    Args:
        context: what the controller knows.
    """
    metrics = context.aggregated_metrics
    concurrency = max(metrics.get("task_concurrency", {}).values(), default=0.0)
    if not concurrency:
        return context.target_num_replicas  # nobody has told yet
    due = max(metrics.get("due_tasks", {}).values(), default=0.0)
    running = sum(metrics.get("running_tasks", {}).values())
    return max(1, math.ceil((due + running) / concurrency))
