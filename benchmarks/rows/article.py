"""The programs of the well-known introduction to Ray: four tasks of 1 s, and 100,000 tiny ones, on ``num_cpus=4``."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks import work
from benchmarks.meter import Meter
from benchmarks.model import Kind, Program, Row, Theme, Variant, program
from benchmarks.systems import System
from benchmarks.tasks_api import Tasks, on

_CPUS = 4
_COLD = Row("four tasks of 1 s, cold", "s", "lower")
_WARM = Row("four tasks of 1 s, warm", "s", "lower")


def four_tasks(kind: Kind) -> Variant:
    """Return a variant: seconds of four tasks of 1 s, with the start of the system, and once more without."""

    def tasks_take(tasks: Tasks, meter: Meter) -> None:
        tasks.gather([tasks.submit(work.sleep, 0.1 if meter.quick else 1.0) for _ in range(_CPUS)])

    run = on(kind, run=lambda tasks, meter: meter.elapsed(lambda: tasks_take(tasks, meter)))[kind]

    def variant(system: System, meter: Meter) -> Mapping[str, float]:
        start = time.perf_counter()
        try:
            session = system.open(_CPUS, {})
            run(session, meter)
            cold = time.perf_counter() - start
            return {_COLD.name: cold, _WARM.name: float(run(session, meter))}  # type: ignore[arg-type]
        finally:
            system.close()

    return variant


def tiny_tasks(kind: Kind) -> Variant:
    """Return a variant: seconds of 100,000 tasks that sleep 0.1 ms each, on a running system."""

    def body(tasks: Tasks, meter: Meter) -> float:
        tasks.gather([tasks.submit(work.tiny_work, x) for x in range(10)])
        count = meter.count(100_000, quick=1000)
        return meter.elapsed(lambda: tasks.gather([tasks.submit(work.tiny_work, x) for x in range(count)]))

    run = on(kind, run=body)[kind]

    def variant(system: System, meter: Meter) -> float:
        session = system.open(_CPUS, {})
        try:
            return float(run(session, meter))  # type: ignore[arg-type]
        finally:
            system.close()

    return variant


_KINDS: tuple[Kind, ...] = ("raylike", "dask", "executor", "pool")

THEME = Theme(
    "article",
    (
        Program((_COLD, _WARM), {kind: four_tasks(kind) for kind in _KINDS}),
        program(
            "the article's 100,000 tiny tasks",
            "s",
            better="lower",
            max_rounds=1,
            only=frozenset({"skate", "ray", "executor", "pool"}),  # minutes on Dask
            generic={kind: tiny_tasks(kind) for kind in _KINDS},
        ),
    ),
    bare=True,
)
