"""Progress reporters: what is shown, when, and that nothing users wrote can break it."""

from __future__ import annotations

import io
import itertools
import math
import sys
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.progress import CLIReporter, JupyterNotebookReporter, ProgressCallback, ProgressReporter, wording
from tune.progress.plain_text import as_text
from tune.progress.summary import number_of, summarize, value_of
from tune.progress.tables import error_table, inferred_metrics, trial_table
from tune.trial import FailureKind, ResourceRequest, Trial, TrialFailure, TrialStatus

S = TrialStatus


class Terminal(io.StringIO):
    """A terminal of 100 columns."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("TERM", "xterm")


def make(index: int, status: TrialStatus = S.TERMINATED, **result: Any) -> Trial:
    config = {"lr": index / 10}
    trial = Trial(f"t_{index:05d}", index, config, config, f"d{index}", name=f"run_{index:05d}", status=status)
    trial.last_result = result
    if status.errored:
        trial.failures = [TrialFailure(FailureKind.RAISED, "ValueError", f"bad [bold]\nlr {index}", "Traceback ...")]
    return trial


def some(count: int) -> list[Trial]:
    statuses = itertools.cycle([S.TERMINATED, S.TERMINATED, S.RUNNING, S.ERROR, S.PENDING])
    return [
        make(index, status, loss=1.0 / (index + 1), training_iteration=index)
        if status != S.PENDING
        else make(index, status)
        for index, status in zip(range(count), statuses, strict=False)
    ]


# the summary


def test_a_summary_counts_and_finds_the_best() -> None:
    trials = [*some(10), make(10, loss=math.nan), make(11, loss="x"), make(12, S.RUNNING, loss=-5.0)]
    trials[-1].resources = ResourceRequest(({"CPU": 2.0}, {"GPU": 0.5}))
    summary = summarize(trials, metric="loss", mode="min", total=20, elapsed_s=60, ended_before=2)
    assert summary.counts == {S.RUNNING: 3, S.PENDING: 2, S.TERMINATED: 6, S.ERROR: 2}
    assert (summary.made, summary.finished, summary.errors, summary.ended) == (13, 8, 2, 6)
    assert summary.best is trials[-1]
    assert summary.rate == pytest.approx(0.1)
    assert summary.eta_s == pytest.approx(120)
    assert summary.used == {"CPU": 4.0, "GPU": 0.5}
    assert summarize(trials, metric="loss", mode="max", total=None, elapsed_s=0).best is trials[0]


def test_an_unknown_total_has_no_eta() -> None:
    summary = summarize(some(10), metric=None, mode=None, total=None, elapsed_s=60)
    assert (summary.eta_s, summary.best) == (None, None)


def test_values_of_nested_results() -> None:
    result = {"a": {"b": 1}, "c/d": 2, "e": "text"}
    assert (value_of(result, "a/b"), value_of(result, "c/d"), value_of(result, "a/b/c")) == (1, 2, None)
    assert (number_of(result, "a/b"), number_of(result, "e"), number_of(result, "x")) == (1, None, None)


# words


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (11220, "3:07:00")])
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(12.3, "12.3 trials/s"), (0.05, "3 trials/min"), (0.001, "3.6 trials/h"), (0, "0 trials/h")]
)
def test_rates(rate: float, text: str) -> None:
    assert wording.rate(rate) == text


@given(st.text(), st.integers(3, 30))
def test_a_cell_is_one_line_of_at_most_its_width(text: str, width: int) -> None:
    shown = wording.cell(text, width)
    assert len(shown) <= width
    assert len(shown.splitlines()) <= 1


def test_a_cell_is_cut_in_the_middle() -> None:
    assert wording.cell("abcdefghij", 5) == "ab…ij"
    assert wording.cell(0.123456789, 20) == "0.123457"


def test_one_line_says_it_all() -> None:
    summary = summarize(some(10), metric="loss", mode="min", total=20, elapsed_s=60)
    assert wording.one_line(summary, "loss") == (
        "1:00  6/20 trials (2 running, 2 pending, 4 terminated, 2 error) | best loss=0.111111 (run_00008: lr=0.8) | "
        "6 trials/min | about 2:20 left"
    )


def test_resources() -> None:
    assert (
        wording.resources({"CPU": 2, "rockets": 1}, {"CPU": 4, "GPU": 1, "memory": 5}) == "2/4 CPU, 0/1 GPU, 1 rockets"
    )


# tables


def table(trials: list[Trial], **options: Any) -> Any:
    defaults: dict[str, Any] = {"metrics": {"loss": "loss"}, "parameters": {"lr": "rate"}, "max_rows": 20, "width": 20}
    return trial_table(trials, **{**defaults, **options})


def test_running_trials_come_first_and_the_newest_of_the_others() -> None:
    shown = table(some(40), max_rows=10)
    assert [row[1] for row in shown.rows] == ["RUNNING"] * 8 + ["PENDING"] * 2
    assert [row[0] for row in shown.rows][-2:] == ["run_00034", "run_00039"]
    assert shown.note == "... 30 more trials not shown (6 PENDING, 16 TERMINATED, 8 ERROR)"
    assert shown.titles == ["trial", "status", "rate", "loss"]


@pytest.mark.parametrize(("mode", "first"), [("min", "run_00038"), ("max", "run_00000")])
def test_sorted_by_metric_the_best_come_first(mode: str, first: str) -> None:
    shown = table(some(40), max_rows=3, sort_by=("loss", mode))
    assert shown.rows[0][0] == first


def test_columns_that_nobody_has_are_left_out() -> None:
    assert table(some(5), metrics={"loss": "loss", "other": "o"}).titles == ["trial", "status", "rate", "loss"]


def test_metrics_are_inferred_from_what_is_reported() -> None:
    trials = [make(0), make(1, training_iteration=1, a=1, text="no", b=2.5, c=3, d=4)]
    assert inferred_metrics(trials, 3) == ["a", "b", "c"]


def test_errors_are_listed_newest_last() -> None:
    shown = error_table(some(40), max_rows=2, width=20)
    assert shown is not None
    assert [row[0] for row in shown.rows] == ["run_00033", "run_00038"]
    assert shown.rows[1][3] == "ValueError: bad [bold] lr 38"
    assert shown.note == "... 6 earlier ones not shown"
    assert error_table([make(0)], 2, 20) is None


def test_plain_tables_are_aligned() -> None:
    text = as_text(table([make(1, loss=0.5), make(10, S.RUNNING, loss=12.25)]))
    assert text.splitlines() == [
        "trial      status      rate   loss",
        "---------  ----------  ----  -----",
        "run_00010  RUNNING        1  12.25",
        "run_00001  TERMINATED   0.1    0.5",
    ]


# reporters


def test_lines_come_seldom_and_tables_at_the_end() -> None:
    out = io.StringIO()
    reporter = CLIReporter(file=out, metric="loss", mode="min", max_report_frequency=1000)
    reporter.setup(total_samples=10)
    trials = some(10)
    assert not reporter.should_report(trials)
    reporter.report(trials, False, "2/4 CPU")
    assert len(out.getvalue().splitlines()) == 1
    assert reporter.should_report(trials, done=True)
    reporter.report(trials, True, "2/4 CPU")
    reporter.close()
    text = out.getvalue()
    assert "run_00002  RUNNING" in text
    assert "ValueError: bad [bold] lr 3" in text
    assert "\x1b" not in text


def test_intermediate_tables_on_request() -> None:
    out = io.StringIO()
    reporter = CLIReporter(file=out, max_report_frequency=0, print_intermediate_tables=True)
    reporter.setup()
    assert reporter.should_report(some(5))
    reporter.report(some(5), False)
    assert "run_00002  RUNNING" in out.getvalue()


def test_columns_are_the_users() -> None:
    out = io.StringIO()
    reporter = CLIReporter(file=out, metric_columns={"loss": "L"}, parameter_columns=[])
    reporter.add_metric_column("training_iteration", "step")
    reporter.add_parameter_column("lr", "rate")
    with pytest.raises(ValueError, match="already"):
        reporter.add_metric_column("loss")
    reporter.setup()
    reporter.report(some(3), True)
    assert "trial      status      rate         L  step" in out.getvalue()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "best"}, 'mode must be "min" or "max"'),
        ({"max_progress_rows": 0}, "max_progress_rows must be at least 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLIReporter(**options)


def test_a_terminal_gets_a_live_table() -> None:
    screen = Terminal()
    reporter = CLIReporter(file=screen, metric="loss", mode="min")
    reporter.setup(total_samples=50)
    trials = some(40)
    assert reporter.should_report(trials)
    reporter.report(trials, False, "2/4 CPU")
    assert not reporter.should_report(trials)
    reporter.say("a [bold]line[/bold] of somebody's")
    reporter.report(trials, True)
    reporter.close()
    text = screen.getvalue()
    for expected in (
        "24/50 trials",
        "best",
        "loss=0.025641",
        "2/4 CPU",
        "run_00037",
        "bad [bold] lr 38",
        "of somebody's",
    ):
        assert expected in text
    assert "a [bold]line[/bold]" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is given back


def test_a_small_terminal_gets_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "14")
    screen = Terminal()
    reporter = CLIReporter(file=screen)
    reporter.setup(total_samples=50)
    reporter.report(some(40), False)
    lines = screen.getvalue().count("\n")
    reporter.close()
    assert lines < 14


def test_a_log_that_is_not_utf8_is_no_obstacle() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    reporter = CLIReporter(file=out)
    reporter.setup()
    trial = make(0, loss=1)
    trial.name = "größe"
    reporter.report([trial], True)
    assert b"gr??e" in raw.getvalue()


def test_a_resumed_sweep_is_not_praised_for_what_was_done_before() -> None:
    reporter = CLIReporter(file=io.StringIO())
    reporter.setup(start_time=1000.0)
    trials = some(10)
    for trial in trials:
        trial.end_time = 999.0
    assert reporter.summary(trials).ended == 0
    trials[2].status = S.TERMINATED
    assert reporter.summary(trials).ended == 1


def test_notebooks_get_escaped_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, what: Any) -> None:
            shown.append(("again", what._repr_html_()))

    def display(what: Any, display_id: bool) -> Handle:
        shown.append(("new", what._repr_html_()))
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    reporter = JupyterNotebookReporter(metric="loss", mode="min")
    reporter.setup()
    trial = make(0, loss=1.0)
    trial.name = "<script>alert(1)</script>"
    reporter.report([trial], False, "<i>")
    reporter.report([trial], True)
    assert [kind for kind, _ in shown] == ["new", "again"]
    assert "<script>" not in shown[0][1]
    assert "&lt;script&gt;" in shown[0][1]
    assert "&lt;i&gt;" in shown[0][1]


def test_without_ipython_the_notebook_reporter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match="use CLIReporter"):
        JupyterNotebookReporter()


# the callback


class Recorder(ProgressReporter):
    """A reporter of a user's."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def setup(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("setup", kwargs["total_samples"], kwargs["metric"], kwargs["mode"]))

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return True

    def report(self, trials: Any, done: bool, *sys_info: str) -> None:
        self.calls.append(("report", len(trials), done, sys_info))

    def close(self) -> None:
        self.calls.append("close")


def drive(callback: ProgressCallback, trials: list[Trial]) -> None:
    callback.setup(total_num_samples=7, metric=["loss", "size"], mode=["min", "max"], scheduler="ASHA")
    callback.on_step_end(0, trials)
    callback.on_experiment_end(trials)


def test_a_users_reporter_is_driven() -> None:
    recorder = Recorder()
    drive(ProgressCallback(recorder), some(5))
    assert recorder.calls == [
        ("setup", 7, "loss", "min"),
        ("report", 5, False, ("1 CPU", "ASHA")),
        ("report", 5, True, ("1 CPU", "ASHA")),
        "close",
    ]


def test_verbose_0_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    callback = ProgressCallback(verbose=0)
    drive(callback, some(5))
    callback.on_trial_error(0, [], some(5)[3])
    callback.on_trial_result(0, [], make(0), {"loss": 1})
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("verbose", "lines"), [(1, 0), (2, 2), (3, 4)])
def test_verbose_adds_lines(verbose: int, lines: int) -> None:
    out = io.StringIO()
    callback = ProgressCallback(CLIReporter(file=out), verbose=verbose)
    callback.setup()
    failed = some(5)[3]
    callback.on_trial_result(0, [], make(0), {"loss": 1, "training_iteration": 2})
    callback.on_trial_complete(0, [], make(0))
    callback.on_trial_recover(0, [], failed)
    callback.on_trial_error(0, [], failed)
    assert len(out.getvalue().splitlines()) == lines


def test_a_flood_of_results_is_counted_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("tune.progress.callback.time.monotonic", lambda: now[0])
    out = io.StringIO()
    callback = ProgressCallback(CLIReporter(file=out), verbose=3)
    callback.setup()
    for index in range(100):
        callback.on_trial_result(0, [], make(0), {"loss": index})
    now[0] = 6.5
    callback.on_trial_result(0, [], make(0), {"loss": 100})
    assert len(out.getvalue().splitlines()) == 12
    assert "... and 90 more results" in out.getvalue()
