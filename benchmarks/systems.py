"""One adapter per system: how a session is opened, used once, and closed."""

from __future__ import annotations

import abc
import concurrent.futures
import importlib
import multiprocessing.pool
import os
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from benchmarks.model import Kind
from benchmarks.ray_api import RayApi
from benchmarks.work import trivial


class System(abc.ABC):
    """A system under test. One process uses one adapter, from one thread."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    #: the module whose import is timed
    module: ClassVar[str]
    #: the distribution whose install size is counted with its dependencies; None for the standard library
    distribution: ClassVar[str | None] = None

    @abc.abstractmethod
    def open(self, cpus: int, resources: Mapping[str, float]) -> Any:
        """Start the system with ``cpus`` workers and return what the rows program against."""

    @abc.abstractmethod
    def first_task(self) -> object:
        """Run one trivial task and return its result."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop the system and all its processes; may be called without ``open``."""


class RayLike(System):
    """Skate or Ray, by the module that is imported."""

    kind = "raylike"
    #: ``init`` options besides ``num_cpus`` and ``resources``
    options: ClassVar[Mapping[str, Any]] = {}

    def open(self, cpus: int, resources: Mapping[str, float]) -> RayApi:
        api = cast("RayApi", importlib.import_module(self.module))
        custom = {"resources": dict(resources)} if resources else {}
        api.init(num_cpus=cpus, **custom, **self.options)
        self.api = api
        return api

    def first_task(self) -> object:
        @self.api.remote  # by value: this package need not be importable in the workers
        def first() -> bytes:
            return b"ok"

        return self.api.get(first.remote())

    def close(self) -> None:
        if hasattr(self, "api"):
            self.api.shutdown()


class Skate(RayLike):
    name = "skate"
    module = "core"
    distribution = "skate-core"


class Ray(RayLike):
    name = "ray"
    module = "ray"
    distribution = "ray"
    # Without its dashboard, Ray starts faster and leaner: the fairer opponent.
    options: ClassVar[Mapping[str, Any]] = {"include_dashboard": False}

    def open(self, cpus: int, resources: Mapping[str, float]) -> RayApi:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # The future behaviour, and without a warning at every start.
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        return super().open(cpus, resources)


class Dask(System):
    """Dask distributed: a local cluster with one thread per worker process."""

    name = "dask"
    kind = "dask"
    module = "distributed"
    distribution = "distributed"

    def open(self, cpus: int, resources: Mapping[str, float]) -> Any:
        distributed = importlib.import_module("distributed")
        self.cluster = distributed.LocalCluster(
            n_workers=cpus, threads_per_worker=1, processes=True, dashboard_address=None
        )
        self.client = distributed.Client(self.cluster)
        return self.client

    def first_task(self) -> object:
        return self.client.submit(trivial, pure=False).result()

    def close(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
            self.cluster.close()


class Executor(System):
    """``concurrent.futures.ProcessPoolExecutor``."""

    name = "executor"
    kind = "executor"
    module = "concurrent.futures.process"

    def open(self, cpus: int, resources: Mapping[str, float]) -> concurrent.futures.ProcessPoolExecutor:
        self.executor = concurrent.futures.ProcessPoolExecutor(cpus)
        return self.executor

    def first_task(self) -> object:
        return self.executor.submit(trivial).result()

    def close(self) -> None:
        if hasattr(self, "executor"):
            self.executor.shutdown()


class Pool(System):
    """``multiprocessing.Pool``."""

    name = "pool"
    kind = "pool"
    module = "multiprocessing.pool"

    def open(self, cpus: int, resources: Mapping[str, float]) -> multiprocessing.pool.Pool:
        self.pool = multiprocessing.Pool(cpus)
        return self.pool

    def first_task(self) -> object:
        return self.pool.apply(trivial)

    def close(self) -> None:
        if hasattr(self, "pool"):
            self.pool.terminate()
            self.pool.join()


class Floor(System):
    """No system: the least that the row's work costs on bare sockets, memory and processes."""

    name = "floor"
    kind = "floor"
    module = "pickle"

    def open(self, cpus: int, resources: Mapping[str, float]) -> None:
        return None

    def first_task(self) -> object:
        return trivial()

    def close(self) -> None:
        return None


SYSTEMS: Mapping[str, type[System]] = {system.name: system for system in (Skate, Ray, Dask, Executor, Pool, Floor)}
