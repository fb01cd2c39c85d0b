"""The log files of real sweeps, complete also after the driver was killed and the sweep resumed; trackers in trials."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
import tune
from tests.eventually import eventually

STEPS = 400
FORMATS = ("csv", "json", "events")


@pytest.fixture(scope="module")
def running() -> Iterator[None]:
    core.init(num_cpus=2)
    yield
    core.shutdown()


def reports(config: dict[str, Any]) -> None:
    for step in range(config["steps"]):
        tune.report({"loss": 1 / (step + 1), "text": "a,\nb", **({"late": step} if step > 2 else {})})


def walks(config: dict[str, Any]) -> None:
    """Goes on from its checkpoint; waits at a gate in the middle, so that there is a moment to be killed in."""
    import tempfile

    checkpoint = tune.get_checkpoint()
    began = int(Path(checkpoint.path, "step").read_text()) if checkpoint is not None else 0
    for step in range(began, STEPS):
        if step == STEPS // 2 and not Path(config["gate"]).exists():
            import threading

            threading.Event().wait(60)
        with tempfile.TemporaryDirectory() as directory:
            kept = None
            if step % 50 == 49:
                Path(directory, "step").write_text(str(step + 1))
                kept = tune.Checkpoint.from_directory(directory)
            tune.report({"loss": 1 / (step + 1), "step": step + 1}, checkpoint=kept)


def sweep(storage: Path, **options: Any) -> Any:
    return tune.run(
        walks,
        name="walks",
        config={"gate": str(storage / "gate"), "x": tune.grid_search([1, 2])},
        metric="loss",
        mode="min",
        storage_path=str(storage),
        verbose=0,
        **options,
    )


def rows(directory: Path) -> dict[str, list[int]]:
    """The iterations that each of a trial's log files holds, read by the formats' own readers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (directory / "progress.csv").open(newline="") as file:
        table = [int(row["training_iteration"]) for row in csv.DictReader(file)]
    lines = [json.loads(line)["training_iteration"] for line in (directory / "result.json").read_text().splitlines()]
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload().Scalars("ray/tune/loss")
    return {"csv": table, "json": lines, "events": [event.step for event in events]}


def trial_directories(experiment: Path) -> list[Path]:
    return sorted(path.parent for path in experiment.glob("*/params.json"))


def test_every_result_is_in_every_file(running: None, tmp_path: Path) -> None:
    analysis = tune.run(
        reports, config={"steps": 50, "x": tune.grid_search([1, 2, 3])}, name="s", storage_path=str(tmp_path), verbose=0
    )
    directories = trial_directories(Path(analysis.experiment_path))
    assert len(directories) == 3
    for directory in directories:
        assert rows(directory) == {name: list(range(1, 51)) for name in FORMATS}
        first = json.loads((directory / "result.json").read_text().splitlines()[0])
        assert {"trial_id", "date", "pid", "hostname", "config", "time_total_s"} <= set(first)
        assert first["pid"] > 0
        with (directory / "progress.csv").open(newline="") as file:
            # Rows that were written before there was the column end before it.
            late = [row["late"] or "" for row in csv.DictReader(file)]
        assert late == ["", "", ""] + [str(step) for step in range(3, 50)]


DRIVER = """
import sys
from pathlib import Path
import core
from tests.tune import test_log_files
core.init(num_cpus=2)
test_log_files.sweep(Path(sys.argv[1]))
"""


@pytest.mark.timeout(180)
def test_after_a_kill_files_are_continued_without_gap_or_repetition(running: None, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=environment, cwd=tmp_path)
    try:
        # both trials wait at the gate and their results so far are logged, the newest perhaps not yet
        def both_are_logged() -> bool:
            found = [path.read_text().count("\n") for path in (tmp_path / "walks").glob("*/result.json")]
            events = list((tmp_path / "walks").glob("*/*tfevents*"))
            return len(found) == len(events) == 2 and min(found) >= STEPS // 4

        eventually(both_are_logged, timeout=90)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    for directory in trial_directories(tmp_path / "walks"):  # as if it had been killed in the middle of a line
        for name in ("result.json", "progress.csv", next(directory.glob("*tfevents*")).name):
            os.truncate(directory / name, (directory / name).stat().st_size - 5)
    (tmp_path / "gate").touch()
    analysis = sweep(tmp_path, resume=True)
    assert [trial.status for trial in analysis.trials] == ["TERMINATED"] * 2
    for directory in trial_directories(tmp_path / "walks"):
        assert rows(directory) == {name: list(range(1, STEPS + 1)) for name in FORMATS}


# trackers, in the trials' own processes


def tracks_with_mlflow(config: dict[str, Any]) -> None:
    import warnings

    warnings.simplefilter("ignore")  # MLflow's own, about what it stands on
    from tune.integration.mlflow import setup_mlflow

    mlflow = setup_mlflow(config, create_experiment_if_not_exists=True)
    mlflow.log_metric("seen", config["x"])
    mlflow.end_run()
    tune.report({"loss": config["x"]})


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:alembic")
def test_mlflow_in_a_trial(running: None, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'store.db'}"
    MlflowClient(uri).search_experiments()
    settings = {"tracking_uri": uri, "tags": {"team": "a"}}
    analysis = tune.run(
        tracks_with_mlflow,
        config={"x": tune.grid_search([1, 2]), "mlflow": settings},
        name="tracked",
        storage_path=str(tmp_path),
        max_concurrent_trials=1,
        verbose=0,
    )
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("tracked").experiment_id])
    assert sorted((run.data.params["x"], run.data.metrics["seen"], run.info.status) for run in runs) == [
        ("1", 1.0, "FINISHED"),
        ("2", 2.0, "FINISHED"),
    ]
    assert {run.data.tags["trial_id"] for run in runs} == {trial.trial_id for trial in analysis.trials}
    assert {run.data.tags["team"] for run in runs} == {"a"}


def tracks_with_wandb(config: dict[str, Any]) -> None:
    from tune.integration.wandb import setup_wandb

    run = setup_wandb(config, project="digits", mode="offline")
    run.log({"seen": config["x"]})
    tune.report({"loss": config["x"], "id": run.id, "name": run.name, "group": run.group})
    run.finish()
    import wandb

    wandb.teardown()


@pytest.mark.timeout(180)
def test_wandb_in_a_trial(running: None, tmp_path: Path) -> None:
    analysis = tune.run(
        tracks_with_wandb,
        config={"x": tune.grid_search([1, 2]), "wandb": {"dir": str(tmp_path)}},
        name="tracked",
        storage_path=str(tmp_path / "results"),
        max_concurrent_trials=1,
        verbose=0,
    )
    for trial in analysis.trials:
        result = trial.last_result
        assert (result["id"], result["name"], result["group"]) == (trial.trial_id, str(trial), "tracked")
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
