"""The timing loop every row uses."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Meter:
    """Times calls inside the driver process of the system under test, with ``time.perf_counter``.

    Results of timed calls are dropped between calls, as Ray's microbenchmark does; the collector runs once before the
    clock starts and stays enabled, because users run with it.
    """

    #: least time a rate is measured over, in seconds
    seconds: float = 1.0
    #: short rows, for a smoke test: the figures mean little
    quick: bool = False
    #: workers (CPUs) every system is given
    cpus: int = field(default_factory=lambda: os.cpu_count() or 1)

    def count(self, full: int, quick: int | None = None) -> int:
        """Return ``full``, or in a quick run ``quick`` (default: a twentieth, at least one)."""
        if not self.quick:
            return full
        return max(1, full // 20) if quick is None else quick

    def rate(self, call: Callable[[], object], per_call: float = 1, warm: Callable[[], object] | None = None) -> float:
        """Return how much ``call`` does per second, each call counting as ``per_call``.

        ``call`` runs for a fifth of the time (at least once) as warm-up: exports, worker starts, first touches of
        memory. A call that takes seconds passes a shorter ``warm``, which then runs once instead.
        """
        step = 1
        if warm is not None:
            warm()
        else:
            # Reading the clock after every call would weigh on calls of a few microseconds: read it ~50 times.
            step = max(1, self._warm_up(call) * 5 // 50)
        gc.collect()
        count = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < self.seconds or not count:
            for _ in range(step):
                call()
            count += step
        return count * per_call / elapsed

    def elapsed(self, call: Callable[[], object]) -> float:
        """Return the seconds that one ``call`` takes."""
        gc.collect()
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def _warm_up(self, call: Callable[[], object]) -> int:
        count = 0
        start = time.perf_counter()
        while time.perf_counter() - start < self.seconds / 5 or not count:
            call()
            count += 1
        return count
