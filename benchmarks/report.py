"""The results as JSON (every sample) and as Markdown (medians, ratios, goals kept and missed)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.goals import Goal, goals_of, ratio
from benchmarks.model import Row, Theme
from benchmarks.runner import Results


@dataclass(frozen=True)
class Run:
    """A run to report."""

    themes: Sequence[Theme]
    systems: Sequence[str]
    results: Results
    machine: Mapping[str, str]
    #: the command line, its settings resolved
    command: str
    started: str
    #: a smoke test: no goal is judged by its figures
    quick: bool = False

    def medians(self, row: Row) -> dict[str, float]:
        """Return the median of the row's samples, by system."""
        samples = self.results.samples.get(row.name, {})
        return {system: statistics.median(values) for system, values in samples.items()}

    def rows(self) -> Iterator[tuple[Theme, Row]]:
        """Yield the rows that have values, in order."""
        for theme in self.themes:
            for program in theme.programs:
                for row in program.rows:
                    if row.name in self.results.samples:
                        yield theme, row


def write_json(run: Run, path: Path) -> None:
    """Write everything that was measured, with the medians and the verdicts."""
    rows = []
    for theme, row in run.rows():
        medians = run.medians(row)
        rows.append(
            {
                "theme": theme.name,
                "row": row.name,
                "unit": row.unit,
                "better": row.better,
                "medians": medians,
                "samples": run.results.samples[row.name],
                "skate_vs_ray": ratio(row, medians, "ray"),
                "skate_vs_floor": ratio(row, medians, "floor"),
                "goals": {str(goal): goal.met(row, medians) for goal in goals_of(row)},
            }
        )
    document = {
        "started": run.started,
        "command": run.command,
        "machine": dict(run.machine),
        "versions": run.results.versions,
        "load_average_before_rounds": run.results.loads,
        "wall_s": run.results.wall_s,
        "rows": rows,
        "errors": run.results.errors,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def write_markdown(run: Run, path: Path) -> None:
    """Write the tables that people read."""
    path.write_text("\n".join(_markdown(run)) + "\n")


def _markdown(run: Run) -> Iterator[str]:
    results = run.results
    yield "# Benchmarks"
    yield ""
    yield f"{run.started}, {results.wall_s / 60:.1f} minutes. `{run.command}`"
    yield ""
    yield ", ".join(f"{name}: {value}" for name, value in run.machine.items()) + "."
    for system, versions in results.versions.items():
        yield f"{system}: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    yield "Load average before each round: " + ", ".join(f"{load:.2f}" for load in results.loads) + "."
    yield ""
    yield "Medians over the rounds. A ratio says how many times better Skate is, whichever direction is better."
    yield "Bold: the best system of the row. How each row is measured: `docs/benchmarks.md`."
    yield from _verdicts(run)
    theme_name = None
    for theme, row in run.rows():
        if theme.name != theme_name:
            theme_name = theme.name
            yield from ("", f"## {theme.name[0].upper()}{theme.name[1:]}", "", *_head(run))
        yield _line(run, row)
    yield from _errors(run)


def _head(run: Run) -> tuple[str, str]:
    columns = ["row", "unit", *run.systems, "vs Ray", "of floor", "goal"]
    return f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 3) + "---|"


def _line(run: Run, row: Row) -> str:
    medians = run.medians(row)
    cells = [row.name, row.unit]
    contenders = {system: value for system, value in medians.items() if system != "floor"}
    choose = max if row.better == "higher" else min
    best = choose(contenders.values()) if len(contenders) > 1 else None
    for system in run.systems:
        value = medians.get(system)
        text = "" if value is None else figure(value)
        cells.append(f"**{text}**" if value is not None and value == best and system != "floor" else text)
    for other in ("ray", "floor"):
        times = ratio(row, medians, other)
        cells.append("" if times is None else f"{times:.2f}" if other == "floor" else f"{figure(times)}x")
    cells.append("; ".join(_verdict(goal, row, medians) for goal in goals_of(row)))
    return f"| {' | '.join(cells)} |"


def _verdict(goal: Goal, row: Row, medians: Mapping[str, float]) -> str:
    met = goal.met(row, medians)
    return f"{goal} {'?' if met is None else 'met' if met else '**missed**'}"


def _verdicts(run: Run) -> Iterator[str]:
    """Yield the summary: how many goals were met, the missed ones by how far, and every row slower than Ray's."""
    judged = []
    slower = []
    for _, row in run.rows():
        medians = run.medians(row)
        against_ray = ratio(row, medians, "ray")
        if against_ray is not None and against_ray < 1:
            slower.append((against_ray, row.name))
        for goal in goals_of(row):
            met = goal.met(row, medians)
            if met is not None:
                judged.append((met, _reached(goal, row, medians), row, goal))
    if run.quick:
        yield from ("", "A quick run: the figures show that the rows work, and little else.")
    if run.quick or not judged:
        return
    missed = sorted((reached, row.name, str(goal)) for met, reached, row, goal in judged if not met)
    yield ""
    yield f"**Goals: {len(judged) - len(missed)} of {len(judged)} met.**"
    if missed:
        yield from ("", "| missed, the farthest first | goal | reached of it |", "|---|---|---:|")
        yield from (f"| {name} | {goal} | {reached:.0%} |" for reached, name, goal in missed)
    if slower:
        yield ""
        yield "Slower or larger than Ray: " + "; ".join(f"{name} ({r:.2f}x)" for r, name in sorted(slower)) + "."


def _reached(goal: Goal, row: Row, medians: Mapping[str, float]) -> float:
    """Return what part of the goal was reached: 1 is all of it."""
    ours = medians["skate"]
    if goal.kind == "at most":
        return goal.bound / ours if ours else 1.0
    if goal.kind == "at least":
        return ours / goal.bound
    return (ratio(row, medians, goal.kind[3:]) or 0.0) / goal.bound


def _errors(run: Run) -> Iterator[str]:
    if not run.results.errors:
        return
    yield from ("", "## Failures", "")
    for program, by_system in run.results.errors.items():
        for system, error in by_system.items():
            yield f"- {program}, {system}: {error.splitlines()[0] if error else 'unknown'}"


def figure(value: float) -> str:
    """Return three significant digits, thousands separated."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
