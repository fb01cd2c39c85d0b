"""The process that runs the programs of one theme on one system; started by :mod:`benchmarks.runner`.

``python -m benchmarks.child <json>`` writes one JSON line per program to the descriptor named in the job, flushed as it
goes, so that a later program which hangs or dies costs only itself. Its standard output belongs to the system.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

from benchmarks import processes
from benchmarks.meter import Meter
from benchmarks.model import Measured, Program, Theme
from benchmarks.rows import THEMES
from benchmarks.systems import SYSTEMS, System


@dataclass(frozen=True)
class Job:
    """What one child is asked to do."""

    system: str
    theme: str
    #: names of programs, in order
    programs: tuple[str, ...]
    seconds: float
    quick: bool
    #: number of CPUs every system is given
    cpus: int
    #: where to write the lines
    descriptor: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "programs": tuple(fields["programs"])})


def main(job: Job) -> None:
    """Run the job; a failure of a program is reported as its error, one of the session ends the process."""
    with os.fdopen(job.descriptor, "w", buffering=1) as lines:

        def report(line: dict[str, object]) -> None:
            lines.write(json.dumps(line) + "\n")

        theme = next(theme for theme in THEMES if theme.name == job.theme)
        chosen = [program for program in theme.programs if program.name in job.programs]
        meter = Meter(seconds=job.seconds, quick=job.quick, cpus=job.cpus)
        system = SYSTEMS[job.system]()
        try:
            _run(system, theme, chosen, meter, report)
        except Exception as error:  # the outermost shell: whatever stops the session is told, then the process ends
            traceback.print_exc()
            report({"fatal": _describe(error)})
            raise SystemExit(1) from error


def _run(
    system: System,
    theme: Theme,
    chosen: list[Program],
    meter: Meter,
    report: Callable[[dict[str, object]], None],
) -> None:
    session = system if theme.bare else system.open(meter.cpus, theme.resources)
    try:
        for program in chosen:
            report({"start": program.name})
            try:
                measured = program.variants[system.kind](session, meter)
            except Exception as error:  # any failure of the system under test is a result, not the end of the run
                traceback.print_exc()
                report({"program": program.name, "error": _describe(error)})
            else:
                report({"program": program.name, "rows": _by_row(program, measured)})
            if not theme.bare:
                processes.settle(os.getppid())
    finally:
        report({"done": True})
        if not theme.bare:
            system.close()


def _by_row(program: Program, measured: Measured) -> dict[str, float]:
    if isinstance(measured, int | float):
        return {program.rows[0].name: float(measured)}
    return dict(measured)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


if __name__ == "__main__":
    main(Job.from_json(sys.argv[1]))
