"""The report's parts: what is chosen, thinned, judged and drawn, and that nothing of a user's becomes markup."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.html_report import HtmlReportCallback, callback, figures, page, write_report
from tune.html_report.curves import BEST_CURVES, OTHER_CURVES, POINTS, CurveStore
from tune.html_report.importance import ENOUGH_TRIALS, importance
from tune.html_report.sweep import as_number, make_sweep, number
from tune.trial import FailureKind, Trial, TrialFailure, TrialStatus

S = TrialStatus
NASTY = "</script><script>alert(1)</script><b>&{{css}}"


def make(index: int, params: dict[str, Any], status: TrialStatus = S.TERMINATED, **result: Any) -> Trial:
    trial = Trial(f"t_{index:05d}", index, params, params, f"d{index}", status=status, last_result=result)
    if status.errored:
        trial.failures = [TrialFailure(FailureKind.RAISED, "ValueError", f"bad {NASTY}", f"Traceback\n  {NASTY}")]
    return trial


def some(count: int, seed: int = 0) -> list[Trial]:
    rng = random.Random(seed)
    trials = []
    for index in range(count):
        params = {"lr": 10 ** rng.uniform(-5, -1), "kind": rng.choice(["a", "b"]), "width": rng.randint(1, 9)}
        loss = abs(math.log10(params["lr"]) + 3) + 0.01 * rng.random()
        status = S.ERROR if index % 10 == 9 else S.TERMINATED
        trials.append(make(index, params, status, loss=loss, size=float(params["width"]), training_iteration=3))
    return trials


# what is shown


def test_few_trials_are_all_shown() -> None:
    sweep = make_sweep("s", some(30), "loss", "min")
    assert len(sweep.trials) == sweep.made == 30
    assert sweep.counts == {"TERMINATED": 27, "ERROR": 3}
    assert sweep.parameters == ["lr", "kind", "width"]
    best = sweep.best()
    assert best is not None
    assert best[1] == min(trial.last_result["loss"] for trial in sweep.trials)


def test_of_many_the_best_the_newest_and_the_failed_are_shown() -> None:
    trials = some(1000)
    sweep = make_sweep("s", trials, "loss", "min", shown=100)
    assert len(sweep.trials) == 100
    assert sweep.made == 1000
    shown = {trial.index for trial in sweep.trials}
    assert min(trials, key=lambda trial: trial.last_result["loss"]).index in shown
    assert {999, 998, 989, 979} <= shown
    assert [trial.index for trial in sweep.trials] == sorted(shown)


def test_without_a_metric_the_first_reported_number_is_drawn() -> None:
    sweep = make_sweep("s", [make(0, {}), make(1, {}, training_iteration=1, note="x", score=2)], None, None)
    assert (sweep.metrics, sweep.modes) == (["score"], ["max"])
    assert make_sweep("s", [], None, None).best() is None


def test_numbers() -> None:
    assert number({"a": {"b": 2}}, "a/b") == 2.0
    assert number({"a/b": 3}, "a/b") == 3.0
    assert [as_number(value) for value in (True, math.nan, math.inf, "1", None, 10**400, 2)] == [None] * 6 + [2.0]


# curves


@given(st.integers(1, 3000))
def test_a_curve_is_thinned_and_ends_with_the_newest_point(length: int) -> None:
    store = CurveStore()
    for position in range(1, length + 1):
        store.add("t", position, position / 2)
    x, y = store.curves()["t"]
    assert len(x) <= POINTS + 1
    assert (x[0], x[-1], y[-1]) == (1, length, length / 2)
    steps = {b - a for a, b in itertools.pairwise(x[:-1])}
    assert len(steps) <= 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_ended_trials_the_best_curves_are_kept_and_some_others(sign: float) -> None:
    store = CurveStore(sign)
    order = random.Random(1).sample(range(2000), 2000)
    for index in order:
        store.add(f"t{index}", 1, float(index))
        store.end(f"t{index}")
    kept = store.curves()
    assert len(kept) == BEST_CURVES + OTHER_CURVES
    best = sorted(range(2000), key=lambda index: sign * index)[:BEST_CURVES]
    assert all(f"t{index}" in store for index in best)
    store.end("never seen")


# importance


def test_with_enough_trials_optuna_judges() -> None:
    sweep = make_sweep("s", [trial for trial in some(80) if trial.status is S.TERMINATED], "loss", "min")
    found = importance(sweep, 0, may_import_optuna=True)
    assert found is not None
    assert found.method == "Optuna's PED-ANOVA"
    assert next(iter(found.values)) == "lr"


@pytest.mark.parametrize("mode", ["min", "max"])
def test_with_few_trials_ranks_are_correlated(mode: str) -> None:
    sweep = make_sweep("s", some(ENOUGH_TRIALS - 15), "size", mode)
    found = importance(sweep, 0, may_import_optuna=True)
    assert found is not None
    assert found.method == "rank correlation"
    assert next(iter(found.values)) == "width"
    assert found.values["width"] == pytest.approx(1)


def test_groups_explain_what_they_explain() -> None:
    trials = [make(i, {"kind": "ab"[i % 2], "odd": None, "other": [i % 3]}, loss=float(i % 2)) for i in range(12)]
    found = importance(make_sweep("s", trials, "loss", "min"), 0, may_import_optuna=False)
    assert found is not None
    assert found.values == {"kind": pytest.approx(1), "other": pytest.approx(0)}


def test_parameters_that_some_trials_lack_are_judged_by_those_that_have_them() -> None:
    trials = [make(i, {"a": i, **({"b": i} if i % 2 else {})}, loss=float(i)) for i in range(60)]
    found = importance(make_sweep("s", trials, "loss", "min"), 0, may_import_optuna=True)
    assert found is not None
    assert (found.method, set(found.values)) == ("rank correlation", {"a", "b"})


@pytest.mark.parametrize("trials", [[], some(2), [make(i, {"a": 1}, loss=float(i)) for i in range(9)]])
def test_nothing_to_judge(trials: list[Trial]) -> None:
    assert importance(make_sweep("s", trials, "loss", "min"), 0, may_import_optuna=True) is None


def test_optuna_is_not_loaded_for_a_short_sweep(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from tune.html_report import write_report\n"
        "from tune.trial import Trial, TrialStatus\n"
        "trials = [Trial(str(i), i, {'a': i}, {'a': i}, str(i), status=TrialStatus.TERMINATED,"
        " last_result={'loss': i * 1.0}) for i in range(200)]\n"
        f"write_report({str(tmp_path / 'r.html')!r}, trials, name='s', metric='loss', mode='min',"
        " may_import_optuna=False)\n"
        "print(sorted({'optuna', 'plotly', 'numpy', 'pandas'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# figures


def test_history_shows_the_best_so_far() -> None:
    trials = [make(i, {}, loss=value) for i, value in enumerate([3.0, 4.0, 1.0, 2.0])]
    figure = figures.history(make_sweep("s", trials, "loss", "min"))
    assert figure is not None
    assert figure["data"][1]["y"] == [3.0, 3.0, 1.0, 1.0]
    figure = figures.history(make_sweep("s", trials, "loss", "max"))
    assert figure is not None
    assert figure["data"][1]["y"] == [3.0, 4.0, 4.0, 4.0]


def test_the_best_curves_are_in_colour_and_the_others_one_trace() -> None:
    trials = some(20)
    curves = {trial.trial_id: ([1.0, 2.0], [9.0, trial.last_result["loss"]]) for trial in trials}
    sweep = make_sweep("s", trials, "loss", "min", curves=curves)
    figure = figures.curves(sweep)
    assert figure is not None
    others, *top = figure["data"]
    assert others["name"] == "15 others"
    assert others["x"].count(None) == 15
    best = sweep.best()
    assert best is not None
    assert top[0]["name"] == str(best[0])


def test_axes_are_logarithmic_or_named_where_that_fits() -> None:
    figure = figures.parallel(make_sweep("s", some(30), ["loss", "size"], ["min", "max"]), ["kind"])
    assert figure is not None
    kind, lr, width, loss, _ = figure["data"][0]["dimensions"]
    assert kind["ticktext"] == ["a", "b"]
    assert set(lr["ticktext"]) <= {"1e-05", "0.0001", "0.001", "0.01", "0.1"}
    assert width["values"] == [trial.evaluated_params["width"] for trial in some(30)]
    assert figure["data"][0]["line"]["color"] == loss["values"]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=40))
def test_the_pareto_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    def beaten(position: int) -> bool:
        a, b = points[position]
        return any(c <= a and d <= b and (c, d) != (a, b) for c, d in points)

    floats = [(float(a), float(b)) for a, b in points]
    assert figures.pareto_front(floats) == {position for position in range(len(points)) if not beaten(position)}


def test_figures_of_nothing_are_left_out() -> None:
    empty = make_sweep("s", [make(0, {"a": 1})], "loss", "min")
    assert [figures.history(empty), figures.curves(empty), figures.parallel(empty, []), figures.pareto(empty)] == [
        None
    ] * 4
    assert figures.importances([]) is None


# the page


class Outline(HTMLParser):
    """Tags that open, and the text of each element with an id."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.stack: list[str] = []
        self.unbalanced: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in ("meta", "link", "input", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in ("h1", "h2"):
            self.headings.append(data)


def embedded(text: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match
    data: dict[str, Any] = json.loads(match[1])
    return data


def nasty_trials() -> list[Trial]:
    trials = some(30)
    for trial in trials:
        trial.name = f"{NASTY}{trial.index}"
        trial.evaluated_params = {**trial.evaluated_params, NASTY: NASTY, "none": None, "list": [1, 2]}
    return trials


def test_the_page_is_whole_and_nothing_of_the_users_is_markup(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    curves = {"t_00000": ([1.0, 2.0], [3.0, 4.0])}
    write_report(
        path, nasty_trials(), name=NASTY, metric=["loss", "size"], mode=["min", "max"], curves=curves, notes=[NASTY]
    )
    text = path.read_text()
    assert "alert(1)</script>" not in text.replace(page.plotly_js().read_text(), "")
    outline = Outline()
    outline.feed(text.replace(page.plotly_js().read_text(), ""))
    assert not outline.unbalanced
    assert not outline.stack
    assert outline.tags.count("script") == 3
    assert "b" not in outline.tags
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.headings[0] == NASTY
    for title in ("Optimisation history", "Pareto front", "Learning curves", "Parameter importance", "Trials"):
        assert title in outline.headings
    data = embedded(text)
    assert data["table"]["rows"][0][1] == f"{NASTY}0"
    assert data["table"]["errors"]["9"]["text"] == f"Traceback\n  {NASTY}"
    assert NASTY not in json.dumps({key: data["figures"][key] for key in ("history", "curves", "pareto", "parallel")})
    assert not re.search(r'(?:src|href)="(?!data:|#)', text.replace(page.plotly_js().read_text(), ""))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", [], name="empty", metric=None, mode=None)
    data = embedded((tmp_path / "r.html").read_text())
    assert data["figures"] == {}
    assert data["table"]["rows"] == []


def test_values_that_json_or_plotly_cannot_take(tmp_path: Path) -> None:
    odd = [math.nan, math.inf, object(), 10**400, 2**60, True, b"x", {1, 2}]
    trials = [make(i, {"p": value}, loss=float(i)) for i, value in enumerate(odd)]
    write_report(tmp_path / "r.html", trials, name="odd", metric="loss", mode="min")
    rows = embedded((tmp_path / "r.html").read_text())["table"]["rows"]
    assert [row[4] for row in rows][:2] == ["nan", "inf"]
    assert rows[4][4] == str(2**60)
    assert rows[5][4] == "True"


# the callback


class Clock:
    """A clock that only tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(callback.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def begun(directory: Path, **info: Any) -> HtmlReportCallback:
    report = HtmlReportCallback(pause=5)
    report.setup(experiment_path=str(directory), experiment_name="s", metric="loss", mode="min", **info)
    return report


def test_the_page_is_refreshed_now_and_then_and_finished(tmp_path: Path, clock: Clock) -> None:
    report, trials = begun(tmp_path), some(10)
    path = tmp_path / "report.html"
    report.on_step_end(0, trials[:5])
    assert not path.exists()
    clock.now += 5
    report.on_step_end(1, trials[:5])
    data = embedded(path.read_text())
    assert data["running"] is True
    assert len(data["table"]["rows"]) == 5
    report.on_step_end(2, trials)
    assert len(embedded(path.read_text())["table"]["rows"]) == 5
    report.on_experiment_end(trials)
    data = embedded(path.read_text())
    assert data["running"] is False
    assert len(data["table"]["rows"]) == 10


def test_pages_that_cost_much_are_far_apart(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def write_slowly(*args: Any, **kwargs: Any) -> None:
        written.append(clock.now)
        clock.now += 1.0

    monkeypatch.setattr(callback, "write_page", write_slowly)
    report = begun(tmp_path)
    while clock.now < 1100:
        report.on_step_end(0, [])
        clock.now += 0.5
    assert len(written) * 1.0 <= callback.COST_PART * 1000 + 1
    assert len(written) >= 15


def test_curves_are_collected(tmp_path: Path) -> None:
    report, trials = begun(tmp_path), some(3)
    for trial in trials:
        for iteration, loss in enumerate([3.0, "broken", math.nan, 1], start=1):
            report.on_trial_result(0, trials, trial, {"training_iteration": iteration, "loss": loss})
    report.on_trial_complete(0, trials, trials[0])
    report.on_trial_error(0, trials, trials[1])
    report.on_experiment_end(trials)
    curve = embedded((tmp_path / "report.html").read_text())["figures"]["curves"]["data"][0]
    assert (curve["x"], curve["y"]) == ([1.0, 4.0], [3.0, 1.0])


def test_a_resumed_sweep_has_the_curves_of_before(tmp_path: Path) -> None:
    trials = some(3)
    for trial in trials:
        trial.iteration = 2
    results = [{"training_iteration": 1, "loss": 2.0}, {"training_iteration": 2, "loss": 1.0}]
    report = begun(tmp_path, resumed=True, recorded=lambda _: results)
    report.on_step_begin(0, trials)
    report.on_step_begin(1, trials)
    report.on_experiment_end(trials)
    drawn = embedded((tmp_path / "report.html").read_text())["figures"]["curves"]["data"]
    assert [curve["y"] for curve in drawn] == [[2.0, 1.0]] * 3
