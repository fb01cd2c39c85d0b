"""The memory monitor: samples how much memory is used and ends the hog before the kernel ends somebody.

The limit is that of the control group if there is one, else the machine's. Far from the threshold one small file is
read per second; near it, four times a second, and only above it the workers are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from core.node import process
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

_CGROUP = Path("/sys/fs/cgroup")
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
        self._used = used if used is not None else read_usage
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


def read_usage() -> tuple[int, int]:
    """Return (used, limit) in bytes of the control group, or of the machine if that is tighter; (0, 0) if unknown."""
    machine = _machine()
    group = _cgroup()
    if group is None or (machine[1] and group[1] >= machine[1]):
        return machine
    return group


def _machine() -> tuple[int, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[:5])}
    total = fields.get("MemTotal", 0)
    return total - fields.get("MemAvailable", total), total


def _cgroup() -> tuple[int, int] | None:
    for current, limit, inactive in (
        ("memory.current", "memory.max", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "total_inactive_file"),
    ):
        try:
            used, most = (_CGROUP / current).read_text(), (_CGROUP / limit).read_text().strip()
            stat = (_CGROUP / current).with_name("memory.stat").read_text()
        except OSError:
            continue
        if most == "max":
            return None
        cache = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith(inactive + " ")), 0)
        return max(0, int(used) - cache), int(most)
    return None


def _threshold() -> float:
    try:
        return float(os.environ.get(THRESHOLD_VARIABLE, DEFAULT_THRESHOLD))
    except ValueError:
        return DEFAULT_THRESHOLD
