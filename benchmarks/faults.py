"""How fast a session gets over faults: medians over many rounds, as a Markdown table.

Run ``python -m benchmarks.faults [rounds]`` (20 by default). Of the times nothing is asserted: the goals are printed
beside. That every result is exact while workers are killed all along is.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import core
from core.util.state import list_workers

LONG = 600.0
clock = time.monotonic

#: Row, goal in seconds, what is measured.
Row = tuple[str, float, Callable[[Path], float]]


def report(path: Path) -> None:
    """Append the process id and the time to a file (by rename, so that a reader never sees half of it)."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(f"{os.getpid()} {clock()}")
    part.rename(path)


def reported(path: Path) -> tuple[int, float]:
    """Wait for a report; return the process id and the time, and remove it."""
    while not path.exists():
        time.sleep(0.0002)
    pid, moment = path.read_text().split()
    path.unlink()
    return int(pid), float(moment)


@core.remote
def sleep(path: Path) -> None:
    report(path)
    time.sleep(LONG)


@core.remote
def loop(path: Path) -> None:
    report(path)
    while True:
        pass


@core.remote
def stubborn(path: Path) -> None:
    report(path)
    while True:
        try:
            time.sleep(LONG)
        except KeyboardInterrupt:
            continue


@core.remote(max_restarts=-1)
class Actor:
    def sleep(self, path: Path) -> None:
        report(path)
        time.sleep(LONG)

    def pid(self) -> int:
        return os.getpid()


def outcome(ref: Any) -> float:
    """Wait until a reference is ready; return when that was."""
    core.wait([ref])
    return clock()


def rerun(path: Path) -> float:
    ref = sleep.options(max_retries=-1).remote(path)
    pid, _ = reported(path)
    started = clock()
    os.kill(pid, signal.SIGKILL)
    _, again = reported(path)
    core.cancel(ref)
    core.wait([ref])
    return again - started


def error(path: Path) -> float:
    ref = sleep.options(max_retries=0).remote(path)
    pid, _ = reported(path)
    started = clock()
    os.kill(pid, signal.SIGKILL)
    return outcome(ref) - started


def restart(path: Path) -> float:
    actor = Actor.options(max_task_retries=-1).remote()
    pid = core.get(actor.pid.remote())
    started = clock()
    os.kill(pid, signal.SIGKILL)
    while core.get(actor.pid.remote()) == pid:
        pass
    return clock() - started


def cancel(function: Any, *forces: bool) -> Callable[[Path], float]:
    """Return a measurement: cancel a running task, once per item of ``forces``; the last one counts."""

    def measure(path: Path) -> float:
        ref = function.remote(path)
        reported(path)
        for force in forces[:-1]:
            core.cancel(ref, force=force)
        started = clock()
        core.cancel(ref, force=forces[-1])
        return outcome(ref) - started

    return measure


def cancel_method(path: Path) -> float:
    actor = Actor.remote()
    ref = actor.sleep.remote(path)
    reported(path)
    started = clock()
    core.cancel(ref)
    return outcome(ref) - started


def cancel_behind(path: Path) -> float:
    actor = Actor.remote()
    blocked = actor.sleep.remote(path)
    reported(path)
    ref = actor.pid.remote()
    started = clock()
    core.cancel(ref)
    ended = outcome(ref)
    core.cancel(blocked)
    return ended - started


@core.remote(max_retries=-1)
def square(number: int) -> int:
    time.sleep(0.01)
    return number * number


def squares() -> float:
    """Run 1,000 tasks of 10 ms; return how long it took."""
    started = clock()
    values = core.get([square.remote(number) for number in range(1000)])
    seconds = clock() - started
    assert values == [number * number for number in range(1000)], "a result is wrong"
    return seconds


def squares_under_fire() -> tuple[float, int]:
    """The same while a worker is killed every 0.5 s; return how long it took and how many fell."""
    done = threading.Event()
    kills = 0

    def kill_one_after_the_other() -> None:
        nonlocal kills
        choice = random.Random(7)
        while not done.wait(0.5):
            working = [row.pid for row in list_workers(filters=[("state", "=", "leased")])]
            if working:
                os.kill(choice.choice(working), signal.SIGKILL)
                kills += 1

    nemesis = threading.Thread(target=kill_one_after_the_other)
    nemesis.start()
    try:
        return squares(), kills
    finally:
        done.set()
        nemesis.join()


def killed_all_along(pairs: int) -> None:
    """Print the row of the pairs: quiet and under fire, in turns."""
    squares()
    found = []
    for _ in range(pairs):
        quiet = squares()
        seconds, kills = squares_under_fire()
        found.append((seconds / quiet, quiet, seconds, kills))
    ratio, quiet, seconds, kills = sorted(found)[len(found) // 2]
    print(
        f"\n1,000 tasks of 10 ms, a worker killed every 0.5 s: {seconds:.2f} s with {kills} kills, {quiet:.2f} s"
        f" without ({ratio:.2f} times; worst of {pairs}: {max(found)[0]:.2f}; goal 1.5)"
    )


ROWS: list[Row] = [
    ("task killed by SIGKILL -> runs again", 0.10, rerun),
    ("task killed by SIGKILL -> error", 0.02, error),
    ("actor killed by SIGKILL -> next call answered", 0.30, restart),
    ("cancel of time.sleep", 0.2, cancel(sleep, False)),
    ("cancel of a Python loop", 0.2, cancel(loop, False)),
    ("cancel by force", 0.2, cancel(sleep, True)),
    ("cancel by force after a soft one in vain", 0.2, cancel(stubborn, False, True)),
    ("cancel of a sync actor method", 0.2, cancel_method),
    ("cancel of a call behind it", 0.2, cancel_behind),
]


def main(rounds: int) -> None:
    """Measure every row and print the table."""
    core.init(num_cpus=2)
    print(f"| fault | median of {rounds}, ms | worst, ms | goal, ms |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        for number, (name, goal, measure) in enumerate(ROWS):
            path = Path(directory) / str(number)
            times = [measure(path) * 1000 for _ in range(rounds)]
            print(f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} | {goal * 1000:g} |", flush=True)
    killed_all_along(max(1, rounds // 5))
    core.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
