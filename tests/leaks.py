"""What a test module must not leave behind: processes, threads, descriptors, session directories, shared memory.

A :class:`Snapshot` is taken before the module's first test; afterwards :func:`leaks` compares. Everything is found from
outside, through the operating system, so that a bug in the library's own books cannot hide here. Descendants are found
by a mark in their environment, not by parenthood: an orphan has no parent left to name it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Environment variable that every process started by this test run inherits.
MARK = "SKATE_TEST_RUN"

#: Seconds that something may take to go away. Deaths are asynchronous; what is still there then, stays.
GRACE = 10.0

#: Kinds of descriptors that others open once per process and keep, with how many of them are no leak:
#: the standard library's resource tracker (one pipe), numpy's and OpenSSL's randomness (one device), asyncio's
#: self-pipe of a loop that the collector has not visited (one pair), and pytest's own capture files (two).
TOLERATED = {"pipe": 1, "/dev/urandom": 1, "/dev/null": 1, "socket": 2, "file": 2}

#: Command lines of helper processes of the standard library and joblib that live as long as the process that made them.
LIFELONG_HELPERS = ("resource_tracker", "loky.backend.popen_loky_posix", "multiprocessing.forkserver")


@dataclass(frozen=True)
class Snapshot:
    """What exists at one moment."""

    processes: frozenset[int]
    threads: frozenset[int]
    descriptors: Counter[str]
    sessions: frozenset[str]
    segments: frozenset[str]


def take() -> Snapshot:
    """Look at everything now."""
    return Snapshot(
        processes=frozenset(process.pid for process in _descendants()),
        threads=frozenset(thread.ident or 0 for thread in _threads()),
        descriptors=_descriptors(),
        sessions=frozenset(_sessions()),
        segments=frozenset(_segments()),
    )


def leaks(before: Snapshot, grace: float = GRACE, but: tuple[str, ...] = ()) -> list[str]:
    """Return one line for each thing that exists now and did not ``before``, once ``grace`` seconds did not end it.

    Lines that begin with one of ``but`` are left out.
    """
    deadline = time.monotonic() + grace
    while found := [line for line in _difference(before) if not line.startswith(but)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def _difference(before: Snapshot) -> list[str]:
    found = [
        f"process {process.pid}: {_command(process)}"
        for process in _descendants()
        if process.pid not in before.processes
    ]
    found += [f"thread {thread.name}" for thread in _threads() if thread.ident not in before.threads]
    for kind, count in _descriptors().items():
        extra = count - before.descriptors[kind] - TOLERATED.get(kind, 0)
        if extra > 0:
            found.append(f"descriptors of kind {kind}: {extra}")
    found += [f"session directory {path}" for path in sorted(_sessions() - before.sessions)]
    found += [f"shared-memory segment {path}" for path in sorted(_segments() - before.segments)]
    return found


def _descendants() -> list[psutil.Process]:
    """All living processes of this test run but this one, orphans included."""
    mark = os.environ.get(MARK)
    mine = os.getpid()
    found = []
    for process in psutil.process_iter():
        if process.pid == mine:
            continue
        try:
            ours = process.ppid() == mine or (mark is not None and process.environ().get(MARK) == mark)
            if ours and not any(helper in _command(process) for helper in LIFELONG_HELPERS):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _command(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return f"zombie of {process.name()}"
        return " ".join(process.cmdline())[:160] or process.name()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return "gone"


def _threads() -> list[threading.Thread]:
    """Threads that keep a process from ending, and those of the library, daemonic or not."""
    return [thread for thread in threading.enumerate() if _is_ours(thread)]


def _is_ours(thread: threading.Thread) -> bool:
    if thread is threading.main_thread() or thread.name.startswith("pytest_timeout"):  # the watch over this very test
        return False
    return not thread.daemon or thread.name.startswith(("skate", "core"))


def _descriptors() -> Counter[str]:
    """Open descriptors of this process by kind; only counted where the system has /proc."""
    kinds: Counter[str] = Counter()
    if not sys.platform.startswith("linux"):
        return kinds
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the descriptor that listed the directory
            continue
        kind = target.split(":", 1)[0]
        if target.startswith("/") and not target.startswith(("/dev/", "/memfd:")):
            kind = "file"
        kinds["memfd" if target.startswith("/memfd:") else kind] += 1
    return kinds


def _sessions() -> set[str]:
    """Session directories below this run's own temporary directory (see conftest.py), so all of them are ours."""
    root = os.environ.get("TMPDIR", "")
    return {str(path) for path in Path(root).glob("skate-*/session*")} if root else set()


def _segments() -> set[str]:
    """Named shared-memory segments of the library; none should ever exist, since arenas have no name."""
    shm = Path("/dev/shm")
    return {str(path) for path in shm.glob("*skate*")} if shm.is_dir() else set()
