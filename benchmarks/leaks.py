"""Does anything grow? Many tasks, actors made and killed, and objects; then every process of the session is looked at.

``python -m benchmarks.leaks`` runs a small loop, ``--full`` 1,000,000 tasks, 10,000 actors and 20,000 objects, and ends
with status 1 if a process has grown by more than 5 MB or anything else is left. Linux only (``/proc``).
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import core
from core.util import state

#: What a process may have more afterwards, in bytes.
ALLOWED_BYTES = 5_000_000
#: Tasks and actors in flight at a time.
WINDOW = 1000
ACTORS = 10
#: Seconds for what ends asynchronously.
SETTLE_SECONDS = 20.0


@core.remote
def nothing(number: int) -> int:
    return number


@core.remote(num_cpus=0)
class Counter:
    def one(self) -> int:
        return 1


@dataclass
class Process:
    """What one process has at one moment."""

    name: str
    private_bytes: int
    descriptors: int
    threads: int


@dataclass
class Report:
    """What the loop left behind; lists of lines for people, empty when all is well."""

    tasks_done: int
    seconds: float
    growth: dict[str, int]
    more_descriptors: list[str] = field(default_factory=list)
    more_threads: list[str] = field(default_factory=list)
    zombies: list[str] = field(default_factory=list)
    objects_left: int = 0
    files_left: list[str] = field(default_factory=list)

    def grown(self, allowed: int) -> list[str]:
        """Return which processes have grown by more than ``allowed`` bytes."""
        return [f"{name}: {bytes_ / 1e6:+.1f} MB" for name, bytes_ in self.growth.items() if bytes_ > allowed]

    @property
    def clean(self) -> bool:
        """Whether nothing is left and nothing has grown."""
        lists = (self.more_descriptors, self.more_threads, self.zombies, self.files_left)
        return not self.grown(ALLOWED_BYTES) and not any(lists) and not self.objects_left


def measure(tasks: int, actors: int, objects: int) -> Report:
    """Run the loop in a session of its own and compare its processes before and after."""
    context = core.init(num_cpus=2, object_store_memory=256 << 20)
    try:
        directory = Path(context["session_dir"])
        # Pools, caches and arenas reach their size in the first tenth; that is no leak.
        _work(max(WINDOW, tasks // 10), max(ACTORS, actors // 10), max(50, objects // 10))
        files = _settled_files(directory)
        before = _processes()
        started = time.perf_counter()
        done = _work(tasks, actors, objects)
        seconds = time.perf_counter() - started
        files_left = sorted(_settled_files(directory) - files)
        report = _compare(before, _processes(), done, seconds)
        report.objects_left = len(state.list_objects())
        report.files_left = files_left
        return report
    finally:
        core.shutdown()


def _work(tasks: int, actors: int, objects: int) -> int:
    for _ in range(0, actors, ACTORS):
        crew = [Counter.remote() for _ in range(ACTORS)]
        core.get([actor.one.remote() for actor in crew])
        for actor in crew:
            core.kill(actor)
    array = np.zeros(1 << 20, np.uint8)
    for _ in range(objects):
        core.get(core.put(array))
    # Last, so that the workers that ran them are still there to be looked at.
    done = 0
    pending: deque[core.ObjectRef[int]] = deque()
    for number in range(tasks):
        pending.append(nothing.remote(number))
        if len(pending) > WINDOW:
            core.get(pending.popleft())
            done += 1
    done += len(core.get(list(pending)))
    pending.clear()
    gc.collect()
    return done


def _settled_files(directory: Path) -> set[str]:
    """Files of the session once the last killed worker is gone, or after a while; sockets included."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline and _busy(directory):
        time.sleep(0.1)
    workers = {row["address"] for row in core.current.running("the loop").query("workers")}
    return {path.name for path in directory.rglob("*") if path.stem not in workers and not path.is_dir()}


def _busy(directory: Path) -> bool:
    rows = core.current.running("the loop").query("workers")
    workers = len(_children(os.getpid())) - 2
    sockets = len(list(directory.glob("*.sock"))) - 2
    return (
        any(row["state"] != "idle" for row in rows) or bool(state.list_objects()) or not workers == len(rows) == sockets
    )


def _children(root: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{root}/task/{root}/children").read_text().split():
        found += [int(child), *_children(int(child))]
    return found


def _processes() -> dict[int, Process]:
    found = {}
    pids = [os.getpid(), *_children(os.getpid())]
    names = ("driver", "daemon", "zygote")
    for position, pid in enumerate(pids):
        root = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
        name = names[position] if position < len(names) else f"worker {pid}"
        if status["State"].split()[0] == "Z":
            found[pid] = Process(f"zombie of {name}", 0, 0, 0)
            continue
        anonymous = int(status["RssAnon"].split()[0]) * 1024
        found[pid] = Process(name, anonymous, len(os.listdir(root / "fd")), int(status["Threads"]))
    return found


def _compare(before: dict[int, Process], after: dict[int, Process], done: int, seconds: float) -> Report:
    report = Report(done, seconds, {})
    # A worker that was started meanwhile is compared with the largest that was there before.
    workers = [process for process in before.values() if process.name.startswith("worker")]
    largest = max(workers, key=lambda process: process.private_bytes, default=None)
    for pid, now in after.items():
        if now.name.startswith("zombie"):
            report.zombies.append(now.name)
            continue
        then = before.get(pid, largest)
        if then is None:
            continue
        report.growth[now.name] = now.private_bytes - then.private_bytes
        if now.descriptors > then.descriptors:
            report.more_descriptors.append(f"{now.name}: {then.descriptors} -> {now.descriptors}")
        if now.threads > then.threads:
            report.more_threads.append(f"{now.name}: {then.threads} -> {now.threads}")
    return report


def main() -> int:
    """Run the loop and print what it left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="1,000,000 tasks, 10,000 actors, 20,000 objects")
    full = parser.parse_args().full
    report = measure(1_000_000, 10_000, 20_000) if full else measure(20_000, 300, 2_000)
    print(f"{report.tasks_done:,} tasks and the rest in {report.seconds:.1f} s")
    for name, bytes_ in report.growth.items():
        print(f"  {name}: {bytes_ / 1e6:+.1f} MB")
    for line in (*report.more_descriptors, *report.more_threads, *report.zombies, *report.files_left):
        print(f"  left: {line}")
    if report.objects_left:
        print(f"  left: {report.objects_left} objects")
    print("clean" if report.clean else "NOT clean")
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
