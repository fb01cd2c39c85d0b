"""One way to submit tasks on every system, for the rows that have no need of a system's own ways.

The cost of this layer is one Python call per task, well under a microsecond.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing.pool
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.meter import Meter
from benchmarks.model import Kind, Measured, Variant
from benchmarks.ray_api import RayApi


class Tasks(Protocol):
    """Submits functions of a module; what it returns for them is a handle of the system's own kind."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any: ...
    def gather(self, handles: Sequence[Any]) -> list[Any]: ...
    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The system's best way to apply a cheap function to many items."""


class RayTasks:
    """Tasks of Skate or Ray."""

    def __init__(self, api: RayApi) -> None:
        self.api = api
        self._remote: dict[Callable[..., Any], Any] = {}

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self.api.remote(function)
        return remote.remote(*args)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return list(self.api.get(list(handles)))

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        batched = getattr(self.api, "map", None)  # Skate has one, Ray has not
        if batched is None:
            return self.gather([self.submit(function, item) for item in items])
        return list(batched(function, items))


class DaskTasks:
    """Tasks of a Dask client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.submit(function, *args, pure=False)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return list(self.client.gather(list(handles)))

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.gather(self.client.map(function, items, pure=False, batch_size=100))


class ExecutorTasks:
    """Tasks of a process pool executor."""

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self.executor = executor

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(function, *args)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self.executor.map(function, items, chunksize=100))


class PoolTasks:
    """Tasks of a multiprocessing pool."""

    def __init__(self, pool: multiprocessing.pool.Pool) -> None:
        self.pool = pool

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(function, args)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.pool.map(function, items)


_TASKS: Mapping[Kind, Callable[[Any], Tasks]] = {
    "raylike": RayTasks,
    "dask": DaskTasks,
    "executor": ExecutorTasks,
    "pool": PoolTasks,
}


def on(*kinds: Kind, run: Callable[[Tasks, Meter], Measured]) -> dict[Kind, Variant]:
    """Return variants that run ``run`` on the given kinds of system (all but floors when none is given)."""

    def variant(open_tasks: Callable[[Any], Tasks]) -> Variant:
        return lambda session, meter: run(open_tasks(session), meter)

    return {kind: variant(_TASKS[kind]) for kind in kinds or _TASKS}
