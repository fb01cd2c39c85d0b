"""W&B's logger with the real library, offline; what it wrote is read back from its files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wandb.proto import wandb_internal_pb2

from tune.integration.wandb import WandbLoggerCallback
from tune.trial import CheckpointRecord, Trial


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CONFIG", "CACHE", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-home"))


def make_trial(index: int = 0) -> Trial:
    config = {"lr": 0.1, "secret": "x", "model": {"width": np.int64(3)}}
    return Trial(f"t_{index:05d}", index, config, config, f"d{index}", name=f"run_{index}", attempts=1)


def result(iteration: int, **metrics: Any) -> dict[str, Any]:
    return {"training_iteration": iteration, "timestamp": 1_791_000_000, **metrics}


def records(path: Path) -> Iterator[bytes]:
    """The records of W&B's file, which is a log of LevelDB's: blocks of 32 KiB, records in one piece or several."""
    data = path.read_bytes()
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


class Written:
    """What W&B wrote about one run."""

    def __init__(self, directory: Path) -> None:
        (path,) = directory.glob("wandb/offline-run-*/*.wandb")
        self.history: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.exit_code = -1
        self.artifacts: list[str] = []
        for data in records(path):
            record = wandb_internal_pb2.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "config":
                self.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            elif kind == "history":
                items = record.history.item
                self.history.append(
                    {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
                )
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
            elif kind == "artifact":
                self.artifacts.append(record.artifact.name)


def begun(directory: Path, **options: Any) -> WandbLoggerCallback:
    logger = WandbLoggerCallback(project="digits", **options)
    logger.setup(experiment_path=str(directory), experiment_name="sweep")
    return logger


@pytest.mark.timeout(180)
def test_a_trial_is_a_run(tmp_path: Path) -> None:
    logger, trials = begun(tmp_path, excludes=["secret", "noise"]), [make_trial(0), make_trial(1)]
    for trial in trials:
        logger.on_trial_start(0, [], trial)
    for iteration in (1, 2):
        for trial in trials:
            values = {"loss": np.float32(0.5), "nested": {"a": iteration}, "noise": 1, "note": "text"}
            logger.on_trial_result(0, [], trial, result(iteration, **values))
    trials[0].config = {**trials[0].config, "lr": 0.5}
    logger.on_trial_start(0, [], trials[0])
    logger.on_trial_complete(0, [], trials[0])
    logger.on_trial_error(0, [], trials[1])
    logger.on_experiment_end([])
    first, second = Written(tmp_path / "d0"), Written(tmp_path / "d1")
    assert (first.run.run_id, first.run.display_name) == ("t_00000", "run_0")
    assert (first.run.project, first.run.run_group) == ("digits", "sweep")
    assert (first.exit_code, second.exit_code) == (0, 1)
    assert first.config["lr"] == 0.5
    assert second.config["lr"] == 0.1
    assert first.config["model"] == {"width": 3}
    assert "secret" not in first.config
    steps = [(row["_step"], row["loss"], row["nested/a"], row["note"]) for row in first.history]
    assert steps == [(1, 0.5, 1, "text"), (2, 0.5, 2, "text")]
    assert "noise" not in first.history[0]
    assert "timestamp" not in first.history[0]


@pytest.mark.timeout(180)
def test_checkpoints_and_configurations_on_request(tmp_path: Path) -> None:
    logger, trial = begun(tmp_path, upload_checkpoints=True, log_config=True, group="mine"), make_trial()
    logger.on_trial_start(0, [], trial)
    checkpoint = logger.trial_path(trial) / "checkpoint_000000"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text("1 2 3")
    trial.checkpoint = CheckpointRecord("checkpoint_000000", 1, {})
    logger.on_trial_save(0, [], trial)
    logger.on_trial_result(0, [], trial, result(1, loss=1.0))
    logger.on_experiment_end([])
    written = Written(tmp_path / "d0")
    assert written.run.run_group == "mine"
    assert written.history[0]["config/lr"] == 0.1
    assert written.artifacts == ["checkpoint_t_00000"]
    assert written.exit_code == 1  # the trial did not come to an end


@pytest.mark.timeout(180)
def test_what_wandb_refuses_is_raised_in_the_driver(tmp_path: Path) -> None:
    logger, trial = begun(tmp_path, nonsense=True), make_trial()
    logger.on_trial_start(0, [], trial)
    with pytest.raises(TypeError, match="nonsense"):
        logger.on_experiment_end([])


def test_a_project_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_PROJECT_NAME", raising=False)
    with pytest.raises(ValueError, match="project"):
        WandbLoggerCallback()
    monkeypatch.setenv("WANDB_PROJECT_NAME", "mine")
    WandbLoggerCallback()
    with pytest.raises(ValueError, match="not both"):
        WandbLoggerCallback(api_key="a", api_key_file=str(tmp_path / "key"))
