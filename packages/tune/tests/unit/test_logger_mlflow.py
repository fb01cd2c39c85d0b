"""MLflow's logger against a real store of MLflow's, in a SQLite file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tune.integration.mlflow import MLflowLoggerCallback
from tune.trial import Trial, TrialStatus

#: MLflow's own affairs with newer releases of what it stands on
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:alembic"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with no experiments of ours in it: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'store.db')}"


def make_trial(index: int = 0) -> Trial:
    config = {"lr": 0.1, "model": {"width": 3}, "odd name!": "x"}
    return Trial(f"t_{index:05d}", index, config, config, f"d{index}", name=f"run_{index}", attempts=1)


def result(iteration: int, **metrics: Any) -> dict[str, Any]:
    return {"training_iteration": iteration, "timestamp": 1_791_000_000 + iteration, **metrics}


def begun(uri: str, directory: Path, *, info: dict[str, Any] | None = None, **options: Any) -> MLflowLoggerCallback:
    logger = MLflowLoggerCallback(uri, **options)
    logger.setup(experiment_path=str(directory), experiment_name="sweep", **(info or {}))
    return logger


def runs(uri: str, experiment: str = "sweep") -> list[Any]:
    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def test_a_trial_is_a_run(uri: str, tmp_path: Path) -> None:
    logger, trial, other = begun(uri, tmp_path, tags={"team": 7}), make_trial(), make_trial(1)
    for each in (trial, other):
        logger.on_trial_start(0, [], each)
    for iteration in range(1, 6):
        logger.on_trial_result(
            0, [], trial, result(iteration, loss=1 / iteration, note="text", nested={"a": iteration})
        )
    logger.on_step_end(0, [])
    logger.on_trial_complete(0, [], trial)
    logger.on_trial_error(0, [], other)
    logger.on_experiment_end([])
    found = {run.info.run_name: run for run in runs(uri)}
    assert found["run_0"].info.status == "FINISHED"
    assert found["run_1"].info.status == "FAILED"
    assert found["run_0"].data.params == {"lr": "0.1", "model/width": "3", "odd name_": "x"}
    assert found["run_0"].data.metrics == {"loss": 0.2, "nested/a": 5.0, "training_iteration": 5.0}
    assert found["run_0"].data.tags["team"] == "7"
    assert found["run_0"].data.tags["trial_id"] == "t_00000"
    history = MlflowClient(uri).get_metric_history(found["run_0"].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(i, 1 / i) for i in range(1, 6)]
    assert history[0].timestamp == 1_791_000_001_000


def test_experiment_artifacts_and_late_parameters(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logger = begun(uri, tmp_path, experiment_name="mine", save_artifact=True, log_params_on_trial_end=True)
    trial = make_trial()
    logger.on_trial_start(0, [], trial)
    assert runs(uri, "mine")[0].data.params == {}
    (logger.trial_path(trial) / "notes.txt").write_text("hello")
    logger.on_trial_complete(0, [], trial)
    (run,) = runs(uri, "mine")
    assert run.data.params["lr"] == "0.1"
    assert [artifact.path for artifact in MlflowClient(uri).list_artifacts(run.info.run_id)] == ["notes.txt"]


def test_a_resumed_sweep_goes_on_with_its_runs(uri: str, tmp_path: Path) -> None:
    results = [result(i, loss=float(i)) for i in range(1, 7)]
    going, done, fresh = make_trial(0), make_trial(1), make_trial(2)
    before = begun(uri, tmp_path)
    for trial in (going, done):
        before.on_trial_start(0, [], trial)
        for each in results[:2]:
            before.on_trial_result(0, [], trial, each)
    before.on_step_end(0, [])
    # the driver is killed here: results 3 and 4 are in the journal only

    done.status, fresh.attempts = TrialStatus.TERMINATED, 0
    after = begun(uri, tmp_path, info={"resumed": True, "recorded": lambda _: results[:4]})
    after.on_step_begin(0, [going, done, fresh])
    going.config, going.attempts = {**going.config, "lr": 0.5}, 2
    after.on_trial_start(0, [], going)
    for each in results[4:]:
        after.on_trial_result(0, [], going, each)
    after.on_trial_complete(0, [], going)
    found = {run.info.run_name: run for run in runs(uri)}
    assert set(found) == {"run_0", "run_1"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    client = MlflowClient(uri)
    steps = [point.step for point in client.get_metric_history(found["run_0"].info.run_id, "loss")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert len(client.get_metric_history(found["run_1"].info.run_id, "loss")) == 4
    assert found["run_0"].data.params["lr"] == "0.1"
    assert found["run_0"].data.tags["changed/lr"] == "0.5"


def test_runs_of_an_interrupted_sweep_are_ended(uri: str, tmp_path: Path) -> None:
    logger, trial = begun(uri, tmp_path), make_trial()
    logger.on_trial_start(0, [], trial)
    logger.on_trial_result(0, [], trial, result(1, loss=1))
    logger.on_experiment_end([])
    (run,) = runs(uri)
    assert (run.info.status, run.data.metrics["loss"]) == ("KILLED", 1.0)
