"""Many cheap calls of one function: the overhead against the pure work."""

from __future__ import annotations

from benchmarks import floors, work
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.tasks_api import Tasks, on

_CALLS = 10_000
_CALL_S = 1e-4


def cheap_calls(tasks: Tasks, meter: Meter) -> float:
    """The ideal time of 10,000 calls of 100 us of CPU on all workers, over the time they took."""
    items = range(meter.count(_CALLS))
    tasks.map(work.spin_100_us, range(200))
    elapsed = meter.elapsed(lambda: tasks.map(work.spin_100_us, items))
    return len(items) * _CALL_S / meter.cpus / elapsed


def cheap_calls_floor(_: None, meter: Meter) -> float:
    count = meter.count(_CALLS)
    return count * _CALL_S / meter.cpus / floors.split(meter, count, lambda: work.spin_100_us(0))


THEME = Theme(
    "map",
    (program("map over 10,000 calls of 100 us", "of ideal", floor=cheap_calls_floor, generic=on(run=cheap_calls)),),
)
