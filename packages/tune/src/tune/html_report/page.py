"""The page: figures, table and summary of a sweep in one HTML file that needs nothing else.

plotly.js comes from the installed plotly package, as a file: importing plotly would take longer than everything else
here. What users named or wrote reaches the page in two ways only: through `html.escape`, and as JSON in which ``<``
does not occur, put into the page by JavaScript as text.
"""

from __future__ import annotations

import datetime
import html
import importlib.util
import os
import re
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tune.html_report import figures
from tune.html_report.importance import Importance, importance
from tune.html_report.sweep import Sweep, as_number, make_sweep
from tune.trial import Trial

#: seconds after which an open page of a running sweep reloads itself, if its reader lets it
RELOAD_AFTER = 10
#: characters of a value in the table, and of a traceback
CELL, TRACEBACK = 80, 20_000

_ENCODER = msgspec.json.Encoder()


def write_report(
    path: str | os.PathLike[str],
    trials: Sequence[Trial],
    *,
    name: str,
    metric: str | Sequence[str] | None,
    mode: str | Sequence[str] | None,
    may_import_optuna: bool = True,
    **more: Any,
) -> None:
    """Write the page of a sweep, in one step: a reader sees the old page or the new one.

    Args:
        path: of the page.
        trials: all trials, in order of creation.
        name: of the experiment.
        metric: one objective or several; None: the first number that trials report.
        mode: ``"min"`` or ``"max"``, for each objective.
        may_import_optuna: whether Optuna may be loaded (half a second) for the importance of parameters.
        **more: other fields of `Sweep`: ``curves``, ``elapsed_s``, ``running``, ``total``, ``notes``.

    Raises:
        ImportError: plotly is not installed.
        OSError: the file cannot be written.
    """
    write_page(Path(path), make_sweep(name, trials, metric, mode, **more), may_import_optuna=may_import_optuna)


def write_page(path: Path, sweep: Sweep, *, may_import_optuna: bool) -> None:
    """Write a page, in one step."""
    head, tail = page_around_plotly(sweep, may_import_optuna=may_import_optuna)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(head)
        _copy_plotly(file)
        file.write(tail)
    beside.replace(path)


def page_around_plotly(sweep: Sweep, *, may_import_optuna: bool) -> tuple[bytes, bytes]:
    """Return what comes before plotly.js in the page, and what comes after it."""
    found = [
        (metric, each)
        for objective, metric in enumerate(sweep.metrics)
        if (each := importance(sweep, objective, may_import_optuna=may_import_optuna)) is not None
    ]
    drawn = {
        "history": figures.history(sweep),
        "pareto": figures.pareto(sweep),
        "curves": figures.curves(sweep),
        "importance": figures.importances(found),
        "parallel": figures.parallel(sweep, list(found[0][1].values) if found else []),
    }
    data = {
        "running": sweep.running,
        "reload": RELOAD_AFTER,
        "figures": {key: figure for key, figure in drawn.items() if figure is not None},
        "table": _table(sweep),
    }
    values = {
        "title": html.escape(sweep.name),
        "css": _asset("page.css"),
        "state": "running" if sweep.running else "finished",
        "written": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "cards": _cards(sweep),
        "notes": "".join(f"<li>{html.escape(note)}</li>" for note in sweep.notes),
        "sections": "".join(_section(key, sweep, found) for key in drawn if drawn[key] is not None),
        "data": _ENCODER.encode(data).decode().replace("<", "\\u003c"),
        "js": _asset("page.js"),
    }
    head, _, tail = _asset("page.html").partition("{{plotly}}")
    return _filled(head, values), _filled(tail, values)


def _filled(template: str, values: dict[str, str]) -> bytes:
    """Fill a template in one pass: what is filled in is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template).encode()


_TITLES = {
    "history": (
        "Optimisation history",
        "The value of every trial and the best so far. Drag to zoom, double-click to go back.",
    ),
    "pareto": ("Pareto front", "The first two objectives of every trial; no trial beats those on the front in both."),
    "curves": ("Learning curves", "The metric over iterations; the five best trials in colour."),
    "importance": ("Parameter importance", ""),
    "parallel": (
        "Parallel coordinates",
        "One line per trial, from grey (worst) to orange (best); drag along an axis to select.",
    ),
}


def _section(key: str, sweep: Sweep, found: Sequence[tuple[str, Importance]]) -> str:
    title, text = _TITLES[key]
    label = f"{title}. {text}"
    if key == "importance":
        method, values = found[0][1].method, found[0][1].values
        text = f"How much each parameter explains of {', '.join(metric for metric, _ in found)}, by {method}."
        label = f"{title}. {text} " + ", ".join(f"{name} {value:.2f}" for name, value in list(values.items())[:5])
    if key == "history" and (best := sweep.best()) is not None:
        label += f" The best value is {best[1]:.6g}."
    wide = " wide" if key == "parallel" else ""
    return (
        f'<section class="panel{wide}" aria-labelledby="h-{key}"><h2 id="h-{key}">{title}</h2>'
        f'<p class="hint">{html.escape(text)}</p>'
        f'<div class="plot" id="plot-{key}" role="img" aria-label="{html.escape(label)}"></div></section>'
    )


def _cards(sweep: Sweep) -> str:
    cards = []
    best = sweep.best()
    if best is not None:
        trial, value = best
        goal = f"{sweep.metrics[0]} ({sweep.modes[0]})"
        params = "".join(
            f"<div><dt>{html.escape(str(name))}</dt><dd>{html.escape(_cell(each))}</dd></div>"
            for name, each in trial.evaluated_params.items()
        )
        inside = f'<p class="who">{html.escape(str(trial))}</p><dl class="params">{params}</dl>'
        cards.append(_card(f"Best {html.escape(goal)}", f"{value:.6g}", inside, "best"))
    of = "" if sweep.total is None else f" of {sweep.total:,}"
    states = "".join(
        f'<li><span class="state s-{html.escape(status)}">{html.escape(status)}</span> {count:,}</li>'
        for status, count in sweep.counts.items()
    )
    cards.append(_card("Trials", f"{sweep.made:,}<small>{of}</small>", f"<ul>{states}</ul>"))
    rate = f"{sweep.made / sweep.elapsed_s:.3g} trials a second" if sweep.elapsed_s > 0 else ""
    cards.append(_card("Time", _duration(sweep.elapsed_s), f"<p>{rate}</p>"))
    return "".join(cards)


def _card(title: str, value: str, inside: str, kind: str = "") -> str:
    return f'<div class="card {kind}"><h2>{title}</h2><p class="big">{value}</p>{inside}</div>'


def _table(sweep: Sweep) -> dict[str, Any]:
    """Return the table of trials: titles, and rows of values that JavaScript puts in as text."""
    parameters = sweep.parameters
    objectives = range(len(sweep.metrics))
    rows = [
        [
            trial.index,
            str(trial),
            trial.status.value,
            *(sweep.value(trial, objective) for objective in objectives),
            *(_sortable(trial.evaluated_params.get(name)) for name in parameters),
            trial.iteration,
            round(trial.run_time, 3),
        ]
        for trial in sweep.trials
    ]
    return {
        "titles": ["#", "trial", "status", *sweep.metrics, *parameters, "results", "seconds"],
        "rows": rows,
        "errors": {str(trial.index): _error(trial) for trial in sweep.trials if trial.failures},
        "hidden": sweep.made - len(rows),
        "sort": [3, sweep.modes[0]] if sweep.metrics else [0, "min"],
    }


def _error(trial: Trial) -> dict[str, Any]:
    failure = trial.failures[-1]
    return {
        "title": f"{failure.error_type}: {failure.message}"[:300],
        "text": failure.traceback[-TRACEBACK:],
        "count": len(trial.failures),
    }


def _sortable(value: Any) -> Any:
    """Return numbers as numbers, so that the table can sort them; all else as short text."""
    number = as_number(value)
    if number is None or isinstance(value, int):
        return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else _cell(value)
    return number


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def _duration(seconds: float) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minute} min"
    return f"{minute} min {second:.0f} s" if minute else f"{second:.1f} s"


def _asset(name: str) -> str:
    return resources.files("tune.html_report").joinpath("assets", name).read_text("utf-8")


def _copy_plotly(file: BinaryIO) -> None:
    with plotly_js().open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)


def plotly_js() -> Path:
    """Return the path of plotly.js.

    Raises:
        ImportError: plotly is not installed, or came without it.
    """
    found = importlib.util.find_spec("plotly")
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place, "package_data", "plotly.min.js")
        if path.is_file():
            return path
    raise ImportError("the HTML report needs the plotly package: pip install plotly")
