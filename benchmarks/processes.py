"""What a tree of processes uses, read from ``/proc`` (Linux only: elsewhere these rows are absent).

No third-party package, because it runs in the interpreter of whichever system is measured.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_TCP_LISTEN = "0A"


def supported() -> bool:
    """Whether this machine can tell (it has ``/proc/<pid>/smaps_rollup``)."""
    return (PROC / "self" / "smaps_rollup").exists()


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, so that daemons of a system stay in its tree."""
    if supported():
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Return the living (not zombie) descendants of ``root``, without it."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        stat = _read(entry).rpartition(")")[2].split()
        if stat and stat[0] not in "ZX":
            children.setdefault(int(stat[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def kill_descendants(root: int, wait_s: float = 10.0) -> list[int]:
    """Send SIGKILL to every descendant of ``root`` until none is left; return the processes found at first."""
    first = descendants(root) if supported() else []
    left = first
    deadline = time.monotonic() + wait_s
    while left and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
        left = descendants(root)
    return first


def reap_orphans() -> None:
    """Collect the exit statuses of adopted processes; call it only when no subprocess of one's own is running."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def pss_mb(pids: Iterable[int]) -> float:
    """Return the proportional set size of the processes together, in MB (10^6 bytes)."""
    kilobytes = 0
    for pid in pids:
        for line in _read(PROC / str(pid) / "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def anonymous_bytes() -> int:
    """Return the anonymous memory of this process that is resident, after a collection."""
    gc.collect()
    for line in _read(PROC / "self" / "status").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def threads(pids: Iterable[int]) -> int:
    """Return the number of threads of the processes together."""
    return sum(len(list((PROC / str(pid) / "task").glob("*"))) for pid in pids)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time, user and system, that the processes have used so far."""
    ticks = 0
    for pid in pids:
        stat = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
        if stat:
            ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def tcp_listeners(pids: Iterable[int]) -> int:
    """Return how many listening TCP sockets (IPv4 and IPv6) the processes hold."""
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in _read(PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == _TCP_LISTEN:
                listening.add(f"socket:[{fields[9]}]")
    held = set()
    for pid in pids:
        for entry in (PROC / str(pid) / "fd").glob("*"):
            try:
                held.add(str(entry.readlink()))
            except OSError:
                continue  # closed meanwhile
    return len(listening & held)


def settle(root: int, most_s: float = 3.0) -> None:
    """Wait until the descendants of ``root`` use under 15 % of one core, at most ``most_s`` seconds.

    The last row's actors are still being torn down when its function returns; the next row should not pay for that.
    """
    gc.collect()
    if not supported():
        time.sleep(min(0.3, most_s))
        return
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        pids = descendants(root)
        before, start = cpu_seconds(pids), time.monotonic()
        time.sleep(0.1)
        if cpu_seconds(pids) - before < 0.15 * (time.monotonic() - start):
            return


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the process ended, or is not ours
