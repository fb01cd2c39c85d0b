"""Ray's microbenchmark: calls of asyncio actors."""

from __future__ import annotations

from typing import Any

from benchmarks import floors
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.ray_api import RayApi
from benchmarks.rows import actors


def async_actor(api: RayApi) -> Any:
    """Return an asyncio actor class with tiny methods."""

    class AsyncActor:
        async def small_value(self) -> bytes:
            return b"ok"

        async def small_value_with_arg(self, x: object) -> bytes:
            return b"ok"

    return api.remote(AsyncActor)


def sync(api: RayApi, meter: Meter) -> float:
    return actors.call_sync(api, meter, async_actor(api).remote())


def thousand(api: RayApi, meter: Meter) -> float:
    return actors.call_thousand(api, meter, async_actor(api).remote())


def thousand_with_args(api: RayApi, meter: Meter) -> float:
    actor = async_actor(api).remote()
    return meter.rate(lambda: api.get([actor.small_value_with_arg.remote(i) for i in range(1000)]), 1000)


def one_to_n(api: RayApi, meter: Meter) -> float:
    return actors.one_to_many(api, meter, async_actor(api))


def n_to_n(api: RayApi, meter: Meter) -> float:
    return actors.many_to_many(api, meter, async_actor(api))


THEME = Theme(
    "async actors",
    (
        program("1:1 async-actor calls sync", "calls/s", raylike=sync, floor=floors.ping_pong),
        program("1:1 async-actor calls async", "calls/s", raylike=thousand, floor=floors.thousand_calls),
        program(
            "1:1 async-actor calls with args async", "calls/s", raylike=thousand_with_args, floor=floors.thousand_calls
        ),
        program("1:n async-actor calls async", "calls/s", raylike=one_to_n, floor=floors.thousand_calls),
        program("n:n async-actor calls async", "calls/s", raylike=n_to_n, floor=floors.many_clients),
    ),
)
