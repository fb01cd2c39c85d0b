"""The page's figures, as plotly.js takes them: data and layout. Pure; the colours around them are the page's matter."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from tune.html_report.importance import Importance, is_logarithmic
from tune.html_report.sweep import Sweep, as_number
from tune.trial import Trial

Figure = dict[str, Any]

#: distinguishable also by the colour-blind (Okabe and Ito)
ACCENTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
#: from the worst trial to the best; each stands out from white and from black
SCALE = ((0.0, "#8d97a8"), (0.5, "#4f8fcf"), (0.85, "#b0569b"), (1.0, "#e06000"))
QUIET = "rgba(128,128,128,0.35)"
DOT = "rgba(100,140,190,0.65)"
#: curves drawn in colour, curves drawn at all, axes of the parallel coordinates
TOP_CURVES, MOST_CURVES, MOST_AXES = 5, 150, 14


def text(value: object, width: int = 60) -> str:
    """Return something of the user's as plotly may show it: short, and no markup."""
    shown = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    shown = shown if len(shown) <= width else f"{shown[: width - 1]}…"
    return html.escape(shown, quote=False)


def hover(trial: Trial, sweep: Sweep) -> str:
    """Return what a trial says of itself under the pointer."""
    metrics = [
        f"{text(name)} = {text(value)}"
        for i, name in enumerate(sweep.metrics)
        if (value := sweep.value(trial, i)) is not None
    ]
    params = [f"{text(name)} = {text(value)}" for name, value in list(trial.evaluated_params.items())[:12]]
    return "<br>".join([f"<b>{text(trial)}</b> {trial.status.value.lower()}", *metrics, *params])


def history(sweep: Sweep) -> Figure | None:
    """Every trial's value, and the best so far, by number of the trial."""
    trials = [(trial, value) for trial in sweep.trials if (value := sweep.value(trial)) is not None]
    if not trials:
        return None
    best, steps = math.inf, []
    for _, value in trials:
        best = min(best, sweep.sign() * value)
        steps.append(sweep.sign() * best)
    x = [trial.index for trial, _ in trials]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "trials",
        "x": x,
        "y": [value for _, value in trials],
        "marker": {"color": DOT, "size": 7},
        "text": [hover(trial, sweep) for trial, _ in trials],
        "hovertemplate": "%{text}<extra></extra>",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "x": x,
        "y": steps,
        "line": {"color": ACCENTS[1], "width": 2.5, "shape": "hv"},
        "hovertemplate": "best so far %{y:.6g}<extra></extra>",
    }
    return _figure([dots, line], "trial", text(sweep.metrics[0]), y_values=[value for _, value in trials])


def curves(sweep: Sweep) -> Figure | None:
    """Learning curves; the best trials' in colour."""
    trials = {trial.trial_id: trial for trial in sweep.trials if len(sweep.curves.get(trial.trial_id, ((), ()))[0]) > 1}
    if not trials:
        return None
    ends = {name: sweep.sign() * sweep.curves[name][1][-1] for name in trials}
    ranked = sorted(trials, key=ends.__getitem__)
    top, rest = ranked[:TOP_CURVES], ranked[TOP_CURVES:]
    if len(rest) > MOST_CURVES:
        rest = [rest[position * len(rest) // MOST_CURVES] for position in range(MOST_CURVES)]
    drawn = []
    if rest:
        # one trace for all, with gaps: hundreds of traces are slow
        x: list[float | None] = []
        y: list[float | None] = []
        for name in rest:
            x += [*sweep.curves[name][0], None]
            y += [*sweep.curves[name][1], None]
        others = f"{len(rest)} others"
        drawn.append(_line(x, y, others, QUIET, 1.0) | {"hoverinfo": "skip"})
    drawn += [
        _line(*sweep.curves[name], text(trials[name], 28), ACCENTS[place], 2.5)
        | {"hovertemplate": f"{hover(trials[name], sweep)}<br>iteration %{{x}}: %{{y:.6g}}<extra></extra>"}
        for place, name in enumerate(top)
    ]
    values = [value for name in [*top, *rest] for value in sweep.curves[name][1]]
    return _figure(drawn, "iteration", text(sweep.metrics[0]), y_values=values)


def importances(found: Sequence[tuple[str, Importance]]) -> Figure | None:
    """Bars of each parameter's importance, a group for each objective."""
    if not found:
        return None
    names = list(found[0][1].values)[:20][::-1]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": text(metric),
            "y": [text(name, 30) for name in names],
            "x": [each.values.get(name, 0.0) for name in names],
            "marker": {"color": ACCENTS[place % len(ACCENTS)]},
            "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        }
        for place, (metric, each) in enumerate(found)
    ]
    figure = _figure(bars, f"importance ({found[0][1].method})", "")
    figure["layout"]["height"] = max(260, 60 + 34 * len(names) * len(bars))
    figure["layout"]["yaxis"] = {"automargin": True, "type": "category"}
    figure["layout"]["showlegend"] = len(bars) > 1
    return figure


def parallel(sweep: Sweep, order: Sequence[str]) -> Figure | None:
    """Parallel coordinates: an axis for each parameter, the important ones first, and for each objective."""
    rows = [
        trial for trial in sweep.trials if all(sweep.value(trial, i) is not None for i in range(len(sweep.metrics)))
    ]
    names = [*order, *(name for name in sweep.parameters if name not in order)][: MOST_AXES - len(sweep.metrics)]
    names = [name for name in names if any(name in trial.evaluated_params for trial in rows)]
    if len(rows) < 2 or not names or not sweep.metrics:
        return None
    axes = [_axis(name, [trial.evaluated_params.get(name) for trial in rows]) for name in names]
    axes += [_axis(name, [sweep.value(trial, i) for trial in rows]) for i, name in enumerate(sweep.metrics)]
    line = {
        "color": axes[-len(sweep.metrics)]["values"],
        "colorscale": [list(stop) for stop in SCALE],
        "reversescale": sweep.modes[0] == "min",
        "showscale": False,
    }
    trace: dict[str, Any] = {"type": "parcoords", "dimensions": axes, "line": line, "labelfont": {"size": 13}}
    if len(axes) > 7:
        trace["labelangle"] = -14
    return {"data": [trace], "layout": {"height": 430, "margin": {"l": 70, "r": 60, "t": 80, "b": 24}}}


def pareto(sweep: Sweep) -> Figure | None:
    """The first two objectives of every trial, and the front of those that none beats in both."""
    if len(sweep.metrics) < 2:
        return None
    points = [
        (first, second, trial)
        for trial in sweep.trials
        if (first := sweep.value(trial, 0)) is not None and (second := sweep.value(trial, 1)) is not None
    ]
    if not points:
        return None
    front = pareto_front([(sweep.sign(0) * a, sweep.sign(1) * b) for a, b, _ in points])
    rest = [point for position, point in enumerate(points) if position not in front]
    best = sorted((points[position] for position in front), key=lambda point: point[:2])
    drawn = [
        {
            "type": "scatter",
            "mode": mode,
            "name": name,
            "x": [point[0] for point in chosen],
            "y": [point[1] for point in chosen],
            "text": [hover(point[2], sweep) for point in chosen],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": colour, "size": size},
            "line": {"color": colour, "width": 1.5, "shape": "linear"},
        }
        for mode, name, chosen, colour, size in (
            ("markers", "dominated", rest, DOT, 7),
            ("lines+markers", "Pareto front", best, ACCENTS[1], 9),
        )
        if chosen
    ]
    return _figure(drawn, text(sweep.metrics[0]), text(sweep.metrics[1]))


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Return the positions of the points that no other beats, where smaller is better in both."""
    front: set[int] = set()
    lowest, newest = math.inf, None
    for position in sorted(range(len(points)), key=points.__getitem__):
        if points[position][1] < lowest or points[position] == newest:
            front.add(position)
            newest = points[position]
            lowest = newest[1]
    return front


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    numbers = [as_number(value) for value in values]
    known = [value for value in numbers if value is not None]
    label = text(name, 22)
    if len(known) == len(numbers):
        if not is_logarithmic(known):
            return {"label": label, "values": known}
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        ticks = list(range(low, high + 1, max(1, (high - low) // 6)))
        shown = [f"{10.0**tick:g}" for tick in ticks]
        return {"label": label, "values": [math.log10(value) for value in known], "tickvals": ticks, "ticktext": shown}
    texts = ["—" if value is None else text(value, 18) for value in values]
    choices = sorted(set(texts))[:50]
    places = {choice: place for place, choice in enumerate(choices)}
    return {
        "label": label,
        "values": [places.get(value, len(choices)) for value in texts],
        "tickvals": list(range(len(choices))),
        "ticktext": choices,
    }


def _line(x: Sequence[float | None], y: Sequence[float | None], name: str, colour: str, width: float) -> dict[str, Any]:
    line = {"color": colour, "width": width}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, "connectgaps": False}


def _figure(data: list[dict[str, Any]], x_title: str, y_title: str, y_values: Sequence[float] = ()) -> Figure:
    logarithmic = bool(y_values) and is_logarithmic(y_values)
    layout = {
        "height": 380,
        "margin": {"l": 64, "r": 16, "t": 16, "b": 48},
        "xaxis": {"title": {"text": x_title}, "zeroline": False, "automargin": True},
        "yaxis": {
            "title": {"text": y_title},
            "zeroline": False,
            "automargin": True,
            "type": "log" if logarithmic else "linear",
        },
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": len(data) > 1,
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}
