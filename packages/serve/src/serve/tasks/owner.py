"""Who works on a task, such that others can tell whether he is still alive.

A process on this machine is known by the machine's boot, its own process-id namespace, its number and when it started:
numbers are used again, and a restarted machine has other processes. Whoever is somewhere else (another container that
shares the file) cannot be judged; there the lease alone decides.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path


@functools.cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path: a name of a namespace
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot; None if there is none, or it is dead and not reaped."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in ("Z", "X") else fields[18]


def this_process() -> str:
    """Return the name of this process."""
    pid = os.getpid()
    return f"{_place()} {pid} {_started(pid)}"


def is_gone(owner: str) -> bool:
    """Tell whether a process is known to have ended; False also if nobody can tell."""
    place, _, rest = owner.partition(" ")
    here = _place()
    if not here or not place or not rest:
        return False
    if place != here:
        # another boot of this machine is over; another namespace of this boot cannot be seen into
        return place.partition("/")[0] != here.partition("/")[0]
    pid, _, started = rest.partition(" ")
    return _started(int(pid)) != started
