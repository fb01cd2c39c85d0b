"""``serve run`` from its start to the first answer, and what then runs: processes, memory, CPU at rest."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.processes import ROOT, free_port, running, serve_run


@dataclass(frozen=True)
class Standing:
    """A Serve that has answered once and rests."""

    seconds: float
    processes: int
    pss_mb: float
    #: share of one core
    idle_cpu: float


def first_answer(*, cold: bool = False) -> float:
    """Return seconds from the command to its first answer.

    Args:
        cold: the files it reads are thrown out of the page cache before.
    """
    if cold:
        forget_files()
    port = free_port()
    began = time.perf_counter()
    with running("serve run", serve_run(port), port) as system:
        system.await_answer()
        return time.perf_counter() - began


def standing(rest_s: float = 5.0) -> Standing:
    """Start, wait for the first answer, and look at what runs."""
    port = free_port()
    began = time.perf_counter()
    with running("serve run", serve_run(port), port) as system:
        system.await_answer()
        seconds = time.perf_counter() - began
        time.sleep(2)  # what starts after the first answer, too
        before = system.cpu_seconds()
        time.sleep(rest_s)
        idle = (system.cpu_seconds() - before) / rest_s
        return Standing(seconds, len(system.family()), system.pss_mb(), idle)


def forget_files() -> None:
    """Throw the interpreter, the installed packages and the sources out of the kernel's page cache."""
    for place in {Path(sys.base_prefix), Path(sys.prefix), ROOT / "packages"}:
        for directory, _, names in os.walk(place):
            for name in names:
                if name.endswith((".py", ".pyc", ".so")) or ".so." in name or directory.endswith("bin"):
                    _forget(os.path.join(directory, name))


def _forget(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return  # a broken link, or not ours to read
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
