"""Ray's microbenchmark: stateless tasks."""

from __future__ import annotations

import concurrent.futures
import multiprocessing.pool
from typing import Any

from benchmarks import floors
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.ray_api import RayApi
from benchmarks.work import trivial


def small_task(api: RayApi) -> Any:
    """Return a remote function that returns a few bytes."""

    @api.remote
    def small_value() -> bytes:
        return b"ok"

    return small_value


def batch(api: RayApi, meter: Meter) -> float:
    small_value = small_task(api)
    return meter.rate(lambda: api.get([small_value.remote() for _ in range(1000)]))


def sync(api: RayApi, meter: Meter) -> float:
    small_value = small_task(api)
    return meter.rate(lambda: api.get(small_value.remote()))


def sync_dask(client: Any, meter: Meter) -> float:
    return meter.rate(lambda: client.submit(trivial, pure=False).result())


def sync_executor(executor: concurrent.futures.Executor, meter: Meter) -> float:
    return meter.rate(lambda: executor.submit(trivial).result())


def sync_pool(pool: multiprocessing.pool.Pool, meter: Meter) -> float:
    return meter.rate(lambda: pool.apply(trivial))


def thousand(api: RayApi, meter: Meter) -> float:
    return batch(api, meter) * 1000


def thousand_dask(client: Any, meter: Meter) -> float:
    return batch_dask(client, meter) * 1000


def batch_dask(client: Any, meter: Meter) -> float:
    return meter.rate(lambda: client.gather([client.submit(trivial, pure=False) for _ in range(1000)]))


def thousand_executor(executor: concurrent.futures.Executor, meter: Meter) -> float:
    return batch_executor(executor, meter) * 1000


def batch_executor(executor: concurrent.futures.Executor, meter: Meter) -> float:
    return meter.rate(lambda: [f.result() for f in [executor.submit(trivial) for _ in range(1000)]])


def thousand_pool(pool: multiprocessing.pool.Pool, meter: Meter) -> float:
    return batch_pool(pool, meter) * 1000


def batch_pool(pool: multiprocessing.pool.Pool, meter: Meter) -> float:
    return meter.rate(lambda: [r.get() for r in [pool.apply_async(trivial) for _ in range(1000)]])


def multi_client(api: RayApi, meter: Meter) -> float:
    small_value = small_task(api)

    class Actor:
        def small_value_batch(self, n: int) -> None:
            api.get([small_value.remote() for _ in range(n)])

    actor = api.remote(num_cpus=0)(Actor)
    actors = [actor.remote() for _ in range(4)]
    calls = meter.count(10_000)

    def run(n: int) -> None:
        api.get([a.small_value_batch.remote(n) for a in actors])

    return meter.rate(lambda: run(calls), calls * len(actors), warm=lambda: run(calls // 20))


THEME = Theme(
    "tasks",
    (
        program(
            "single client tasks sync",
            "tasks/s",
            raylike=sync,
            dask=sync_dask,
            executor=sync_executor,
            pool=sync_pool,
            floor=floors.ping_pong,
        ),
        program(
            "single client tasks async",
            "tasks/s",
            raylike=thousand,
            dask=thousand_dask,
            executor=thousand_executor,
            pool=thousand_pool,
            floor=floors.thousand_calls,
        ),
        program(
            "single client tasks and get batch",
            "batches/s",
            raylike=batch,
            dask=batch_dask,
            executor=batch_executor,
            pool=batch_pool,
            floor=floors.thousand_batches,
        ),
        program("multi client tasks async", "tasks/s", raylike=multi_client, floor=floors.many_clients),
    ),
)
