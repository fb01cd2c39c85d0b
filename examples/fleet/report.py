"""Pictures of the run: sample series with intervals, hold-out accuracy by model, and one HTML page with both."""

from __future__ import annotations

import base64
import html
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fleet.leaderboard import Standing
from fleet.models import BASELINE
from fleet.panel import Panel
from fleet.results import BestPerSeries, SeriesForecast, summarise

SAMPLES = 6
YEARS_SHOWN = 8
INK, MUTED, GRID = "#1b2733", "#64748b", "#e3e8ee"
ACTUAL, HOLDOUT, FORECAST = "#1b2733", "#c2570c", "#1d64c4"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def write_report(
    panel: Panel, forecasts: Sequence[SeriesForecast], standings: Sequence[Standing], folder: Path
) -> None:
    """Write ``forecasts.png``, ``accuracy.png`` and ``report.html`` (which embeds both) into ``folder``."""
    best = summarise(forecasts)
    with matplotlib.rc_context(STYLE):
        draw_samples(panel, forecasts).savefig(folder / "forecasts.png", dpi=130)
        draw_accuracy(standings, best).savefig(folder / "accuracy.png", dpi=130)
    wins = Counter(item.model_name for item in forecasts)
    (folder / "report.html").write_text(_page(forecasts, standings, wins, best, folder), encoding="utf-8")


def pick_samples(forecasts: Sequence[SeriesForecast]) -> list[SeriesForecast]:
    """Pick series at equal distances in the ranking by hold-out MASE, the best and the worst included."""
    ranked = sorted(forecasts, key=lambda item: item.holdout_mase)
    picked = np.unique(np.linspace(0, len(ranked) - 1, SAMPLES).round().astype(int))
    return [ranked[index] for index in picked]


def draw_samples(panel: Panel, forecasts: Sequence[SeriesForecast]) -> Figure:
    """Draw sample series: history, the hold-out's forecast beside what came, and the coming year with intervals."""
    samples = pick_samples(forecasts)
    rows = -(-len(samples) // 2)
    height = 1.7 + 3.1 * rows
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, rect=(0, 0, 1, 1 - 1.15 / height))
    figure = Figure(figsize=(13, height), layout=layout)
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for axis, item in zip(axes, samples, strict=False):
        _draw_series(axis, panel, item)
    for axis in axes[len(samples) :]:
        axis.set_visible(False)
    figure.text(0.012, 1 - 0.40 / height, "One year ahead, by each series' own best model", fontsize=17, weight="bold")
    note = "U.S. employment, thousands of persons. Evenly spaced from the most to the least accurate hold-out."
    figure.text(0.012, 1 - 0.70 / height, note, color=MUTED)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.004, 1 - 0.80 / height), ncols=6, frameon=False)
    return figure


def _draw_series(axis: Axes, panel: Panel, item: SeriesForecast) -> None:
    index = panel.ids.index(item.series_id)
    values = panel.series(index)
    horizon = item.forecast.size
    months = panel.months(index, start=0, count=values.size).astype("datetime64[D]")
    ahead = item.months.astype("datetime64[D]")
    shown = slice(max(values.size - 12 * YEARS_SHOWN, 0), None)
    held = slice(values.size - horizon, values.size)
    axis.plot(months[shown], values[shown], color=ACTUAL, linewidth=1.6, label="actual", zorder=3)
    axis.plot(months[held], item.holdout_forecast, color=HOLDOUT, linewidth=1.8, label="hold-out forecast", zorder=4)
    width = item.holdout_half_widths[80]
    lower, upper = item.holdout_forecast - width, item.holdout_forecast + width
    axis.fill_between(months[held], lower, upper, color=HOLDOUT, alpha=0.18, linewidth=0, label="its 80% interval")
    axis.plot(ahead, item.forecast, color=FORECAST, linewidth=2.0, label="forecast", zorder=4)
    for level, alpha in ((80, 0.24), (95, 0.14)):
        lower, upper = item.interval(level)
        axis.fill_between(ahead, lower, upper, color=FORECAST, alpha=alpha, linewidth=0, label=f"its {level}% interval")
    axis.set_title(textwrap.shorten(item.title, 52, placeholder=" …"), loc="left", fontsize=12, weight="bold", pad=20)
    score = f"{item.model_name}   hold-out MASE {item.holdout_mase:.2f} (seasonal naive {item.holdout_naive_mase:.2f})"
    axis.text(0, 1.03, score, transform=axis.transAxes, fontsize=10, color=MUTED)
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
    axis.yaxis.set_major_formatter(FuncFormatter(_people))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axis.grid(visible=False, axis="x")
    axis.margins(x=0.01)


def _people(value: float, _: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"


def draw_accuracy(standings: Sequence[Standing], best: BestPerSeries) -> Figure:
    """Draw the mean hold-out MASE of every model and of the choice per series."""
    rows = [(row.model, row.mase_holdout) for row in standings if np.isfinite(row.mase_holdout)]
    rows = sorted([*rows, ("best per series", best.mase)], key=lambda row: row[1], reverse=True)
    figure = Figure(figsize=(13, 1.5 + 0.48 * len(rows)), layout="constrained")
    axis = figure.subplots()
    colours = {"best per series": FORECAST, BASELINE: "#94a3b8"}
    names, scores = zip(*rows, strict=True)
    bars = axis.barh(names, scores, height=0.62, color=[colours.get(name, "#a9c4ea") for name in names])
    axis.bar_label(bars, fmt="%.3f", padding=6, fontsize=11)
    axis.set_title("Mean MASE in the hold-out year (lower is better)", loc="left", fontsize=14, weight="bold", pad=14)
    axis.tick_params(axis="y", labelsize=11, labelcolor=INK)
    axis.grid(visible=False)
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    axis.margins(x=0.08)
    return figure


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Forecast fleet</title>
<style>
body {{ font: 16px/1.55 system-ui, sans-serif; color: {ink}; max-width: 1080px; margin: 2.5rem auto; padding: 0 1rem; }}
h1 {{ margin-bottom: .2rem; }}
p.lead {{ color: {muted}; margin-top: 0; }}
img {{ max-width: 100%; height: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .45rem .7rem; text-align: right; border-bottom: 1px solid {grid}; }}
th:first-child, td:first-child {{ text-align: left; }}
th {{ color: {muted}; font-weight: 600; }}
tr.best td {{ font-weight: 700; color: {accent}; }}
footer {{ color: {muted}; font-size: .9rem; margin: 2rem 0; }}
</style>
</head>
<body>
<h1>Forecast fleet</h1>
<p class="lead">{lead}</p>
<table>
<thead><tr><th>model</th><th>fits</th><th>ms per fit</th><th>MASE, selection</th><th>MASE, hold-out</th>
<th>sMAPE, hold-out</th><th>series won</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<img alt="Mean MASE in the hold-out year by model" src="data:image/png;base64,{accuracy}">
<img alt="Sample series with forecasts and intervals" src="data:image/png;base64,{samples}">
<footer>The best model of a series is chosen on the selection origins; hold-out figures are of the last year, which no
choice saw. Intervals are split-conformal from back-test errors. {coverage} Data: U.S. Bureau of Labor Statistics,
Current Employment Statistics (public domain).</footer>
</body>
</html>
"""


def _page(
    forecasts: Sequence[SeriesForecast],
    standings: Sequence[Standing],
    wins: Counter[str],
    best: BestPerSeries,
    folder: Path,
) -> str:
    fits = sum(row.fits for row in standings)
    cells = [
        (
            row.model,
            f"{row.fits:,}",
            f"{row.seconds_per_fit * 1e3:.1f}",
            f"{row.mase_selection:.3f}",
            f"{row.mase_holdout:.3f}",
            f"{row.smape_holdout:.2f}%",
            f"{wins[row.model]}",
        )
        for row in standings
    ]
    rows = "\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    rows += (
        '\n<tr class="best"><td>best per series</td><td></td><td></td><td></td>'
        f"<td>{best.mase:.3f}</td><td>{best.smape:.2f}%</td><td>{best.series}</td></tr>"
    )
    covered = " and ".join(f"{share:.0%} in the {level}% interval" for level, share in best.coverage.items())
    return PAGE.format(
        ink=INK,
        muted=MUTED,
        grid=GRID,
        accent=FORECAST,
        lead=html.escape(f"{len(forecasts)} series, {fits:,} fits, {len(standings)} models."),
        rows=rows,
        accuracy=_embedded(folder / "accuracy.png"),
        samples=_embedded(folder / "forecasts.png"),
        coverage=html.escape(f"On the hold-out, the actual value lay {covered}."),
    )


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
