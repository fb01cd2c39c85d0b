"""Decides which process runs when: every theme on every system, one after another, round after round.

Interleaving makes a slow minute of the machine hit all systems alike; a process per system, theme and round keeps one
system's threads, caches and leftovers out of another's clock. There are never two children at once.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine, processes
from benchmarks.child import Job
from benchmarks.model import Program, Theme
from benchmarks.systems import SYSTEMS

ROOT = Path(__file__).parents[1]
_PROBE_S = 60.0
#: Seconds a child has to close its session.
_CLOSE_S = 20.0


@dataclass(frozen=True)
class Plan:
    """What a run covers."""

    themes: tuple[Theme, ...]
    systems: tuple[str, ...]
    #: interpreter of each system
    pythons: Mapping[str, str]
    rounds: int
    seconds: float
    quick: bool
    full: bool
    cpus: int
    #: seconds a program may take before its process is ended
    timeout_s: float
    logs: Path


@dataclass
class Results:
    """What a run measured."""

    #: samples, one per round, by row name and system
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    #: the last error, by program name and system
    errors: dict[str, dict[str, str]] = field(default_factory=dict)
    #: load average of the machine before each round
    loads: list[float] = field(default_factory=list)
    #: versions of packages, by system
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    #: seconds the run took
    wall_s: float = 0.0

    def add(self, system: str, values: Mapping[str, float]) -> None:
        """Keep one round's values of a system."""
        for row, value in values.items():
            self.samples.setdefault(row, {}).setdefault(system, []).append(value)

    def fail(self, system: str, program: str, error: str) -> None:
        """Keep the error of a program."""
        self.errors.setdefault(program, {})[system] = error


def run(plan: Plan, results: Results) -> None:
    """Run the plan, adding to ``results`` as it goes, so that an interrupted run still has what it measured."""
    processes.become_subreaper()
    plan.logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        for number in range(plan.rounds):
            results.loads.append(machine.load())
            _say(f"round {number + 1} of {plan.rounds}, load average {results.loads[-1]:.2f}")
            for theme in plan.themes:
                for system in _rotated(plan.systems, number):
                    programs = [p for p in theme.programs if _wanted(p, system, number, plan)]
                    _run_theme(plan, results, theme, system, programs)
    finally:
        results.wall_s += time.monotonic() - began


def available(systems: Sequence[str], pythons: Mapping[str, str], results: Results) -> tuple[str, ...]:
    """Return the systems whose interpreter can import them, noting the versions of their packages."""
    found = []
    for name in systems:
        code = f"import {SYSTEMS[name].module}\n{machine.versions_script()}"
        probe = subprocess.run(
            [pythons[name], "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
        if probe.returncode == 0:
            results.versions[name] = json.loads(probe.stdout.splitlines()[-1])
            found.append(name)
        else:
            reason = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
            _say(f"leaving out {name}: {pythons[name]} cannot import {SYSTEMS[name].module} ({reason})")
    return tuple(found)


def environment() -> dict[str, str]:
    """Return the environment of children: this checkout importable, by workers too; one thread per numeric library."""
    paths = [str(ROOT), str(ROOT / "packages" / "core" / "src"), os.environ.get("PYTHONPATH", "")]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _rotated(systems: Sequence[str], number: int) -> list[str]:
    """Let another system begin each round: being first after a pause is no fixed privilege."""
    start = number % len(systems)
    return [*systems[start:], *systems[:start]]


def _wanted(program: Program, system: str, number: int, plan: Plan) -> bool:
    return (
        SYSTEMS[system].kind in program.variants
        and (program.max_rounds is None or number < program.max_rounds)
        and (program.only is None or plan.full or system in program.only)
        and (program.quick or not plan.quick)
    )


def _run_theme(plan: Plan, results: Results, theme: Theme, system: str, programs: list[Program]) -> None:
    """Run the programs in one child, and those after a fatal one in another."""
    names = [program.name for program in programs]
    while names:
        try:
            stopped_at = _run_child(plan, results, theme, system, names)
        finally:
            processes.kill_descendants(os.getpid())
            processes.reap_orphans()
        names = names[names.index(stopped_at) + 1 :] if stopped_at is not None else []


def _run_child(plan: Plan, results: Results, theme: Theme, system: str, names: list[str]) -> str | None:
    """Run one child; return the program to go on after when it ended early, None when it came through."""
    reader, writer = os.pipe()
    job = Job(system, theme.name, tuple(names), plan.seconds, plan.quick, plan.cpus, writer)
    command = [plan.pythons[system], "-m", "benchmarks.child", job.to_json()]
    with (plan.logs / f"{system}.log").open("ab") as log:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(writer)
    waiting = [*names]
    started = False
    reason = "the process died"
    grace_s = 0.0  # an interrupted or hanging child gets none
    try:
        for line in _lines(reader, plan.timeout_s):
            if "rows" in line:
                results.add(system, line["rows"])
                for row, value in line["rows"].items():
                    _say(f"  {system:<9}{row:<48}{value:>14,.4g}")
            if "error" in line:
                results.fail(system, line["program"], line["error"])
                _say(f"  {system:<9}{line['program']:<48}{line['error'][:100]}")
            started = started or "start" in line
            if "program" in line:
                waiting.remove(line["program"])
            if "fatal" in line:
                reason = line["fatal"]
            if "done" in line and not waiting:
                break
        grace_s = _CLOSE_S
    except TimeoutError as error:
        reason = str(error)
    finally:
        os.close(reader)
        _end(child, grace_s)
    if not waiting:
        return None
    # A session that does not even open takes all its programs with it.
    for name in waiting[:1] if started else waiting:
        results.fail(system, name, reason)
        _say(f"  {system:<9}{name:<48}{reason[:100]}")
    return waiting[0] if started else waiting[-1]


def _lines(descriptor: int, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Yield the child's messages until end of file; raise TimeoutError when none comes for ``timeout_s``."""
    buffer = b""
    while True:
        if not select.select([descriptor], [], [], timeout_s)[0]:
            raise TimeoutError(f"no result within {timeout_s:.0f} s")
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return
        *complete, buffer = (buffer + chunk).split(b"\n")
        yield from (json.loads(line) for line in complete)


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Give the child time to close its session, then end its whole group."""
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
