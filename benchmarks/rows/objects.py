"""Ray's microbenchmark: puts, gets and waits."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from benchmarks import floors
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.ray_api import RayApi

#: As in Ray's script: 100 Mi and 10 Mi zeros of 8 bytes. Fresh zeros share one physical page, so reading them is cheap;
#: the rows of the theme "large objects" copy from memory that is really there.
_LARGE = 100 * 1024 * 1024
_MEDIUM = 10 * 1024 * 1024


def get_small(api: RayApi, meter: Meter) -> float:
    value = api.put(0)
    return meter.rate(lambda: api.get(value))


def put_small(api: RayApi, meter: Meter) -> float:
    return meter.rate(lambda: api.put(0))


def put_small_dask(client: Any, meter: Meter) -> float:
    return meter.rate(lambda: client.scatter(0, hash=False))


def get_small_dask(client: Any, meter: Meter) -> float:
    value = client.scatter(0, hash=False)
    return meter.rate(lambda: client.gather(value))


def put_small_multi(api: RayApi, meter: Meter) -> float:
    @api.remote
    def put_hundred() -> None:
        for _ in range(100):
            api.put(0)

    return meter.rate(lambda: api.get([put_hundred.remote() for _ in range(10)]), 1000)


def put_gigabytes(api: RayApi, meter: Meter) -> float:
    import numpy as np  # heavy: only the rows that need it import it

    zeros = np.zeros(meter.count(_LARGE), dtype=np.int64)
    return meter.rate(lambda: api.put(zeros), zeros.nbytes / 1e9)


def put_gigabytes_floor(_: None, meter: Meter) -> float:
    import numpy as np  # heavy: only the rows that need it import it

    return floors.copy_rate(meter, np.zeros(meter.count(_LARGE), dtype=np.int64)) / 1e9


def put_gigabytes_multi(api: RayApi, meter: Meter) -> float:
    length = meter.count(_MEDIUM)

    @api.remote
    def put_ten() -> None:
        import numpy as np  # in the worker

        for _ in range(10):
            api.put(np.zeros(length, dtype=np.int64))

    return meter.rate(lambda: api.get([put_ten.remote() for _ in range(10)]), 100 * 8 * length / 1e9)


def put_gigabytes_multi_floor(_: None, meter: Meter) -> float:
    import numpy as np  # heavy: only the rows that need it import it

    length = meter.count(_MEDIUM)
    return floors.copiers(meter, lambda: np.zeros(length, dtype=np.int64), 10) / 1e9


def get_references(api: RayApi, meter: Meter) -> float:
    @api.remote
    def ten_thousand() -> list[Any]:
        return [api.put(1) for _ in range(10_000)]

    holder = ten_thousand.remote()
    return meter.rate(lambda: api.get(holder))


def wait_thousand(api: RayApi, meter: Meter) -> float:
    @api.remote
    def small_value() -> bytes:
        return b"ok"

    def call() -> None:
        pending = [small_value.remote() for _ in range(1000)]
        fetch = True  # Ray asks for each object's value only once; so does its script
        while pending:
            _, pending = api.wait(pending, fetch_local=fetch)
            fetch = False

    return meter.rate(call)


def wait_thousand_executor(executor: concurrent.futures.Executor, meter: Meter) -> float:
    def call() -> None:
        for _ in concurrent.futures.as_completed([executor.submit(bytes) for _ in range(1000)]):
            pass

    return meter.rate(call)


THEME = Theme(
    "objects",
    (
        program(
            "single client get calls",
            "calls/s",
            raylike=get_small,
            dask=get_small_dask,
            floor=floors.load_small,
        ),
        program(
            "single client put calls",
            "calls/s",
            raylike=put_small,
            dask=put_small_dask,
            floor=floors.store_small,
        ),
        program("multi client put calls", "calls/s", raylike=put_small_multi),
        program("single client put gigabytes", "GB/s", raylike=put_gigabytes, floor=put_gigabytes_floor),
        program("multi client put gigabytes", "GB/s", raylike=put_gigabytes_multi, floor=put_gigabytes_multi_floor),
        program(
            "single client get object containing 10k refs",
            "objects/s",
            raylike=get_references,
            floor=floors.load_references,
        ),
        program(
            "single client wait 1k refs",
            "batches/s",
            raylike=wait_thousand,
            executor=wait_thousand_executor,
            floor=floors.thousand_batches,
        ),
    ),
)
