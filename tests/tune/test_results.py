"""`ExperimentAnalysis`, `ResultGrid` and `Result`: of a run, and of its directory afterwards."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

import tune
from tune.backend.simulator import SimulatorBackend
from tune.backend.table import TabularBenchmark
from tune.errors import ExperimentNotFoundError

#: learning curves by configuration, chosen so that each scope has another winner
CURVES = {
    0.0: [5.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 4.0],  # best last: 4
    1.0: [0.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0],  # best of all: 0
    2.0: [5.0] * 12,  # best mean: 5
    3.0: [20.0] * 7 + [4.5] * 5,  # best of the last five: 4.5
    4.0: [40.0] * 2 + [4.9] * 10,  # best of the last ten: 4.9
    5.0: [math.nan] * 12,
}


def nothing(config):
    """Lends its name."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    place = tmp_path_factory.mktemp("results")
    table = TabularBenchmark({"x": list(CURVES)}, {"loss": list(CURVES.values())}, [1.0] * len(CURVES))
    tune.run(
        nothing,
        config={"x": tune.grid_search(list(CURVES)), "deep": {"fixed": 1}},
        backend=SimulatorBackend(table),
        storage_path=place,
        name="exp",
        verbose=0,
        seed=1,
    )
    return place / "exp"


@pytest.fixture
def analysis(directory):
    return tune.ExperimentAnalysis(directory, default_metric="loss", default_mode="min")


@pytest.fixture
def grid(directory):
    return tune.Tuner.restore(directory, nothing).get_results()


def test_trials_and_where_they_are(analysis, directory):
    assert [trial.config["x"] for trial in analysis.trials] == list(CURVES)
    assert analysis.experiment_path == str(directory)
    assert analysis.state == "complete"
    assert (analysis.metric, analysis.mode) == (None, None)


@pytest.mark.parametrize(
    ("scope", "winner"), [("last", 0.0), ("all", 1.0), ("avg", 2.0), ("last-5-avg", 3.0), ("last-10-avg", 4.0)]
)
def test_each_scope_has_its_winner(analysis, grid, scope, winner):
    assert analysis.get_best_trial(scope=scope).config["x"] == winner
    assert analysis.get_best_config(scope=scope)["x"] == winner
    assert grid.get_best_result("loss", "min", scope=scope).config["x"] == winner


def test_nan_is_never_the_best_unless_asked_for(analysis, grid):
    assert analysis.get_best_trial("loss", "max").config["x"] == 1.0
    assert grid.get_best_result("loss", "max", filter_nan_and_inf=False).config["x"] == 1.0
    table = TabularBenchmark({"x": [0.0, 1.0]}, {"loss": [[math.nan], [math.inf]]}, [1.0, 1.0])
    only_bad = run_table(table, grid)
    assert only_bad.get_best_trial("loss", "max") is None
    assert only_bad.get_best_trial("loss", "max", filter_nan_and_inf=False).config["x"] == 1.0


def run_table(table, grid):
    return tune.run(
        nothing,
        config={"x": tune.grid_search([0.0, 1.0])},
        backend=SimulatorBackend(table),
        storage_path=Path(grid.experiment_path).parent,
        name="bad",
        verbose=0,
    )


def test_best_of_the_sweeps_own_metric(analysis):
    assert analysis.best_config == {"x": 0.0, "deep": {"fixed": 1}}
    assert analysis.best_result["loss"] == 4.0
    assert analysis.best_result["config"] == analysis.best_config
    assert analysis.best_result["trial_id"] == analysis.best_trial.trial_id
    assert analysis.best_result["done"] is True
    assert analysis.best_checkpoint is None
    assert analysis.get_last_checkpoint() is None
    assert list(analysis.best_dataframe["loss"]) == CURVES[0.0]
    assert analysis.best_result_df.index[0] == analysis.best_trial.trial_id


def test_tables(analysis):
    assert len(analysis.results) == len(analysis.results_df) == len(CURVES)
    assert analysis.results_df["config/deep/fixed"].tolist() == [1] * len(CURVES)
    frames = analysis.trial_dataframes
    assert list(frames[analysis.trials[2].trial_id]["loss"]) == CURVES[2.0]
    assert list(frames[analysis.trials[2].trial_id]["training_iteration"]) == list(range(1, 13))
    last = analysis.dataframe()
    assert last["loss"].tolist()[:2] == [4.0, 9.0]
    assert last["config/x"].tolist() == list(CURVES)
    best = analysis.dataframe("loss", "min")
    assert best["loss"].tolist()[:2] == [1.0, 0.0]
    assert best["logdir"].tolist()[0] == analysis.result_of(analysis.trials[0]).path


def test_configs_and_figures(analysis):
    first = analysis.trials[0].trial_id
    assert analysis.get_all_configs()[first] == {"x": 0.0, "deep": {"fixed": 1}}
    assert analysis.get_all_configs(prefix=True)[first] == {"config/x": 0.0, "config/deep/fixed": 1}
    stats = analysis.stats()
    assert stats["num_trials"] == 6
    assert stats["num_results"] == 72
    assert stats["status"] == {"TERMINATED": 6}


def test_a_grid_is_a_sequence_of_results(grid):
    assert len(grid) == len(list(grid)) == 6
    assert (grid.num_terminated, grid.num_errors, grid.errors) == (6, 0, [])
    assert grid[1].config["x"] == 1.0
    assert "6 trials" in repr(grid)
    assert grid.filesystem.exists(grid.experiment_path)
    assert len(grid.get_dataframe()) == 6
    assert grid.get_dataframe(filter_metric="loss", filter_mode="min")["loss"].tolist()[1] == 0.0


def test_a_result(grid):
    result = grid[0]
    assert result.metrics["loss"] == 4.0
    assert result.metrics["training_iteration"] == 12
    assert result.status == "TERMINATED"
    assert [row["loss"] for row in result.metrics_history] == CURVES[0.0]
    assert list(result.metrics_dataframe["loss"]) == CURVES[0.0]
    assert result.error is None
    assert result.checkpoint is None
    assert result.best_checkpoints == []
    assert result.get_best_checkpoint("loss", "min") is None
    assert result.filesystem.exists(result.path)
    assert "loss" in repr(result)
    again = tune.Result.from_path(result.path)
    assert again.metrics == result.metrics
    assert again.trial_id == result.trial_id
    with pytest.raises(ExperimentNotFoundError, match="nowhere"):
        tune.Result.from_path(Path(result.path).parent / "nowhere")


def misspelt(analysis):
    return tune.ExperimentAnalysis(analysis.experiment_path, default_metric="los", default_mode="min")


@pytest.mark.parametrize(
    ("ask", "say"),
    [
        (lambda a: a.get_best_trial("loss", "minimum"), "mode must be one of"),
        (lambda a: a.get_best_trial("loss", "min", "first"), "scope must be one of"),
        (lambda a: a.dataframe(mode="min"), "needs a metric"),
        (lambda a: a.dataframe("loss", "best"), "mode must be one of"),
        (lambda a: tune.ExperimentAnalysis(a.experiment_path, default_mode="x"), "default_mode"),
        (lambda a: tune.ExperimentAnalysis(a.experiment_path).best_trial, "which metric"),
        (lambda a: tune.ExperimentAnalysis(a.experiment_path, default_metric="loss").best_trial, "which mode"),
        (
            lambda a: tune.ExperimentAnalysis(a.experiment_path, default_metric="los", default_mode="min").best_trial,
            "loss",
        ),
    ],
)
def test_what_cannot_be_answered(analysis, ask, say):
    with pytest.raises(ValueError, match=say):
        ask(analysis)


def test_no_experiment(tmp_path):
    with pytest.raises(ExperimentNotFoundError):
        tune.ExperimentAnalysis(tmp_path / "nowhere")
    with pytest.raises(ExperimentNotFoundError):
        tune.ExperimentAnalysis(tmp_path).trials  # noqa: B018


def test_a_grid_without_the_metric(grid):
    with pytest.raises(RuntimeError, match="accuracy"):
        grid.get_best_result("accuracy", "max")


WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None
import tune
analysis = tune.ExperimentAnalysis(sys.argv[1], default_metric="loss", default_mode="min")
assert analysis.best_config["x"] == 0.0
assert analysis.get_best_trial(scope="all").config["x"] == 1.0
assert len(analysis.result_of(analysis.best_trial).metrics_history) == 12
try:
    analysis.dataframe()
except ImportError as error:
    assert "pip install 'skate-tune[pandas]'" in str(error), error
else:
    raise AssertionError
"""


def test_without_pandas_all_but_tables_works(directory):
    subprocess.run([sys.executable, "-c", WITHOUT_PANDAS, directory], check=True)


def test_results_of_an_interrupted_experiment_that_was_moved(directory, tmp_path):
    import shutil

    shutil.copytree(directory, tmp_path / "moved")
    for snapshot in (tmp_path / "moved").glob("snapshot.pkl"):
        snapshot.unlink()
    moved = tune.ExperimentAnalysis(tmp_path / "moved", default_metric="loss", default_mode="min")
    assert moved.best_config["x"] == 0.0
    assert moved.result_of(moved.best_trial).path.startswith(str(tmp_path / "moved"))
    assert Path(moved.best_trial.local_path).is_dir()
