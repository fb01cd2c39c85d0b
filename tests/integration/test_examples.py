"""Every example runs as a reader would run it, in a process of its own; the fleet's numbers are checked beside."""

from __future__ import annotations

import ast
import csv
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ARTICLE = sorted((EXAMPLES / "article").glob("*.py"))
FLEET = EXAMPLES / "forecast_fleet.py"
#: Seconds an example may take; the longest takes about twenty on two idle cores.
LIMIT = 110

FLEET_NEEDS = ("statsforecast", "sklearn", "matplotlib", "pyarrow", "joblib", "threadpoolctl")
MISSING = [name for name in FLEET_NEEDS if importlib.util.find_spec(name) is None]
needs_fleet = pytest.mark.skipif(bool(MISSING), reason=f"examples/requirements.txt is not installed: {MISSING}")


@pytest.fixture(autouse=True)
def _examples_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(script: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


# --- the article ------------------------------------------------------------------------------------------------------


def test_the_article_has_its_eight_programs() -> None:
    assert [script.stem for script in ARTICLE] == [
        "actor_counters",
        "map_reduce",
        "parallel_tasks",
        "put_and_get",
        "task_dependencies",
        "tiny_tasks",
        "train_pytorch_models",
        "wait_incremental",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("script", ARTICLE, ids=lambda script: script.stem)
def test_a_program_of_the_article_runs(script: Path, tmp_path: Path) -> None:
    if script.stem == "train_pytorch_models" and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is optional and not installed")
    done = run(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout  # every one prints what it found


# --- the fleet, whole -------------------------------------------------------------------------------------------------


def read_parquet(path: Path) -> dict[str, list[object]]:
    import pyarrow.parquet

    columns: dict[str, list[object]] = pyarrow.parquet.read_table(path).to_pydict()
    return columns


def write_panel(path: Path, series: dict[str, np.ndarray]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    lengths = [values.size for values in series.values()]
    months = [np.datetime64("1990-01") + np.arange(length) for length in lengths]
    table = pa.table(
        {
            "series_id": np.repeat(list(series), lengths),
            "title": np.repeat(list(series), lengths),
            "month": np.concatenate(months).astype("datetime64[D]"),
            "value": np.concatenate(list(series.values())),
        }
    )
    pyarrow.parquet.write_table(table, path)
    return path


def seasonal_series(months: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(months)
    return 1000 + time + 50 * np.sin(2 * np.pi * time / 12) + rng.normal(0, 5, months)


@needs_fleet
@pytest.mark.slow
def test_the_fleet_forecasts_real_series(tmp_path: Path) -> None:
    done = run(FLEET, "--series", 4, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "4 series x 6 models x 4 origins = 96 fits" in done.stdout
    assert "best per series" in done.stdout
    assert "measured on all fits" in done.stdout  # so few series are not worth a sample
    assert "Speed-up" in done.stdout
    assert "failed" not in done.stdout

    out = tmp_path / "out"
    rows = read_parquet(out / "forecasts.parquet")
    assert len(set(rows["series_id"])) == 4
    assert len(rows["forecast"]) == 4 * 12
    bounds = [np.array(rows[name]) for name in ("lower_95", "lower_80", "forecast", "upper_80", "upper_95")]
    assert all((lower <= higher).all() for lower, higher in itertools.pairwise(bounds))
    with (out / "forecasts.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 * 12
    with (out / "leaderboard.csv").open(encoding="utf-8") as file:
        board = {row["model"]: row for row in csv.DictReader(file)}
    assert len(board) == 6
    assert sum(int(row["series_won"]) for row in board.values()) == 4
    for name in ("forecasts.png", "accuracy.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert all(model in page for model in board)


@needs_fleet
@pytest.mark.filterwarnings("default")
def test_the_model_store_gives_the_forecasts_again(tmp_path: Path) -> None:
    done = run(FLEET, "--series", 2, "--models", "AutoCES", "Ridge", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    import joblib

    rows = read_parquet(tmp_path / "out" / "forecasts.parquet")
    store = tmp_path / "out" / "models"
    index = json.loads((store / "index.json").read_text(encoding="utf-8"))
    assert set(index) == set(rows["series_id"])
    for series_id, entry in index.items():
        expected = [value for name, value in zip(rows["series_id"], rows["forecast"], strict=True) if name == series_id]
        assert joblib.load(store / entry["file"]).forecast(12) == pytest.approx(expected)


@needs_fleet
def test_a_series_that_cannot_be_fitted_is_reported_and_ends_nothing(tmp_path: Path) -> None:
    series = {"good-1": seasonal_series(150, 1), "good-2": seasonal_series(150, 2), "short": seasonal_series(40, 3)}
    data = write_panel(tmp_path / "panel.parquet", series)
    done = run(FLEET, "--data", data, "--models", "Ridge", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "fits of 1 series failed" in done.stdout
    assert "short: " in done.stdout
    assert "months are too few" in done.stdout
    assert set(read_parquet(tmp_path / "out" / "forecasts.parquet")["series_id"]) == {"good-1", "good-2"}


@needs_fleet
def test_when_no_series_can_be_forecast_the_status_says_so(tmp_path: Path) -> None:
    data = write_panel(tmp_path / "panel.parquet", {"short": seasonal_series(20, 1)})
    done = run(FLEET, "--data", data, "--models", "Ridge", "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no series could be forecast" in done.stderr


@needs_fleet
def test_quiet_is_quiet(tmp_path: Path) -> None:
    done = run(FLEET, "--series", 1, "--models", "Ridge", "--quiet", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == ""
    assert (tmp_path / "out" / "report.html").exists()


@needs_fleet
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--series", "0"], "--series must be at least 1"),
        (["--origins", "1"], "--origins must be at least 2"),
        (["--models", "Prophet"], "invalid choice: 'Prophet'"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(FLEET, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


@needs_fleet
def test_a_panel_with_a_gap_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet

    data = write_panel(tmp_path / "panel.parquet", {"a": seasonal_series(60, 1)})
    table = pyarrow.parquet.read_table(data)
    pyarrow.parquet.write_table(table.take([*range(30), *range(31, 60)]), data)
    done = run(FLEET, "--data", data, cwd=tmp_path)
    assert done.returncode == 2
    assert "series a goes from 1992-06 to 1992-08" in done.stderr


@needs_fleet
def test_ctrl_c_ends_the_fleet_cleanly(tmp_path: Path) -> None:
    """Interrupted after its first progress line; that no process is left is what the leak check sees."""
    with subprocess.Popen(
        [sys.executable, FLEET, "--series", "20", "--out", tmp_path / "out"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as fleet:
        assert fleet.stdout is not None
        shown = ""
        while " fits " not in shown.partition("= 480 fits")[2]:
            line = fleet.stdout.readline()
            assert line, fleet.communicate()[1][-4000:]
            shown += line
        os.killpg(fleet.pid, signal.SIGINT)  # as a terminal does: to every process in the foreground
        _, errors = fleet.communicate(timeout=LIMIT)
    assert fleet.returncode == 130, errors[-4000:]
    assert errors.strip() == "interrupted"


# --- the fleet, in parts ----------------------------------------------------------------------------------------------


@needs_fleet
@pytest.mark.filterwarnings("default")
def test_mase_and_smape_agree_with_utilsforecast() -> None:
    import pandas as pd
    from fleet.scoring import mase, seasonal_scale, smape
    from utilsforecast import losses

    values = seasonal_series(120, 4)
    history, actual = values[:108], values[108:]
    forecast = history[-12:]
    data = pd.DataFrame({"unique_id": "a", "ds": range(108, 120), "y": actual, "model": forecast})
    past = pd.DataFrame({"unique_id": "a", "ds": range(108), "y": history})
    scale = seasonal_scale(history)
    assert mase(actual, forecast, scale) == pytest.approx(losses.mase(data, ["model"], 12, past)["model"].item())
    # theirs is a share of 1, M4's (and ours) goes to 200
    assert smape(actual, forecast) == pytest.approx(200 * losses.smape(data, ["model"])["model"].item())


@needs_fleet
def test_the_scale_of_a_repeating_or_short_history_is_refused() -> None:
    from fleet.scoring import seasonal_scale

    with pytest.raises(ValueError, match="repeats itself"):
        seasonal_scale(np.tile(np.arange(12.0), 3))
    with pytest.raises(ValueError, match="too few"):
        seasonal_scale(np.arange(12.0))


@needs_fleet
def test_conformal_bands_hold_what_they_promise() -> None:
    """Errors that grow with the step and share a level within an origin, on 200 series of different spread."""
    from fleet.scoring import conformal_bands

    rng = np.random.default_rng(0)
    spread = rng.lognormal(0, 1, size=(200, 1, 1))
    level = rng.lognormal(0, 0.5, size=(200, 5, 1))
    errors = np.abs(rng.normal(0, 1, size=(200, 5, 12))) * spread * level * np.sqrt(np.arange(1, 13))
    bands = conformal_bands({str(index): list(errors[index, :4]) for index in range(200)})
    for promised in (80, 95):
        widths = np.stack([bands.half_width(str(index), promised, 1.0) for index in range(200)])
        assert np.mean(errors[:, 4] <= widths) == pytest.approx(promised / 100, abs=0.04)


@needs_fleet
def test_the_leaderboard_counts_a_fit_once_and_chooses_without_the_holdout() -> None:
    from fleet.leaderboard import Fit, Leaderboard, Score

    board = Leaderboard(holdout_origin=2)
    scores = {"steady": (0.5, 0.5, 9.0), "lucky": (0.9, 0.9, 0.1), "fails": (0.1, 0.1)}
    for model, values in scores.items():
        for origin, value in enumerate(values):
            for _ in range(2):  # a task that was retried reports twice
                board.report([Score(Fit(0, model, origin), value, value, 0.01)])
    assert {row.model: row.fits for row in board.standings()} == {"steady": 3, "lucky": 3, "fails": 2}
    assert board.winners() == {0: "steady"}


@needs_fleet
def test_the_extract_is_what_its_readme_says(tmp_path: Path) -> None:
    from fleet.panel import read_panel

    panel = read_panel(EXAMPLES / "data" / "us_employment.parquet")
    lengths = np.diff(panel.offsets)
    assert len(panel) == 148
    assert (lengths.min(), lengths.max(), lengths.sum()) == (225, 969, 72_339)
    assert (panel.values > 0).all()
    air = panel.ids.index("CEU4348100001")
    assert panel.titles[air] == "Transportation and Warehousing: Air Transportation"

    source = tmp_path / "long.csv"
    source.write_text(
        "unique_id,ds,y,Title\nb,2000-02-01,2.5,B\nb,2000-01-01,1.5,B\na,2000-01-01,,A\na,2000-02-01,7,A\n"
    )
    done = run(EXAMPLES / "data" / "make_extract.py", source, "--out", tmp_path / "small.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    small = read_panel(tmp_path / "small.parquet")
    assert small.ids == ("a", "b")
    assert small.series(1).tolist() == [1.5, 2.5]
    assert small.months(0, start=0, count=2).tolist() == [
        np.datetime64("2000-02").item(),
        np.datetime64("2000-03").item(),
    ]


# --- the page for Ray's users -----------------------------------------------------------------------------------------


def test_coming_from_ray_lists_every_deliberate_difference() -> None:
    page = (ROOT / "docs" / "coming-from-ray.md").read_text(encoding="utf-8").replace("`", "")
    reasons = set()
    for module in (ROOT / "tests" / "conformance").glob("test_*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "better_than_ray":
                reasons.add(ast.literal_eval(node.args[0]))
    assert reasons
    missing = {reason for reason in reasons if f"* {reason.replace('`', '')}\n" not in page}
    assert not missing, "list these under Deliberate differences in docs/coming-from-ray.md"
