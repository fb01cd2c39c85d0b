"""Ray's microbenchmark: calls of sync actors."""

from __future__ import annotations

from typing import Any

from benchmarks import floors
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.ray_api import RayApi


class DaskActor:
    """The actor of the rows on Dask."""

    def small_value(self) -> bytes:
        return b"ok"


def small_actor(api: RayApi) -> Any:
    """Return an actor class (no CPU held) with tiny methods."""

    class Actor:
        def small_value(self) -> bytes:
            return b"ok"

        def small_value_arg(self, x: object) -> bytes:
            return b"ok"

    return api.remote(num_cpus=0)(Actor)


def client_actor(api: RayApi) -> Any:
    """Return an actor class (no CPU held) that calls other actors in batches."""

    class Client:
        def __init__(self, servers: list[Any]) -> None:
            self.servers = servers

        def small_value_batch(self, n: int) -> None:
            api.get([server.small_value.remote() for server in self.servers for _ in range(n)])

        def small_value_batch_arg(self, n: int) -> None:
            x = api.put(0)
            api.get([server.small_value_arg.remote(x) for server in self.servers for _ in range(n)])

    return api.remote(num_cpus=0)(Client)


def half_the_cpus(meter: Meter) -> int:
    """Ray's n of "1:n" and "n:n" rows."""
    return max(1, meter.cpus // 2)


def call_sync(api: RayApi, meter: Meter, actor: Any) -> float:
    """One call at a time."""
    return meter.rate(lambda: api.get(actor.small_value.remote()))


def call_thousand(api: RayApi, meter: Meter, actor: Any) -> float:
    """Calls per second in batches of 1,000."""
    return meter.rate(lambda: api.get([actor.small_value.remote() for _ in range(1000)]), 1000)


def one_to_many(api: RayApi, meter: Meter, actor_class: Any) -> float:
    """One client actor calls n servers."""
    servers = [actor_class.remote() for _ in range(half_the_cpus(meter))]
    client = client_actor(api).remote(servers)
    calls = meter.count(5000)
    return meter.rate(
        lambda: api.get(client.small_value_batch.remote(calls)),
        calls * len(servers),
        warm=lambda: api.get(client.small_value_batch.remote(calls // 20)),
    )


def many_to_many(api: RayApi, meter: Meter, actor_class: Any) -> float:
    """Four tasks at a time call n servers."""
    n = half_the_cpus(meter)
    servers = [actor_class.remote() for _ in range(n)]
    calls = meter.count(5000)

    @api.remote
    def work(actors: list[Any], count: int) -> None:
        api.get([actors[i % n].small_value.remote() for i in range(count)])

    def run(count: int) -> None:
        api.get([work.remote(servers, count) for _ in range(4)])

    return meter.rate(lambda: run(calls), 4 * calls, warm=lambda: run(calls // 20))


def sync(api: RayApi, meter: Meter) -> float:
    return call_sync(api, meter, small_actor(api).remote())


def thousand(api: RayApi, meter: Meter) -> float:
    return call_thousand(api, meter, small_actor(api).remote())


def concurrent(api: RayApi, meter: Meter) -> float:
    return call_thousand(api, meter, small_actor(api).options(max_concurrency=16).remote())


def one_to_n(api: RayApi, meter: Meter) -> float:
    return one_to_many(api, meter, small_actor(api))


def n_to_n(api: RayApi, meter: Meter) -> float:
    return many_to_many(api, meter, small_actor(api))


def n_to_n_with_arg(api: RayApi, meter: Meter) -> float:
    actor_class = small_actor(api)
    client_class = client_actor(api)
    clients = [client_class.remote([actor_class.remote()]) for _ in range(half_the_cpus(meter))]
    calls = meter.count(1000)
    return meter.rate(lambda: api.get([c.small_value_batch_arg.remote(calls) for c in clients]), calls * len(clients))


def sync_dask(client: Any, meter: Meter) -> float:
    actor = client.submit(DaskActor, actor=True, pure=False).result()
    return meter.rate(lambda: actor.small_value().result())


def thousand_dask(client: Any, meter: Meter) -> float:
    actor = client.submit(DaskActor, actor=True, pure=False).result()
    return meter.rate(lambda: [f.result() for f in [actor.small_value() for _ in range(1000)]], 1000)


THEME = Theme(
    "actors",
    (
        program("1:1 actor calls sync", "calls/s", raylike=sync, dask=sync_dask, floor=floors.ping_pong),
        program("1:1 actor calls async", "calls/s", raylike=thousand, dask=thousand_dask, floor=floors.thousand_calls),
        program("1:1 actor calls concurrent", "calls/s", raylike=concurrent, floor=floors.thousand_calls),
        program("1:n actor calls async", "calls/s", raylike=one_to_n, floor=floors.thousand_calls),
        program("n:n actor calls async", "calls/s", raylike=n_to_n, floor=floors.many_clients),
        program("n:n actor calls with arg async", "calls/s", raylike=n_to_n_with_arg, floor=floors.thousand_calls),
    ),
)
