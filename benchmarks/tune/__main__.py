"""What sweeps cost: ``python -m benchmarks.tune``, from the root of the repository.

Each measurement runs in a process of its own, interleaved over the rounds; the table shows medians. Search quality and
simulated sweeps have commands of their own: ``python -m benchmarks.tune.quality`` and ``... .simulated``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks import machine
from benchmarks.runner import environment
from benchmarks.tune import reports, trials

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One line of the table: how each system measures it."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    systems: Mapping[str, Callable[[], float]] = field(hash=False)
    #: what Skate is to reach on two cores
    goal: float | None = None


ROWS = (
    Row("200 trials, random search, loggers", "s", "lower", {
        "skate": lambda: trials.skate("random"), "ray": lambda: trials.ray("random"),
        "ray, default": lambda: trials.ray("random", reuse=False), "optuna": lambda: trials.optuna("random"),
    }, 2.0),
    Row("200 trials, TPE, loggers", "s", "lower", {
        "skate": lambda: trials.skate("tpe"), "ray": lambda: trials.ray("tpe"), "optuna": lambda: trials.optuna("tpe"),
    }, 3.0),
    Row("200 trials, random search, no loggers", "s", "lower", {
        "skate": lambda: trials.skate("random", loggers=False), "ray": lambda: trials.ray("random", loggers=False),
    }),
    Row("200 trials, a process each", "s", "lower", {
        "skate": lambda: trials.skate("random", reuse_actors=False),
    }),
    Row("results, two trials, no loggers", "1/s", "higher", {
        "skate": lambda: reports.skate(loggers=False), "ray": lambda: reports.ray(loggers=False),
    }, 20_000.0),
    Row("results, two trials, loggers", "1/s", "higher", {
        "skate": lambda: reports.skate(loggers=True), "ray": lambda: reports.ray(loggers=True),
    }, 5_000.0),
    Row("driver's growth over 10,000 trials", "MB", "lower", {"skate": trials.skate_memory}, 50.0),
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return 1 if a measurement of Skate failed."""
    options = _parser().parse_args(arguments)
    if options.child:
        row, system = json.loads(options.child)
        print("VALUE", next(r for r in ROWS if r.name == row).systems[system]())
        return 0
    rows = [row for row in ROWS if fnmatch.fnmatchcase(row.name, options.rows)]
    pythons = {"skate": sys.executable, "optuna": sys.executable, "ray": options.ray_python}
    samples: dict[tuple[str, str], list[float]] = {}
    errors: dict[tuple[str, str], str] = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}, load average {machine.load():.2f}", file=sys.stderr)
        for row in rows:
            for system in row.systems:
                python = pythons[system.partition(",")[0]]
                if python is not None and not (system == "ray, default" and number):
                    _measure(row, system, python, options.timeout, samples, errors)
    print(table(rows, samples, errors))
    return int(any(system == "skate" for _, system in errors))


def _measure(
    row: Row,
    system: str,
    python: str,
    timeout_s: float,
    samples: dict[tuple[str, str], list[float]],
    errors: dict[tuple[str, str], str],
) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        command = [python, "-m", "benchmarks.tune", "--child", json.dumps([row.name, system])]
        paths = {"TMPDIR": temporary}
        if system == "skate":
            given = environment()
            sources = f"{ROOT / 'packages' / 'tune' / 'src'}{os.pathsep}{given['PYTHONPATH']}"
            paths["PYTHONPATH"] = sources
        else:
            given = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**given, **paths},
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            errors[row.name, system] = f"took more than {timeout_s:g} s"
            return
    values = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("VALUE ")]
    if values:
        samples.setdefault((row.name, system), []).append(float(values[-1]))
        print(f"  {system:<14}{row.name:<44}{float(values[-1]):>12,.3f} {row.unit}", file=sys.stderr)
    else:
        errors[row.name, system] = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"  {system:<14}{row.name:<44}{errors[row.name, system][:100]}", file=sys.stderr)


def table(
    rows: Sequence[Row], samples: Mapping[tuple[str, str], list[float]], errors: Mapping[tuple[str, str], str]
) -> str:
    """Return the results in Markdown."""
    systems = list(dict.fromkeys(system for row in rows for system in row.systems if (row.name, system) in samples))
    lines = [f"| | {' | '.join(systems)} | goal |", f"|---{'|---:' * (len(systems) + 1)}|"]
    for row in rows:
        medians = {
            system: statistics.median(samples[row.name, system]) for system in systems if (row.name, system) in samples
        }
        cells = [f"{medians[system]:,.2f}" if system in medians else "" for system in systems]
        goal = ""
        if row.goal is not None and "skate" in medians:
            kept = medians["skate"] <= row.goal if row.better == "lower" else medians["skate"] >= row.goal
            goal = f"{'<=' if row.better == 'lower' else '>='} {row.goal:,g} {'kept' if kept else 'MISSED'}"
        lines.append(f"| {row.name} ({row.unit}) | {' | '.join(cells)} | {goal} |")
    lines += [f"\n{system}: {name}: {error}" for (name, system), error in errors.items()]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    add = parser.add_argument
    add("--rows", default="*", metavar="PATTERN", help="rows to run, a shell pattern")
    add("--rounds", type=int, default=3, help="times that everything is run (default 3; Ray's default mode once)")
    add("--timeout", type=float, default=600.0, help="seconds after which a measurement is given up (default 600)")
    add("--ray-python", metavar="PATH", help="interpreter with ray[tune] and optuna, to compare with; default: none")
    add("--child", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
