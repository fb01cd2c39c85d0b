"""Requests by wrk, and what they cost the system that answers."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.apps import FEATURES
from benchmarks.serve.processes import System

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_POST = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%s'
"""


@dataclass(frozen=True)
class Load:
    """What wrk asks for."""

    name: str
    path: str
    connections: int
    #: the model's question goes with it
    post: bool = False


@dataclass(frozen=True)
class Measured:
    """What came of it."""

    per_second: float
    cpu_ms: float
    median_ms: float


def measure(system: System, load: Load, seconds: float) -> Measured:
    """Ask for some seconds.

    Raises:
        RuntimeError: an answer was not 2xx.
    """
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", "--latency"]
    with tempfile.TemporaryDirectory() as directory:
        if load.post:
            script = Path(directory) / "post.lua"
            script.write_text(_POST % json.dumps({"features": [0.1] * FEATURES}))
            command += ["-s", str(script)]
        before = system.cpu_seconds()
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{system.port}{load.path}"], capture_output=True, text=True, check=True
        )
        cpu = system.cpu_seconds() - before
    text = done.stdout
    count = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
    if not (count and rate and median) or "Non-2xx" in text:
        raise RuntimeError(f"{system.name}, {load.name}: {text}")
    return Measured(float(rate[1]), 1e3 * cpu / max(1, int(count[1])), float(median[1]) * _UNITS[median[2]])


def medians(measured: Iterable[Measured]) -> Measured:
    """Return the median of each figure."""
    found = list(measured)
    return Measured(
        statistics.median(each.per_second for each in found),
        statistics.median(each.cpu_ms for each in found),
        statistics.median(each.median_ms for each in found),
    )
