"""The memory monitor: samples how much memory is used and ends the hog before the kernel ends somebody.

The limit is the machine's, or that of the control group with the largest share in use. Far from the threshold a few
small files are read per second; near it, four times a second, and only above it the workers are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from core.node import machine, process
from core.protocol.records import DeathCause
from core.state.memory_policy import Usage, choose_victim

THRESHOLD_VARIABLE = "SKATE_memory_usage_threshold"
DEFAULT_THRESHOLD = 0.95
#: Share of the limit below the threshold from which on sampling is fast.
NEAR = 0.1
SLOW_SECONDS = 1.0
FAST_SECONDS = 0.25
#: Seconds a victim has to give its memory back before another is chosen.
SETTLE_SECONDS = 1.0

_MIB = 1024 * 1024


class MemoryMonitor:
    """Samples memory and names victims.

    Args:
        processes: returns (address, pid) of the workers that may be ended.
        kill: ends one, with the cause to tell.
        used: returns (used, limit) in bytes; by default this machine's or control group's.
    """

    def __init__(
        self,
        processes: Callable[[], Iterable[tuple[bytes, int]]],
        kill: Callable[[bytes, DeathCause], None],
        used: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self._processes = processes
        self._kill = kill
        self._used = used if used is not None else machine.memory_usage
        self._threshold = _threshold()
        #: when to sample next (monotonic seconds)
        self.deadline = 0.0

    def sample(self, now: float) -> None:
        """Look at the memory; end a worker if it is short."""
        used, limit = self._used()
        share = used / limit if limit else 0.0
        self.deadline = now + (FAST_SECONDS if share >= self._threshold - NEAR else SLOW_SECONDS)
        if share < self._threshold:
            return
        victim = choose_victim(Usage(address, pid, process.anonymous_bytes(pid)) for address, pid in self._processes())
        if victim is None:
            return
        detail = (
            f"ended because memory runs short: it used {victim.private_bytes // _MIB} MiB itself (RSS); "
            f"{used // _MIB} of {limit // _MIB} MiB are in use, the threshold is {self._threshold:.0%} "
            f"({THRESHOLD_VARIABLE})"
        )
        self._kill(victim.address, DeathCause("oom", detail=detail, pid=victim.pid))
        self.deadline = now + SETTLE_SECONDS


def _threshold() -> float:
    try:
        return float(os.environ.get(THRESHOLD_VARIABLE, DEFAULT_THRESHOLD))
    except ValueError:
        return DEFAULT_THRESHOLD
