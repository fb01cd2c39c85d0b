"""Making actors: how fast, and what a process of theirs weighs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping

from benchmarks import floors, processes
from benchmarks.meter import Meter
from benchmarks.model import Program, Row, Theme
from benchmarks.ray_api import RayApi

_RATE = Row("actor creation", "actors/s")
_PSS = Row("actor memory (PSS)", "MB", "lower")


def create(api: RayApi, meter: Meter) -> Mapping[str, float]:
    """Create 10 actors that each hold no CPU, and call each once."""

    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def increment(self) -> int:
            self.value += 1
            return self.value

    counter = api.remote(num_cpus=0)(Counter)
    # The first actor pays for the export of the class.
    api.get(counter.remote().increment.remote())
    processes.settle(os.getppid())
    before = processes.pss_mb(processes.descendants(os.getppid()))
    count = meter.count(10, quick=2)
    kept = []

    def call() -> None:
        actors = [counter.remote() for _ in range(count)]
        api.get([actor.increment.remote() for actor in actors])
        kept.extend(actors)

    rate = count / meter.elapsed(call)
    if not processes.supported():
        return {_RATE.name: rate}
    processes.settle(os.getppid())
    after = processes.pss_mb(processes.descendants(os.getppid()))
    return {_RATE.name: rate, _PSS.name: (after - before) / len(kept)}


def start_processes(_: object, meter: Meter) -> Mapping[str, float]:
    """Start 10 processes of the standard library and wait for each."""
    count = meter.count(10, quick=2)

    def call() -> None:
        started = [multiprocessing.Process(target=int) for _ in range(count)]
        for process in started:
            process.start()
        for process in started:
            process.join()

    return {_RATE.name: count / meter.elapsed(call)}


def forks(_: None, meter: Meter) -> Mapping[str, float]:
    return {_RATE.name: floors.fork_and_call(_, meter)}


THEME = Theme(
    "actor creation",
    (Program((_RATE, _PSS), {"raylike": create, "pool": start_processes, "floor": forks}),),
)
