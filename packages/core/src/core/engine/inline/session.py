"""Facts about an inline session: its ids, its one node, what runs and what ran."""

from __future__ import annotations

import itertools
import math
import os
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from core import ids
from core.descriptors import InitConfig, RuntimeFacts
from core.engine.inline.calls import TaskContext, current_task
from core.node import machine
from core.runtime_env import env_dict, merged_env
from core.specs import RESOURCE_UNIT, LeaseSpec, Resources

T = TypeVar("T")

#: Events kept for ``timeline()``.
_MAX_EVENTS = 100_000
#: Memory that tasks may ask for where ``init`` does not say: a nominal figure, because nothing is reserved here.
_DEFAULT_MEMORY = 4 << 30


class InlineSession:
    """Ids, contexts and descriptions of one session."""

    def __init__(self, config: InitConfig) -> None:
        self._config = config
        self.address = ids.new_address()
        self.job_id = (1).to_bytes(ids.JOB_ID_BYTES, "big")
        self.node_id = ids.new_node_id()
        self.namespace = config.namespace or self.address.hex()
        self._name = f"session-{self.address.hex()}"
        self._tasks = itertools.count(1)
        self._puts = itertools.count()
        self._put_task = ids.task_id(self.address, 0, self.job_id)
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=_MAX_EVENTS)

    def next_task(self) -> bytes:
        """Return the id of a new task."""
        return ids.task_id(self.address, next(self._tasks), self.job_id)

    def next_put(self) -> bytes:
        """Return the id of a new object that no task makes."""
        return ids.object_id(self._put_task, next(self._puts))

    def total_resources(self) -> dict[str, float]:
        """Return the resources of the node."""
        config = self._config
        cpus = config.num_cpus if config.num_cpus is not None else float(machine.cpus())
        total = {
            "CPU": cpus,
            "GPU": config.num_gpus or 0.0,
            "memory": float(config.memory or _DEFAULT_MEMORY),
            "object_store_memory": float(config.object_store_memory or _DEFAULT_MEMORY),
            "node:127.0.0.1": 1.0,
            "node:__internal_head__": 1.0,
            **config.resources,
        }
        return {name: amount for name, amount in total.items() if amount}

    def context(
        self, name: str, function_name: str, lease: LeaseSpec, held: Resources | None = None, actor_id: bytes = b""
    ) -> TaskContext:
        """Return the context of a new task; in a placement group that captures its children, it runs there, too."""
        parent = current_task.get()
        group, capture = lease.strategy.placement_group, lease.strategy.capture_child_tasks
        if not group and lease.strategy.kind == "default" and parent is not None and parent.capture_child_tasks:
            group, capture = parent.placement_group, True
        resources = lease.resources if held is None else held
        amounts = {resource: amount / RESOURCE_UNIT for resource, amount in resources}
        inherited = self._config.runtime_env if parent is None else parent.runtime_env
        return TaskContext(
            task_id=self.next_task(),
            name=name,
            function_name=function_name,
            resources=amounts,
            gpu_ids=list(range(math.ceil(amounts.get("GPU", 0)))),
            runtime_env=merged_env(inherited, lease.runtime_env),
            placement_group=group,
            capture_child_tasks=capture,
            actor_id=actor_id,
        )

    def labels(self) -> Mapping[str, str]:
        """Return the labels of the node."""
        return {**self._config.labels, "ray.io/node-id": self.node_id.hex()}

    def node(self, resources: dict[str, float]) -> dict[str, Any]:
        """Describe the node, with Ray's keys."""
        return {
            "NodeID": self.node_id.hex(),
            "Alive": True,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": socket.gethostname(),
            "NodeManagerPort": 0,
            "ObjectManagerPort": 0,
            "ObjectStoreSocketName": "",
            "RayletSocketName": "",
            "MetricsExportPort": 0,
            "NodeName": "127.0.0.1",
            "RuntimeEnvAgentPort": 0,
            "DeathReason": 0,
            "DeathReasonMessage": "",
            "alive": True,
            "Resources": resources,
            "Labels": dict(self.labels()),
        }

    def describe(self) -> dict[str, Any]:
        """Describe the session, for the context that ``init`` returns."""
        return {
            "node_ip_address": "127.0.0.1",
            "address": "local",
            "gcs_address": "local",
            "session_dir": self._session_dir(),
            "node_id": self.node_id.hex(),
            "webui_url": "",
        }

    def facts(self, actor_name: str | None, restarts: int) -> RuntimeFacts:
        """Return what ``get_runtime_context()`` tells the calling code; the arguments are about its actor."""
        context = current_task.get()
        driver = RuntimeFacts(
            job_id=self.job_id.hex(),
            node_id=self.node_id.hex(),
            worker_id=ids.worker_id(self.address).hex(),
            namespace=self.namespace,
            session_name=self._name,
            session_dir=self._session_dir(),
            runtime_env=env_dict(self._config.runtime_env),
        )
        if context is None:
            return driver
        return RuntimeFacts(
            job_id=driver.job_id,
            node_id=driver.node_id,
            worker_id=driver.worker_id,
            namespace=driver.namespace,
            session_name=driver.session_name,
            session_dir=driver.session_dir,
            task_id=context.task_id.hex(),
            task_name=context.name,
            task_function_name=context.function_name,
            actor_id=context.actor_id.hex() or None,
            actor_name=actor_name,
            placement_group_id=context.placement_group.hex() or None,
            capture_child_tasks=context.capture_child_tasks,
            assigned_resources=context.resources,
            gpu_ids=context.gpu_ids,
            runtime_env=env_dict(context.runtime_env),
            was_reconstructed=restarts > 0,
            is_canceled=context.cancelled,
            mode="worker",
        )

    def timed(self, name: str, run: Callable[[], T]) -> T:
        """Run something and note it for the timeline."""
        wall, start = time.time(), time.perf_counter()
        try:
            return run()
        finally:
            self._events.append(
                {
                    "cat": "task",
                    "name": name,
                    "ph": "X",
                    "ts": wall * 1e6,
                    "dur": (time.perf_counter() - start) * 1e6,
                    "pid": os.getpid(),
                    "tid": threading.get_ident(),
                    "args": {},
                }
            )

    def events(self) -> list[dict[str, Any]]:
        """Return what ran so far, as Chrome's trace viewer reads it."""
        return list(self._events)

    def close(self) -> None:
        """Remove the session's directory, if anybody asked for one."""
        if self._directory is not None:
            self._directory.cleanup()

    def _session_dir(self) -> str:
        if self._directory is None:
            parent = self._config.temp_dir or None
            self._directory = tempfile.TemporaryDirectory(
                prefix="skate-inline-", dir=parent, ignore_cleanup_errors=True
            )
        return str(Path(self._directory.name))
