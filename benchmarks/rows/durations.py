"""Tasks that take a while: how busy the workers are kept, and whether a long one delays short ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from benchmarks import floors, work
from benchmarks.meter import Meter
from benchmarks.model import Program, Theme, program
from benchmarks.tasks_api import Tasks, on

#: Seconds of ideal time a row takes on two workers.
_ROW_S = 2.0
_LONG_S = 2
_TINY = 1000


def efficiency(name: str, function: Callable[[float], None], seconds: float) -> Program:
    """Return a program: the ideal time of tasks on all workers, over the time they took."""

    def run(tasks: Tasks, meter: Meter) -> float:
        # Enough tasks first for the system to learn how long they take.
        tasks.gather([tasks.submit(function, seconds) for _ in range(meter.count(40, quick=4))])
        count = task_count(meter)
        elapsed = meter.elapsed(lambda: tasks.gather([tasks.submit(function, seconds) for _ in range(count)]))
        return count * seconds / meter.cpus / elapsed

    def floor(_: None, meter: Meter) -> float:
        count = task_count(meter)
        elapsed = floors.split(meter, count, functools.partial(function, seconds))
        return count * seconds / meter.cpus / elapsed

    def task_count(meter: Meter) -> int:
        per_worker = max(1, round((0.1 if meter.quick else _ROW_S) / seconds))
        return per_worker * meter.cpus

    return program(name, "of ideal", floor=floor, generic=on(run=run))


def beside_a_long_one(tasks: Tasks, meter: Meter) -> float:
    """Return the seconds until 1,000 tiny tasks are done; the 101st submitted, of the same function, takes 2 s."""
    tasks.gather([tasks.submit(work.sleep, 0.0) for _ in range(100)])
    long: list[Any] = []

    def call() -> None:
        tiny = []
        for index in range(_TINY):
            if index == 100:
                long.append(tasks.submit(work.sleep, meter.count(_LONG_S, quick=1)))
            tiny.append(tasks.submit(work.sleep, 0.0))
        tasks.gather(tiny)

    elapsed = meter.elapsed(call)
    tasks.gather(long)
    return elapsed


THEME = Theme(
    "durations",
    (
        efficiency("tasks of 1 ms", work.sleep, 0.001),
        efficiency("tasks of 10 ms", work.sleep, 0.01),
        efficiency("tasks of 100 ms", work.sleep, 0.1),
        efficiency("tasks of 1 ms of CPU", work.spin, 0.001),
        program("1,000 tiny tasks beside one of 2 s", "s", better="lower", generic=on(run=beside_a_long_one)),
    ),
)
