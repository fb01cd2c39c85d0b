"""Calls through handles from a driver: ``python -m benchmarks.serve.handles SECONDS`` prints figures as JSON."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import core
import serve

#: calls in flight where they overlap
TOGETHER = 100


@serve.deployment
class Noop:
    async def __call__(self) -> str:
        return "ok"


@serve.deployment
class Outer:
    def __init__(self, inner: serve.DeploymentHandle[Any]) -> None:
        self.inner = inner

    async def __call__(self) -> str:
        answer: str = await self.inner.remote()
        return answer


def sync(handle: serve.DeploymentHandle[Any], seconds: float) -> float:
    """Return calls per second, one after the other."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        handle.remote().result()
        count += 1
    return count / (time.perf_counter() - began)


def together(handle: serve.DeploymentHandle[Any], seconds: float) -> float:
    """Return calls per second, `TOGETHER` at a time."""

    async def call(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            await handle.remote()
            count += 1
        return count

    async def everybody() -> float:
        began = time.perf_counter()
        counts = await asyncio.gather(*(call(began + seconds) for _ in range(TOGETHER)))
        return sum(counts) / (time.perf_counter() - began)

    return asyncio.run(everybody())


def main() -> None:
    """Measure three times, and print the medians."""
    seconds = float(sys.argv[1])
    core.init(num_cpus=2)
    handle = serve.run(Noop.bind(), name="noop", route_prefix=None)
    chain = serve.run(Outer.bind(Noop.bind()), name="chain", route_prefix=None)
    samples = [
        {
            "sync": sync(handle, seconds),
            "async": together(handle, seconds),
            "chain": together(chain, seconds),
        }
        for _ in range(3)
    ]
    print(json.dumps({name: statistics.median(sample[name] for sample in samples) for name in samples[0]}))
    serve.shutdown()
    core.shutdown()


if __name__ == "__main__":
    main()
