"""Long queues: what a task costs while 100,000 or 1,000,000 of them wait for busy workers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import processes, work
from benchmarks.meter import Meter
from benchmarks.model import Measured, Program, Row, Theme
from benchmarks.tasks_api import Tasks, on


def queued(rows: tuple[Row, ...], full: int) -> Callable[[Tasks, Meter], Measured]:
    """Return a program's body: fill the queue while every worker is held, weigh it, then let it drain."""
    rate_row, submit_row, memory_row = rows

    def run(tasks: Tasks, meter: Meter) -> Measured:
        count = meter.count(full, quick=2000)
        tasks.gather([tasks.submit(work.trivial) for _ in range(200)])
        with tempfile.TemporaryDirectory() as directory:
            gate = Path(directory, "gate")
            holders = _hold_workers(tasks, meter, gate)
            before = processes.anonymous_bytes()
            start = time.perf_counter()
            handles = [tasks.submit(work.trivial) for _ in range(count)]
            submitted = time.perf_counter() - start
            memory = processes.anonymous_bytes() - before
            start = time.perf_counter()
            gate.touch()
            tasks.gather(handles)
            drained = time.perf_counter() - start
            tasks.gather(holders)
        values = {rate_row.name: count / (submitted + drained), submit_row.name: count / submitted}
        if processes.supported():
            values[memory_row.name] = memory / count
        return values

    return run


def _hold_workers(tasks: Tasks, meter: Meter, gate: Path) -> list[object]:
    started = [gate.with_name(f"started-{n}") for n in range(meter.cpus)]
    holders = [tasks.submit(work.hold, path, gate) for path in started]
    for path in started:
        work.wait_for(path)
    return holders


def _program(label: str, full: int, only: frozenset[str], *, quick: bool) -> Program:
    rows = (
        Row(f"{label} queued tasks", "tasks/s"),
        Row(f"{label} queued tasks: submission", "tasks/s"),
        Row(f"{label} queued tasks: driver memory", "bytes/task", "lower"),
    )
    variants = on(run=queued(rows, full))
    return Program(rows, variants, max_rounds=1, only=only, quick=quick)


THEME = Theme(
    "queues",
    (
        _program("100,000", 100_000, frozenset({"skate", "ray", "executor", "pool"}), quick=True),  # minutes on Dask
        _program("1,000,000", 1_000_000, frozenset({"skate"}), quick=False),
    ),
)
