"""The ratios as a picture: how many times better Skate is than Ray, row by row."""

from __future__ import annotations

from pathlib import Path

from benchmarks.goals import goals_of, ratio
from benchmarks.report import Run, figure


def write_plot(run: Run, path: Path) -> bool:
    """Write a bar per row that Skate and Ray both have; return False when there is none.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl  # heavy and optional: only the picture needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    bars = []
    for _, row in run.rows():
        times = ratio(row, run.medians(row), "ray")
        if times is not None:
            goal = max((g.bound for g in goals_of(row) if g.kind == "vs ray"), default=None)
            bars.append((row.name, times, goal))
    if not bars:
        return False
    bars.reverse()  # the first row on top
    figure_, axes = plt.subplots(figsize=(10, 1.2 + 0.26 * len(bars)), layout="constrained")
    positions = range(len(bars))
    colours = ["#2a7f62" if times >= (goal or 1) else "#c8553d" for _, times, goal in bars]
    # From 1 outwards: what is worse than Ray points to the left.
    axes.barh(positions, [times - 1 for _, times, _ in bars], left=1, color=colours, height=0.7)
    for position, (_, times, goal) in zip(positions, bars, strict=True):
        axes.annotate(f" {figure(times)}x", (max(times, 1), position), va="center", fontsize=8)
        if goal is not None:
            axes.plot([goal, goal], [position - 0.4, position + 0.4], color="black", linewidth=1.2)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(y=0.01)
    axes.set_yticks(positions, [name for name, _, _ in bars], fontsize=8)
    axes.set_xlabel("times better than Ray (log scale); black mark: the goal; red: goal missed or worse than Ray")
    axes.set_title(f"Skate against Ray, {run.started[:10]}, {run.machine['cores']} cores")
    figure_.savefig(path, dpi=120)
    plt.close(figure_)
    return True
