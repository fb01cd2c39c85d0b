"""Large objects: put, and get of what another process made, from 1 MB to 1 GB.

A put copies from memory that is really there (ones). A get is the first of its object in this process and reads one
byte of every page, so that a system which maps lazily pays for its page faults within the clock. Like every row, a get
is warmed up: as many objects were made, read and dropped just before. Without that, the figure would say whether an
earlier row happened to have touched the same memory in this process (a factor of ten).
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks import floors, processes
from benchmarks.meter import Meter
from benchmarks.model import Program, Theme, program
from benchmarks.ray_api import RayApi

_MB = 10**6
#: Objects per get row, by size.
_OBJECTS = {_MB: 100, 100 * _MB: 5, 1000 * _MB: 1}


def ones(size: int) -> Any:
    """Return an array of ``size`` bytes of ones."""
    import numpy as np  # heavy: only the rows that need it import it

    return np.ones(size, dtype=np.uint8)


def read_pages(array: Any) -> None:
    """Read one byte of every page of an array of ones."""
    pages = array[:: mmap.PAGESIZE]
    if int(pages.sum(dtype="int64")) != len(pages):
        raise AssertionError("the object came back changed")


def put(size: int) -> Callable[[RayApi, Meter], float]:
    def variant(api: RayApi, meter: Meter) -> float:
        array = ones(size)
        return meter.rate(lambda: api.put(array), size / 1e9)

    return variant


def put_floor(size: int) -> Callable[[None, Meter], float]:
    return lambda _, meter: floors.copy_rate(meter, ones(size)) / 1e9


def put_dask(size: int) -> Callable[[Any, Meter], float]:
    def variant(client: Any, meter: Meter) -> float:
        array = ones(size)
        return meter.rate(lambda: client.scatter(array, hash=False), size / 1e9)

    return variant


def fill_and_put(api: RayApi, meter: Meter) -> float:
    """Compute 100 MB and put them: in the store at once where the system can (Skate's ``empty``), else with numpy."""
    import numpy as np  # heavy: only the rows that need it import it

    size = 100 * _MB
    empty = getattr(api, "empty", np.empty)

    def call() -> None:
        array = empty(size, dtype=np.uint8)
        array.fill(1)
        api.put(array)

    return meter.rate(call, size / 1e9)


def fill_floor(_: None, meter: Meter) -> float:
    """Fill pages touched before."""
    array = ones(100 * _MB)
    return meter.rate(lambda: array.fill(1), array.nbytes / 1e9)


def get(size: int) -> Callable[[RayApi, Meter], float]:
    def variant(api: RayApi, meter: Meter) -> float:
        class Producer:
            def make(self, count: int) -> list[Any]:
                return [api.put(ones(size)) for _ in range(count)]

        producer = api.remote(num_cpus=0)(Producer).remote()
        count = meter.count(_OBJECTS[size], quick=1)

        def read_all() -> float:
            references = api.get(producer.make.remote(count))
            start = time.perf_counter()
            for reference in references:
                read_pages(api.get(reference))
            return time.perf_counter() - start

        read_all()
        processes.settle(os.getppid())  # until the dropped objects are freed
        return size * count / 1e9 / read_all()

    return variant


def get_floor(size: int) -> Callable[[None, Meter], float]:
    """Read the pages of shared memory that another process filled and this one has mapped and touched before."""

    def variant(_: None, meter: Meter) -> float:
        import numpy as np  # heavy: only the rows that need it import it

        files = floors.shared_pages([size] * meter.count(_OBJECTS[size], quick=1))
        arrays = [np.frombuffer(mmap.mmap(file, size), dtype=np.uint8) for file in files]
        for array in arrays:
            read_pages(array)
        start = time.perf_counter()
        for array in arrays:
            read_pages(array)
        elapsed = time.perf_counter() - start
        for file in files:
            os.close(file)
        return size * len(files) / 1e9 / elapsed

    return variant


def get_dask(size: int) -> Callable[[Any, Meter], float]:
    def variant(client: Any, meter: Meter) -> float:
        futures = [client.submit(ones, size, pure=False) for _ in range(meter.count(_OBJECTS[size], quick=1))]
        for future in futures:
            future.exception()
        start = time.perf_counter()
        for future in futures:
            read_pages(future.result())
        return size * len(futures) / 1e9 / (time.perf_counter() - start)

    return variant


def as_argument(api: RayApi, meter: Meter) -> float:
    """Hand one put object of 100 MB to tasks that read its pages."""

    @api.remote
    def read(array: Any) -> None:
        read_pages(array)

    size = 100 * _MB
    reference = api.put(ones(size))
    return meter.rate(lambda: api.get(read.remote(reference)), size / 1e9)


def _put(name: str, size: int, *, quick: bool, dask: bool) -> Program:
    variants: dict[str, Any] = {"raylike": put(size), "floor": put_floor(size)}
    if dask:
        variants["dask"] = put_dask(size)
    return program(f"put {name}", "GB/s", quick=quick, **variants)


def _get(name: str, size: int, *, quick: bool, dask: bool) -> Program:
    variants: dict[str, Any] = {"raylike": get(size), "floor": get_floor(size)}
    if dask:
        variants["dask"] = get_dask(size)
    return program(f"get {name}", "GB/s", quick=quick, **variants)


THEME = Theme(
    "large objects",
    (
        _put("1 MB", _MB, quick=True, dask=True),
        _put("100 MB", 100 * _MB, quick=True, dask=True),
        _put("1 GB", 1000 * _MB, quick=False, dask=False),
        program("fill and put 100 MB", "GB/s", raylike=fill_and_put, floor=fill_floor),
        _get("1 MB", _MB, quick=True, dask=True),
        _get("100 MB", 100 * _MB, quick=True, dask=True),
        _get("1 GB", 1000 * _MB, quick=False, dask=False),
        program("100 MB as an argument", "GB/s", raylike=as_argument),
    ),
)
