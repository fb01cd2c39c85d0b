"""The rows of the report: figure, goal, whether it is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import machine

_HOW = """\
All systems take turns within it, so a slow minute hits all alike. CPU time is that of a system's processes, without
the load generator (wrk, one thread, kept-alive connections). *bare* is uvicorn with FastAPI in one process, with uvloop
and httptools; *direct*: the replica accepts clients itself; *relayed*: a proxy process stands between. Figures are
medians."""


@dataclass(frozen=True)
class Line:
    """One figure."""

    what: str
    value: str
    goal: str = ""
    #: None: nothing was promised
    reached: bool | None = None


def at_least(what: str, value: float, goal: float, unit: str = "", note: str = "") -> Line:
    """Return the line of a figure that must not be smaller."""
    return Line(what, f"{_figure(value)}{unit}{note}", f">= {_figure(goal)}{unit}", value >= goal)


def at_most(what: str, value: float, goal: float, unit: str = "", note: str = "") -> Line:
    """Return the line of a figure that must not be larger."""
    return Line(what, f"{_figure(value)}{unit}{note}", f"<= {_figure(goal)}{unit}", value <= goal)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def markdown(lines: Sequence[Line], command: str, samples: Sequence[Line]) -> str:
    """Return the report as a page."""
    facts = machine.describe()
    promised = [line for line in lines if line.reached is not None]
    kept = sum(bool(line.reached) for line in promised)
    parts = [
        "# Benchmarks of serve",
        "",
        "```sh",
        command,
        "```",
        "",
        "One run on " + ", ".join(f"{name} {value}" for name, value in facts.items()) + f"; load {machine.load():.1f}.",
        _HOW,
        "",
        f"{kept} of {len(promised)} goals are reached.",
        "",
        "| | figure | goal | |",
        "|---|--:|--:|---|",
        *(f"| {line.what} | {line.value} | {line.goal} | {_mark(line)} |" for line in lines),
        "",
        "## Systems",
        "",
        "| system and load | requests/s, CPU per request, median latency |",
        "|---|---|",
        *(f"| {line.what} | {line.value} |" for line in samples),
        "",
    ]
    return "\n".join(parts)


def _mark(line: Line) -> str:
    return "" if line.reached is None else "reached" if line.reached else "**missed**"
