"""What this machine has to offer, or that part of it which a container or a batch system leaves to this process.

Control groups are looked up where this process is a member, and above: a container sees its own limits at the root of
the file system of control groups, a service or a batch job has them in a directory below. All levels count, since the
kernel enforces all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

#: Where control groups are mounted, and where a process's memberships are listed.
CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIPS = Path("/proc/self/cgroup")
#: Assumed where the system does not tell how much memory there is.
NOMINAL_MEMORY = 4 << 30


def cpus() -> int:
    """Return how many CPUs this process may use: those it may run on, or fewer if its control group has a quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for directory in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            usable = min(usable, max(1, int(_quota(directory))))
    return usable


def memory() -> int:
    """Return how many bytes of memory this process and its children may use."""
    try:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        limit = NOMINAL_MEMORY
    for _, most in _group_usages():
        limit = min(limit, most)
    address_space = soft_limit("RLIMIT_AS")
    return limit if address_space is None else min(limit, address_space)


def memory_usage() -> tuple[int, int]:
    """Return (used, limit) in bytes of the machine, or of a control group with a larger share in use.

    (0, 0) if nothing is known.
    """
    usages = [usage for usage in (_machine_usage(), *_group_usages()) if usage[1] > 0]
    return max(usages, key=lambda usage: usage[0] / usage[1], default=(0, 0))


def soft_limit(name: str) -> int | None:
    """Return a resource limit of this process, such as ``"RLIMIT_AS"``; None if there is none."""
    import resource  # noqa: PLC0415 - only Unix has it

    number = getattr(resource, name, None)
    limit: int = resource.RLIM_INFINITY if number is None else resource.getrlimit(number)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _machine_usage() -> tuple[int, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()[:5]
        fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    except (OSError, ValueError, IndexError):
        return 0, 0
    total = fields.get("MemTotal", 0)
    return total - fields.get("MemAvailable", total), total


def _groups(controller: str) -> Iterator[Path]:
    """Yield the directories of this process's control group and those above it, for both versions of the interface."""
    try:
        lines = os.fsdecode(MEMBERSHIPS.read_bytes()).splitlines()
    except OSError:
        return
    for line in lines:
        _, names, member = (line + "::").split(":", 2)
        member = member.removesuffix("::")
        if names and controller not in names.split(","):
            continue
        root = CGROUP_ROOT / names if names else CGROUP_ROOT
        if names and not root.is_dir():
            root = CGROUP_ROOT / controller
        place = root / member.lstrip("/")
        yield from (directory for directory in (place, *place.parents) if directory.is_relative_to(root))


def _quota(directory: Path) -> float:
    """Return how many CPUs a group may use at a time.

    Raises:
        OSError, ValueError, ZeroDivisionError: as many as there are.
    """
    if (directory / "cpu.max").exists():
        quota, period = (directory / "cpu.max").read_text().split()
    else:
        quota = (directory / "cpu.cfs_quota_us").read_text()
        period = (directory / "cpu.cfs_period_us").read_text()
    if int(quota) <= 0:
        raise ValueError("no quota")
    return int(quota) / int(period)


def _group_usages() -> Iterator[tuple[int, int]]:
    """Yield (used, limit) of every control group with a limit."""
    for directory in _groups("memory"):
        for current, limit, prefix in (
            ("memory.current", "memory.max", ""),
            ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_"),
        ):
            try:
                most = int((directory / limit).read_text())
                used = int((directory / current).read_text())
                statistics = (directory / "memory.stat").read_text()
            except (OSError, ValueError):  # no such group, no such version, or "max"
                continue
            # The kernel gives up cached pages of files before anything else.
            given_up = {f"{prefix}inactive_file", f"{prefix}active_file"}
            fields = (line.split() for line in statistics.splitlines())
            yield max(0, used - sum(int(amount) for name, amount in fields if name in given_up)), most
