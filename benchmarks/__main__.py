"""The command line: ``python -m benchmarks``, from the root of the repository."""

from __future__ import annotations

import argparse
import compileall
import datetime as dt
import fnmatch
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from benchmarks.model import Program, Theme
from benchmarks.plot import write_plot
from benchmarks.report import Run, write_json, write_markdown
from benchmarks.rows import THEMES
from benchmarks.runner import Plan, Results, available, run
from benchmarks.systems import SYSTEMS

#: Compiled before anything is timed, as pip compiled the other systems when it installed them: an editable install is
#: not compiled until it is imported, and never where ``PYTHONDONTWRITEBYTECODE`` is set.
_SOURCES = Path(__file__).parents[1] / "packages" / "core" / "src"


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks and write the report; return 1 when a program of Skate or a floor failed."""
    options = _parser().parse_args(arguments)
    themes = select(options.rows)
    if options.list or not themes:
        print("\n".join(f"{theme.name}: {row.name}" for theme in themes for p in theme.programs for row in p.rows))
        return 0 if themes else 2
    results = Results()
    pythons = {"skate": options.skate_python, "ray": options.ray_python, "dask": options.dask_python}
    pythons = {name: pythons.get(name) or sys.executable for name in SYSTEMS}
    systems = available(options.systems, pythons, results)
    if not systems:
        return 2
    compileall.compile_dir(_SOURCES, quiet=1)
    started = dt.datetime.now().astimezone().isoformat(" ", "seconds")
    options.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        themes,
        systems,
        pythons,
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (0.2 if options.quick else 1.0),
        quick=options.quick,
        full=options.full,
        cpus=options.cpus,
        timeout_s=60.0 if options.quick else options.timeout,
        logs=options.out / "logs",
    )
    interrupted = False
    try:
        run(plan, results)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: reporting what was measured", file=sys.stderr)
    command = "python -m benchmarks " + shlex.join(arguments)
    write_report(
        Run(themes, systems, results, machine.describe(), command.strip(), started, options.quick), options.out
    )
    failed = any(system in ("skate", "floor") for by_system in results.errors.values() for system in by_system)
    return 130 if interrupted else 1 if failed else 0


def write_report(report: Run, out: Path) -> None:
    """Write the JSON, the Markdown and, where matplotlib is installed, the picture."""
    write_json(report, out / "bench.json")
    write_markdown(report, out / "bench.md")
    try:
        drawn = write_plot(report, out / "bench.png")
    except ImportError:
        drawn = False
        print("no picture: matplotlib is not installed", file=sys.stderr)
    print((out / "bench.md").read_text())
    print(f"written: {out / 'bench.md'}, {out / 'bench.json'}" + (f", {out / 'bench.png'}" if drawn else ""))


def select(patterns: str) -> tuple[Theme, ...]:
    """Return the themes with the programs that have a row, or are in a theme, matching one of the patterns."""
    wanted = [pattern.strip().lower() for pattern in patterns.split(";")]

    def matches(theme: Theme, program: Program) -> bool:
        names = [theme.name, *(row.name for row in program.rows)]
        return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in names for pattern in wanted)

    chosen = [replace(theme, programs=tuple(p for p in theme.programs if matches(theme, p))) for theme in THEMES]
    return tuple(theme for theme in chosen if theme.programs)


def _systems(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(SYSTEMS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--rows", default="*", metavar="PATTERNS", help="rows or themes to run, shell patterns parted by ';'")
    add("--systems", type=_systems, default=list(SYSTEMS), metavar="A,B", help=f"of {','.join(SYSTEMS)} (default all)")
    add("--rounds", type=int, help="times that everything is run (default 3)")
    add("--seconds", type=float, help="least time a rate is measured over (default 1.0)")
    add("--cpus", type=int, default=os.cpu_count() or 1, help="workers of every system (default: the machine's cores)")
    add("--quick", action="store_true", help="one short round with small counts: a smoke test, not a measurement")
    add("--full", action="store_true", help="also let the other systems run what takes them very long")
    add("--timeout", type=float, default=300.0, help="seconds after which a program is given up (default 300)")
    add("--out", type=Path, default=Path("out/bench"), help="folder of the report (default out/bench)")
    add("--list", action="store_true", help="print the rows and stop")
    for name in ("skate", "ray", "dask"):
        add(f"--{name}-python", metavar="PATH", help=f"interpreter that has {SYSTEMS[name].module} (default: this one)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
