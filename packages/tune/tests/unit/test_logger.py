"""The loggers write what was reported, in batches, and continue files that a crash left behind."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.logger import DEFAULT_LOGGERS, CSVLoggerCallback, JsonLoggerCallback, LoggerCallback
from tune.logger.csv_logger import CsvFile
from tune.logger.file_logger import FLUSH_COUNT, FileLogger
from tune.logger.json_logger import JsonFile
from tune.logger.tensorboard_logger import EventFile, TBXLoggerCallback
from tune.logger.writer import Writer
from tune.trial import Trial


def make_trial(index: int = 0, **config: Any) -> Trial:
    config = config or {"lr": 0.1}
    return Trial(f"t_{index:05d}", index, config, config, f"trial_{index}", attempts=1, pid=7, hostname="here")


def result(iteration: int, **metrics: Any) -> dict[str, Any]:
    return {"training_iteration": iteration, "timestamp": 1_791_000_000, **metrics}


_BEGUN: list[FileLogger] = []


def started(logger: FileLogger, directory: Path, *trials: Trial, **info: Any) -> FileLogger:
    _BEGUN.append(logger)
    logger.setup(experiment_path=str(directory), **info)
    logger.on_step_begin(0, list(trials))
    for trial in trials:
        logger.on_trial_start(0, trials, trial)
    return logger


@pytest.fixture(autouse=True)
def _writers_end() -> Iterator[None]:
    """The writers of loggers that a test did not end."""
    yield
    for each in _BEGUN:
        with contextlib.suppress(OSError):
            each.on_experiment_end([])
    _BEGUN.clear()


def log(logger: FileLogger, trial: Trial, *results: dict[str, Any]) -> None:
    for each in results:
        trial.iteration += 1
        logger.on_trial_result(0, [], trial, each)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# what is in the files


def test_json_lines_have_metrics_config_and_identity(tmp_path: Path) -> None:
    trial = make_trial(lr=0.5, layers=[1, 2])
    logger = started(JsonLoggerCallback(), tmp_path, trial)
    log(logger, trial, result(1, loss=0.25, nested={"a": 1}), result(2, loss=0.125))
    logger.on_experiment_end([])
    first, second = read_json(tmp_path / "trial_0/result.json")
    assert first["loss"] == 0.25
    assert first["nested"] == {"a": 1}
    assert first["config"] == {"lr": 0.5, "layers": [1, 2]}
    assert (first["trial_id"], first["pid"], first["hostname"]) == ("t_00000", 7, "here")
    assert first["date"][:4] == "2026"
    assert second["training_iteration"] == 2


def test_params_are_written_when_a_trial_starts_and_again_when_they_change(tmp_path: Path) -> None:
    trial = make_trial(lr=0.5, activation=max)
    logger = started(JsonLoggerCallback(), tmp_path, trial)
    logger.flush()
    assert json.loads((tmp_path / "trial_0/params.json").read_text())["lr"] == 0.5
    assert pickle.loads((tmp_path / "trial_0/params.pkl").read_bytes()) == {"lr": 0.5, "activation": max}
    log(logger, trial, result(1))
    trial.config = {"lr": 0.25}
    logger.on_trial_start(0, [], trial)
    log(logger, trial, result(2))
    logger.on_experiment_end([])
    assert json.loads((tmp_path / "trial_0/params.json").read_text()) == {"lr": 0.25}
    assert [line["config"]["lr"] for line in read_json(tmp_path / "trial_0/result.json")] == [0.5, 0.25]


def test_json_keeps_what_json_has_no_word_for(tmp_path: Path) -> None:
    trial = make_trial(path=Path("a/b"))
    logger = started(JsonLoggerCallback(), tmp_path, trial)
    log(logger, trial, result(1, nan=math.nan, inf=-math.inf, none=None, small=np.float32(0.5), array=np.arange(3)))
    log(logger, trial, result(2, odd=object, truth=np.bool_(True), count=np.int64(3)))
    logger.on_experiment_end([])
    first, second = read_json(tmp_path / "trial_0/result.json")
    assert math.isnan(first["nan"])
    assert first["inf"] == -math.inf
    assert (first["none"], first["small"], first["array"]) == (None, 0.5, [0, 1, 2])
    assert second["odd"] == "<class 'object'>"
    assert (second["truth"], second["count"]) == (True, 3)
    assert first["config"] == {"path": "a/b"}


def test_csv_columns_are_flat(tmp_path: Path) -> None:
    trial = make_trial(lr=0.5, model={"width": 3})
    logger = started(CSVLoggerCallback(), tmp_path, trial)
    log(logger, trial, result(1, loss=0.25, nested={"a": {"b": 1}}, text='x,"\ny'))
    logger.on_experiment_end([])
    (row,) = read_csv(tmp_path / "trial_0/progress.csv")
    assert row["nested/a/b"] == "1"
    assert row["config/lr"] == "0.5"
    assert row["config/model/width"] == "3"
    assert row["text"] == 'x,"\ny'


def test_csv_header_grows_and_no_row_is_lost(tmp_path: Path) -> None:
    trial = make_trial()
    logger = started(CSVLoggerCallback(), tmp_path, trial)
    log(logger, trial, result(1, loss=1.0))
    logger.flush()
    log(logger, trial, result(2, loss=0.5, accuracy=0.7), result(3, accuracy=0.8))
    logger.flush()
    log(logger, trial, result(4, extra="z"))
    logger.on_experiment_end([])
    rows = read_csv(tmp_path / "trial_0/progress.csv")
    assert [row["training_iteration"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["loss"] for row in rows] == ["1.0", "0.5", "", ""]
    assert [row["accuracy"] or None for row in rows] == [None, "0.7", "0.8", None]
    assert rows[3]["extra"] == "z"
    assert [path.name for path in (tmp_path / "trial_0").iterdir()] == ["progress.csv"]


def test_tensorboard_reads_scalars_and_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    trial = make_trial(lr=0.5, layers=np.int64(3), name="résnet", deep={"on": True})
    logger = started(TBXLoggerCallback(), tmp_path, trial)
    log(logger, trial, *(result(i, loss=1 / i, note="text", nested={"a": np.float32(i)}) for i in range(1, 301)))
    log(logger, trial, result(301, huge=1e300, loss=math.nan, big=2**40), result(302, timesteps_total=10**12, loss=-1))
    logger.on_experiment_end([])
    events = EventAccumulator(str(tmp_path / "trial_0"), size_guidance={"scalars": 0}).Reload()
    assert set(events.Tags()["scalars"]) == {f"ray/tune/{name}" for name in ("loss", "nested/a", "huge", "big")}
    loss = events.Scalars("ray/tune/loss")
    assert [(event.step, event.value) for event in loss[:3]] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert loss[0].wall_time == 1_791_000_000
    assert loss[-1].step == 10**12
    assert math.isnan(loss[-2].value)
    assert len(events.Scalars("ray/tune/nested/a")) == 300
    assert events.Scalars("ray/tune/huge")[0].value == math.inf
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["lr"].number_value == 0.5
    assert start.hparams["layers"].number_value == 3
    assert start.hparams["name"].string_value == "résnet"
    assert start.hparams["deep/on"].bool_value is True
    assert start.start_time_secs == 1_791_000_000


def test_tensorboard_takes_thousands_of_names(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trial = make_trial()
    logger = started(TBXLoggerCallback(), tmp_path, trial)
    log(logger, trial, result(1, **{f"metric_{i}": i for i in range(1_000)}))
    logger.on_experiment_end([])
    events = EventAccumulator(str(tmp_path / "trial_0")).Reload()
    assert events.Scalars("ray/tune/metric_999")[0].value == 999


# batches


def open_files(directory: Path) -> list[str]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [
        str(link.readlink()) for link in links if link.is_symlink() and str(link.readlink()).startswith(str(directory))
    ]


@pytest.mark.parametrize("kind", DEFAULT_LOGGERS)
def test_many_trials_hold_no_file_open_and_are_forgotten(tmp_path: Path, kind: type[FileLogger]) -> None:
    trials = [make_trial(index) for index in range(300)]
    logger = started(kind(flush_interval=0), tmp_path, *trials)
    for trial in trials:
        log(logger, trial, result(1, loss=trial.index))
        logger.on_step_end(0, trials)
    logger.flush()
    assert not open_files(tmp_path)
    for trial in trials:
        logger.on_trial_complete(0, trials, trial)
    logger.flush()
    assert len(list(tmp_path.iterdir())) == 300
    assert not logger._files
    assert not logger._waiting


def test_results_wait_until_there_are_many_or_the_interval_is_over(tmp_path: Path) -> None:
    trial = make_trial()
    logger = started(JsonLoggerCallback(flush_interval=3600), tmp_path, trial)
    log(logger, trial, result(1))
    logger.on_step_end(0, [])
    path = tmp_path / "trial_0/result.json"
    assert not path.exists()
    log(logger, trial, *(result(i) for i in range(2, FLUSH_COUNT + 1)))
    logger.on_step_end(0, [])
    logger.on_experiment_end([])
    assert len(read_json(path)) == FLUSH_COUNT


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    trial = make_trial()
    logger = started(CSVLoggerCallback(), tmp_path, trial)
    (tmp_path / "trial_0/progress.csv").mkdir(parents=True)
    log(logger, trial, result(1))
    with pytest.raises(IsADirectoryError):
        logger.flush()


def test_the_writer_raises_what_went_wrong_and_goes_on(tmp_path: Path) -> None:
    writer, done = Writer("skate-tune-test"), []
    writer.put(lambda: done.append(1))
    writer.put((tmp_path / "nowhere/file").touch)
    writer.put(lambda: done.append(2))  # after an error: not done
    with pytest.raises(FileNotFoundError):
        writer.wait()
    writer.put(lambda: done.append(3))
    assert writer.close()
    assert writer.close()
    assert done == [1, 3]
    blocker = threading.Event()
    writer.put(lambda: blocker.wait() and None)
    assert not writer.close(timeout=0.01)
    blocker.set()


def test_results_that_come_faster_than_the_disk_are_waited_for(tmp_path: Path) -> None:
    trial = make_trial()
    logger = started(JsonLoggerCallback(flush_interval=0), tmp_path, trial)
    for _ in range(4):
        log(logger, trial, *(result(i) for i in range(FLUSH_COUNT)))
        logger.on_step_end(0, [])
    assert logger._in_flight == 0
    assert len(read_json(tmp_path / "trial_0/result.json")) == 4 * FLUSH_COUNT


# after a crash


def rows_of(kind: type[FileLogger], directory: Path) -> list[int]:
    """The iterations that a trial's file holds, read by the format's own reader."""
    if kind is JsonLoggerCallback:
        return [row["training_iteration"] for row in read_json(directory / "result.json")]
    if kind is CSVLoggerCallback:
        return [int(row["training_iteration"]) for row in read_csv(directory / "progress.csv")]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [event.step for event in EventAccumulator(str(directory)).Reload().Scalars("ray/tune/loss")]


@pytest.mark.parametrize("kind", DEFAULT_LOGGERS)
@pytest.mark.parametrize("torn", [1, 9, 60, 10_000])
@pytest.mark.parametrize("recorded", [2, 3, 5])
def test_a_torn_file_is_continued_without_gap_or_repetition(
    tmp_path: Path, kind: type[FileLogger], torn: int, recorded: int
) -> None:
    results = [result(i, loss=1 / i, note="a,\nb") for i in range(1, 8)]
    trial = make_trial()
    before = started(kind(), tmp_path, trial)
    log(before, trial, *results[:3])
    before.flush()
    (path,) = [path for path in (tmp_path / "trial_0").iterdir() if not path.name.startswith("params")]
    os.truncate(path, max(0, path.stat().st_size - torn))

    trial.iteration = recorded
    other = make_trial(1)
    other.attempts = 0
    after = started(kind(), tmp_path, trial, other, resumed=True, recorded=lambda _: results[:recorded])
    log(after, trial, *results[recorded:])
    after.on_experiment_end([])
    assert rows_of(kind, tmp_path / "trial_0") == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", DEFAULT_LOGGERS)
def test_a_trial_that_restarts_from_nothing_loses_its_old_rows(tmp_path: Path, kind: type[FileLogger]) -> None:
    trial = make_trial()
    before = started(kind(), tmp_path, trial)
    log(before, trial, result(1, loss=1), result(2, loss=2))
    before.flush()
    trial.iteration = 0
    after = started(kind(), tmp_path, trial, resumed=True, recorded=lambda _: [])
    log(after, trial, result(1, loss=3))
    after.flush()
    assert rows_of(kind, tmp_path / "trial_0") == [1]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(alphabet='ab,"\n\r;', max_size=6), min_size=1, max_size=5),
    cut=st.integers(0, 80),
    keep=st.integers(0, 5),
)
@pytest.mark.parametrize("kind", [JsonFile, CsvFile, EventFile])
def test_whatever_is_cut_off_whole_results_stay(
    tmp_path_factory: pytest.TempPathFactory, kind: Any, texts: list[str], cut: int, keep: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "file"
    results = [result(i, note=text) for i, text in enumerate(texts)]
    kind(path).append(results, {"lr": 0.1})
    whole = path.read_bytes()
    os.truncate(path, max(0, len(whole) - cut))
    left = kind(path).keep(keep)
    assert left <= min(keep, len(results))
    if cut == 0:
        assert left == min(keep, len(results))
    assert whole.startswith(path.read_bytes())
    if left < len(results):
        kind(path).append(results[left:], {"lr": 0.1})
    if kind is not EventFile and left:
        assert path.read_bytes() == whole


# the base


def test_a_logger_that_does_not_know_its_experiment_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"super\(\).setup"):
        LoggerCallback().trial_path(make_trial())


def test_ray_hooks_reach_a_users_logger(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Mine(LoggerCallback):
        def log_trial_start(self, trial: Trial) -> None:
            seen.append("start")

        def log_trial_restore(self, trial: Trial) -> None:
            seen.append("restore")

        def log_trial_save(self, trial: Trial) -> None:
            seen.append("save")

        def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
            seen.append((iteration, result["training_iteration"]))

        def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
            seen.append(failed)

    mine, trial = Mine(), make_trial()
    mine.on_trial_start(1, [], trial)
    mine.on_trial_restore(1, [], trial)
    mine.on_trial_save(1, [], trial)
    mine.on_trial_result(2, [], trial, result(5))
    mine.on_trial_complete(3, [], trial)
    mine.on_trial_error(3, [], trial)
    assert seen == ["start", "restore", "save", (2, 5), False, True]
