"""What a system costs before it does anything: import, start, first task, idle processes and memory, stop."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import processes
from benchmarks.install_size import install_size_mb
from benchmarks.meter import Meter
from benchmarks.model import Program, Row, Theme
from benchmarks.systems import System

_IMPORT = Row("import", "s", "lower")
_INIT = Row("init", "s", "lower")
_FIRST = Row("first task after init", "s", "lower")
_PSS = Row("idle memory (PSS)", "MB", "lower")
_PROCESSES = Row("processes", "count", "lower")
_THREADS = Row("threads", "count", "lower")
_LISTENERS = Row("TCP listeners", "count", "lower")
_IDLE_CPU = Row("idle CPU", "% of a core", "lower")
_SHUTDOWN = Row("shutdown", "s", "lower")
_LEFT = Row("processes left 1 s after shutdown", "count", "lower")
_SIZE = Row("install size", "MB", "lower")
_CHECKOUT = Path(__file__).parents[2] / "packages" / "core"


def start_and_stop(system: System, meter: Meter) -> Mapping[str, float]:
    """Start the system with one worker per CPU, run one task, let it idle, stop it."""
    values = {_IMPORT.name: _import_seconds(system)}
    __import__(system.module)  # init is timed without it
    start = time.perf_counter()
    system.open(meter.cpus, {})
    values[_INIT.name] = time.perf_counter() - start
    start = time.perf_counter()
    system.first_task()
    values[_FIRST.name] = time.perf_counter() - start
    if processes.supported():
        values |= _idle(meter)
    start = time.perf_counter()
    system.close()
    values[_SHUTDOWN.name] = time.perf_counter() - start
    if processes.supported():
        time.sleep(1)
        values[_LEFT.name] = len(processes.descendants(os.getppid())) - 1
    if system.distribution is not None:
        # A checkout without its project file, not installed: the row stays empty.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            values[_SIZE.name] = install_size_mb(system.distribution, _CHECKOUT)
    return values


def _idle(meter: Meter) -> Mapping[str, float]:
    """Weigh the system at rest: the driver and every process below it."""
    processes.settle(os.getppid(), most_s=1 if meter.quick else 5)
    tree = processes.descendants(os.getppid())
    used, start = processes.cpu_seconds(tree), time.perf_counter()
    time.sleep(0.2 if meter.quick else 3)
    busy = (processes.cpu_seconds(tree) - used) / (time.perf_counter() - start)
    return {
        _PSS.name: processes.pss_mb(tree),
        _PROCESSES.name: len(tree),
        _THREADS.name: processes.threads(tree),
        _LISTENERS.name: processes.tcp_listeners(tree),
        _IDLE_CPU.name: 100 * busy,
    }


def _import_seconds(system: System) -> float:
    """Time the import in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); import {system.module}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def interpreter(_: System, meter: Meter) -> Mapping[str, float]:
    """The floor: start a second Python that imports sockets and pickle, hear from it, end it."""
    code = "import pickle, socket, sys; print(1, flush=True); sys.stdin.read()"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.perf_counter()
    return {_INIT.name: started - start, _SHUTDOWN.name: time.perf_counter() - started}


THEME = Theme(
    "start-up",
    (
        Program(
            (_IMPORT, _INIT, _FIRST, _PSS, _PROCESSES, _THREADS, _LISTENERS, _IDLE_CPU, _SHUTDOWN, _LEFT, _SIZE),
            {
                "raylike": start_and_stop,
                "dask": start_and_stop,
                "executor": start_and_stop,
                "pool": start_and_stop,
                "floor": interpreter,
            },
        ),
    ),
    bare=True,
)
