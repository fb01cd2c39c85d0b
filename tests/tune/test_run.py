"""Every argument of ``tune.run`` does what it says, with real processes.

Each test is called ``test_<argument>...`` and fails if its argument has no effect; the last test of the file compares
the names with the signature.
"""

from __future__ import annotations

import inspect
import os
import random
import threading
import time
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

import core
import tune
from tune.backend.simulator import SimulatorBackend
from tune.backend.table import TabularBenchmark
from tune.controller.history import read_experiment
from tune.progress import ProgressReporter
from tune.schedulers import TrialScheduler
from tune.schedulers.base import STOP
from tune.search import BasicVariantGenerator
from tune.stopper import MaximumIterationStopper


@pytest.fixture(scope="module", autouse=True)
def _session():
    core.init(num_cpus=2)
    yield
    core.shutdown()


@pytest.fixture
def run(tmp_path):
    """``tune.run`` with quiet defaults; the experiment is ``tmp_path / "exp"``."""

    def run(trainable, **arguments):
        return tune.run(trainable, **{"storage_path": tmp_path, "name": "exp", "verbose": 0, **arguments})

    return run


def square(config):
    return {"loss": (config.get("x", 0.0) - 0.5) ** 2}


def five(config):
    for step in range(5):
        tune.report({"loss": config.get("x", 0) + step, "eval": {"acc": step}})


class Counter(tune.Trainable):
    def setup(self, config):
        self.count = config.get("start", 0)

    def step(self):
        self.count += 1
        return {"count": self.count, "done": self.count >= 4}

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]

    def _export_model(self, export_formats, export_dir):
        paths = {}
        for name in export_formats:
            paths[name] = str(Path(export_dir) / f"model.{name}")
            Path(paths[name]).write_text(str(self.count))
        return paths


# -- what is run


def test_run_or_experiment_is_a_function_a_class_a_name_or_an_experiment(run):
    assert run(square, name="function").trials[0].last_result["loss"] == 0.25
    assert run(Counter, name="class").trials[0].last_result["count"] == 4
    tune.register_trainable("squared", square)
    assert run("squared", name="name").trials[0].last_result["loss"] == 0.25
    experiment = tune.Experiment("experiment", square, config={"x": 1.5}, num_samples=2)
    assert [t.last_result["loss"] for t in run(experiment, num_samples=1, name="overruled").trials] == [1.0, 1.0]


def test_name_is_that_of_the_directory(run, tmp_path):
    run(square, name="called_this")
    assert (tmp_path / "called_this" / "experiment.json").exists()


def test_name_that_is_taken_moves_the_earlier_experiment_aside(run, tmp_path):
    first = run(square, name="twice")
    second = run(square, name="twice", num_samples=2)
    assert len(tune.ExperimentAnalysis(tmp_path / "twice.1").trials) == len(first.trials) == 1
    assert len(tune.ExperimentAnalysis(tmp_path / "twice").trials) == len(second.trials) == 2


def test_name_may_be_left_out(run):
    assert "square_" in run(square, name=None).experiment_path


def test_config_is_the_space(run):
    space = {"x": tune.uniform(3, 4), "fixed": 7, "deep": {"grid": tune.grid_search([1, 2])}}
    trials = run(square, config=space).trials
    assert [trial.config["deep"]["grid"] for trial in trials] == [1, 2]
    assert all(3 <= trial.config["x"] <= 4 and trial.config["fixed"] == 7 for trial in trials)
    assert set(trials[0].evaluated_params) == {"x", "deep/grid"}


def test_config_may_be_a_function_of_a_trial(run):
    def space(trial):
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            trial.suggest_float("x", 0, 1)
        return {"fixed": 1}

    for trial in run(square, config=space, num_samples=6).trials:
        assert trial.config["fixed"] == 1
        assert ("x" in trial.config) == (trial.config["kind"] == "a")


def test_num_samples_is_how_often_the_space_is_sampled(run):
    assert len(run(square, config={"x": tune.grid_search([1, 2])}, num_samples=3).trials) == 6


# -- what is good


def test_metric_and_mode_say_which_trial_is_best(run):
    space = {"x": tune.grid_search([0.0, 0.5, 2.0])}
    assert run(square, config=space, metric="loss", mode="min").best_config == {"x": 0.5}


def test_mode_max(run):
    assert run(square, config={"x": tune.grid_search([0.0, 0.5, 2.0])}, metric="loss", mode="max").best_config == {
        "x": 2
    }


def test_metric_that_is_missing_is_the_trials_error(run):
    analysis = run(square, metric="accuracy", mode="max", raise_on_failed_trial=False)
    assert "accuracy" in analysis.trials[0].error.message


def test_metric_may_be_nested(run):
    analysis = run(five, metric="eval/acc", mode="max", scheduler="asha", stop={"eval/acc": 3}, num_samples=2)
    assert analysis.best_trial.status == "TERMINATED"
    assert max(trial.iteration for trial in analysis.trials) == 4


def test_metric_may_be_several(run):
    def two(config):
        return {"a": config["x"], "b": -config["x"]}

    analysis = run(
        two,
        config={"x": tune.uniform(0, 1)},
        metric=["a", "b"],
        mode=["min", "max"],
        search_alg="optuna",
        num_samples=4,
    )
    assert len(analysis.trials) == 4
    with pytest.raises(ValueError, match="several"):
        analysis.best_trial  # noqa: B018
    assert analysis.get_best_trial("a", "max").config["x"] == max(trial.config["x"] for trial in analysis.trials)


def test_constraints_say_which_trials_may_be_best(run):
    space = {"x": tune.grid_search([0.5, 2.0, 3.0])}
    assert run(
        square, config=space, metric="loss", mode="min", constraints=lambda r: [1.0 - r["loss"]]
    ).best_config == {"x": 2}


# -- who decides


class Fixed(BasicVariantGenerator):
    """Suggests one thing."""

    def suggest(self, trial_id):
        config = super().suggest(trial_id)
        return config if config is self.FINISHED else {"x": 42.0}


def test_search_alg_makes_the_configurations(run):
    assert run(square, config={"x": tune.uniform(0, 1)}, search_alg=Fixed()).trials[0].config == {"x": 42.0}


def test_search_alg_may_be_named(run, tmp_path):
    run(square, config={"x": tune.uniform(0, 1)}, search_alg="optuna", metric="loss", mode="min", num_samples=3)
    assert read_experiment(tmp_path / "exp").rules.searcher == "OptunaSearch"


class StopsAtOnce(TrialScheduler):
    def on_trial_result(self, trial, result, view):
        return STOP

    def sync(self, trial):
        return tune.messages.Sync(every=True)


def test_scheduler_decides(run):
    assert run(five, scheduler=StopsAtOnce()).trials[0].iteration == 1


def test_scheduler_may_be_named(run, tmp_path):
    run(five, scheduler="asha", metric="loss", mode="min")
    assert "HyperBand" in read_experiment(tmp_path / "exp").rules.scheduler


def test_seed_repeats_the_configurations(run):
    space = {"x": tune.uniform(0, 1), "y": tune.choice(range(1000))}
    runs = [[t.config for t in run(square, config=space, num_samples=4, seed=s).trials] for s in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_seed_reaches_the_trials(run):
    def draws(config):
        return {"drawn": random.random(), "seed": tune.get_context().get_seed()}

    first, second = (run(draws, num_samples=2, seed=1).results for _ in range(2))
    assert [r["drawn"] for r in first.values()] == [r["drawn"] for r in second.values()]
    assert len({r["seed"] for r in first.values()}) == 2


def test_deterministic_orders_events_without_a_seed_and_not_with_one(run, tmp_path):
    def ordered(**arguments):
        run(five, scheduler="asha", metric="loss", mode="min", **arguments)
        return read_experiment(tmp_path / "exp").rules.ordered

    assert [ordered(), ordered(seed=1)] == [False, True]
    assert [ordered(deterministic=True), ordered(seed=1, deterministic=False)] == [True, False]


def test_backend_runs_the_trials(run):
    table = TabularBenchmark({"x": [0.0, 1.0]}, {"loss": [[3.0, 2.0], [5.0, 4.0]]}, [1.0, 1.0])
    analysis = run(
        square, config={"x": tune.grid_search([0.0, 1.0])}, metric="loss", mode="min", backend=SimulatorBackend(table)
    )
    assert analysis.best_result["loss"] == 2.0
    assert analysis.best_result["hostname"] == "simulated"


# -- when it ends


def test_stop_bounds(run):
    assert run(five, stop={"loss": 2}).trials[0].iteration == 3


def test_stop_nested_bounds(run):
    assert run(five, stop={"eval": {"acc": 1}}).trials[0].iteration == 2


def test_stop_function_and_stopper(run):
    assert run(five, stop=lambda trial_id, result: result["loss"] >= 1).trials[0].iteration == 2
    assert run(five, stop=MaximumIterationStopper(4)).trials[0].iteration == 4


def test_time_budget_s_ends_the_sweep(run):
    def naps(config):
        time.sleep(0.05)
        return {"loss": 1}

    analysis = run(naps, num_samples=-1, time_budget_s=0.5)
    assert analysis.trials
    assert analysis.state == "time_budget"


def test_trial_time_limit_s_kills(run):
    def hangs(config):
        tune.report({"loss": 1})
        time.sleep(600 if config["hang"] else 0)

    analysis = run(
        hangs, config={"hang": tune.grid_search([True, False])}, trial_time_limit_s=1.0, raise_on_failed_trial=False
    )
    assert [str(trial.status) for trial in analysis.trials] == ["TIMEOUT", "TERMINATED"]
    assert analysis.trials[0].iteration == 1


def test_trial_memory_limit_kills(run):
    def grows(config):
        kept = []
        for _ in range(100):
            kept.append(b"x" * 10_000_000)
            tune.report({"loss": len(kept)})
            time.sleep(0.02)

    analysis = run(grows, trial_memory_limit="400MB", raise_on_failed_trial=False)
    assert str(analysis.trials[0].status) == "OUT_OF_MEMORY"


# -- failures


def fails_until_it_finds(marker):
    def trainable(config):
        if not os.path.exists(marker):
            Path(marker).touch()
            raise ZeroDivisionError("first time")
        return {"loss": 1}

    return trainable


def test_max_failures_tries_again(run, tmp_path):
    trial = run(fails_until_it_finds(str(tmp_path / "marker")), max_failures=1).trials[0]
    assert (str(trial.status), trial.attempts, len(trial.failures)) == ("TERMINATED", 2, 1)


def fails(config):
    if config["x"] == 0:
        raise ZeroDivisionError("x is 0")
    return {"loss": config["x"]}


def test_raise_on_failed_trial(run):
    space = {"x": tune.grid_search([0, 1])}
    with pytest.raises(tune.TuneError, match=r"1 of 2 trials failed(?s:.*)x is 0"):
        run(fails, config=space)
    analysis = run(fails, config=space, raise_on_failed_trial=False)
    assert [str(trial.status) for trial in analysis.trials] == ["ERROR", "TERMINATED"]
    assert isinstance(analysis.result_of(analysis.trials[0]).error, ZeroDivisionError)


def test_fail_fast_ends_the_sweep(run):
    analysis = run(
        fails,
        config={"x": tune.grid_search([0, *range(1, 50)])},
        fail_fast=True,
        max_concurrent_trials=1,
        raise_on_failed_trial=False,
    )
    assert len(analysis.trials) < 50
    assert analysis.state == "fail_fast"


def test_fail_fast_may_raise(run):
    with pytest.raises(ZeroDivisionError, match="x is 0"):
        run(fails, config={"x": tune.grid_search([0, 1])}, fail_fast="raise")


# -- resources and processes


def test_resources_per_trial_are_reserved(run):
    def said(config):
        return {"cpus": tune.get_context().get_trial_resources().total["CPU"]}

    assert run(said, resources_per_trial={"cpu": 2}).trials[0].last_result["cpus"] == 2
    assert run(tune.with_resources(said, {"cpu": 2})).trials[0].last_result["cpus"] == 2


class Peak(tune.Callback):
    """The highest number of trials that ran at once."""

    peak = 0

    def on_step_end(self, iteration, trials, **info):
        self.peak = max(self.peak, sum(trial.status == "RUNNING" for trial in trials))


def test_max_concurrent_trials_limits(run):
    peaks = []
    for limit in (1, None):
        callback = Peak()
        run(five, num_samples=4, max_concurrent_trials=limit, callbacks=[callback])
        peaks.append(callback.peak)
    assert peaks == [1, 2]


def test_reuse_actors_keeps_processes(run):
    def where(config):
        return {"where": os.getpid()}

    pids = [
        {r["where"] for r in run(where, num_samples=4, reuse_actors=reuse).results.values()} for reuse in (True, False)
    ]
    assert len(pids[0]) <= 2
    assert len(pids[1]) == 4


# -- checkpoints


def test_checkpoint_config_says_what_is_made_and_kept(run):
    config = tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1, checkpoint_at_end=False)
    analysis = run(Counter, checkpoint_config=config)
    result = analysis.result_of(analysis.trials[0])
    assert [metrics["count"] for _, metrics in result.best_checkpoints] == [3, 4]
    config = tune.CheckpointConfig(
        num_to_keep=1, checkpoint_frequency=1, checkpoint_score_attribute="count", checkpoint_score_order="min"
    )
    analysis = run(Counter, checkpoint_config=config)
    kept = [metrics["count"] for _, metrics in analysis.result_of(analysis.trials[0]).best_checkpoints]
    assert kept[0] == 1
    analysis = run(Counter, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False))
    assert analysis.result_of(analysis.trials[0]).checkpoint is None
    analysis = run(Counter, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True))
    assert analysis.result_of(analysis.trials[0]).checkpoint is not None


def test_checkpoint_config_for_classes_is_refused_for_functions(run):
    with pytest.raises(ValueError, match=r"checkpoint_frequency is for tune\.Trainable classes"):
        run(square, checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1))
    with pytest.raises(ValueError, match="checkpoint_at_end"):
        run(square, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True))


def test_restore_is_where_trials_start_from(run, tmp_path):
    analysis = run(Counter, stop={"count": 2}, name="first")
    checkpoint = analysis.get_last_checkpoint(analysis.trials[0])
    again = run(Counter, restore=checkpoint.path, name="second")
    assert again.trials[0].iteration == 2  # 3, 4
    assert again.trials[0].last_result["count"] == 4


def test_export_formats_are_written_at_the_end(run, tmp_path):
    trial = run(Counter, export_formats=["a", "b"]).trials[0]
    assert Path(trial.local_path, "model.a").read_text() == "4"
    assert Path(trial.local_path, "model.b").exists()


# -- files


def test_storage_path(run, tmp_path):
    assert run(square, storage_path=tmp_path / "deep" / "er").experiment_path == str(tmp_path / "deep" / "er" / "exp")


def test_storage_path_default_is_the_environments(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SKATE_TUNE_RESULTS", str(tmp_path / "mine"))
    assert run(square, storage_path=None).experiment_path == str(tmp_path / "mine" / "exp")


class Elsewhere(LocalFileSystem):
    """A file system that is not this machine's, as far as anybody can tell."""

    protocol = ("elsewhere",)

    def unstrip_protocol(self, name):
        return f"elsewhere://{self._strip_protocol(name)}"


def test_storage_filesystem_is_where_everything_goes(run, tmp_path):
    arguments = {"storage_path": tmp_path / "bucket", "storage_filesystem": Elsewhere()}
    analysis = run(Counter, **arguments)
    assert analysis.experiment_path.startswith("elsewhere://")
    place = tmp_path / "bucket" / "exp"
    assert (place / "journal").is_dir()
    assert (place / "tuner.pkl").exists()
    assert list(place.glob("*/checkpoint_*"))
    read = tune.ExperimentAnalysis(place, storage_filesystem=Elsewhere())
    assert read.trials[0].last_result["count"] == 4
    with read.get_last_checkpoint(read.trials[0]).as_directory() as directory:
        assert os.listdir(directory)
    assert len(run(Counter, num_samples=2, resume=True, **arguments).trials) == 2
    with pytest.raises(FileExistsError, match="resume=True"):
        run(Counter, **arguments)


class WaitsForUpload(tune.Callback):
    """Waits until the remote side has the journal, while the sweep runs."""

    seen = False

    def __init__(self, place, patience):
        self.place = place
        self.patience = patience

    def on_trial_result(self, iteration, trials, trial, result, **info):
        deadline = time.monotonic() + self.patience
        while not self.seen and time.monotonic() < deadline:
            self.seen = (self.place / "journal").exists()
            time.sleep(0.01)


@pytest.mark.parametrize(("period", "patience", "seen"), [(0.05, 20, True), (3600, 0.5, False)])
def test_sync_config_says_how_often_the_remote_side_is_written(run, tmp_path, period, patience, seen):
    callback = WaitsForUpload(tmp_path / "bucket" / "exp", patience)
    run(
        square,
        storage_path=tmp_path / "bucket",
        storage_filesystem=Elsewhere(),
        sync_config=tune.SyncConfig(sync_period=period),
        callbacks=[callback],
    )
    assert callback.seen is seen
    assert (callback.place / "journal").exists()  # at the end in any case


def leaves_a_file(config):
    Path("mine.txt").write_text("an artifact")
    return {"loss": 1}


def test_sync_config_artifacts(run, tmp_path):
    arguments = {"storage_path": tmp_path / "bucket", "storage_filesystem": Elsewhere()}
    for artifacts, names in ((True, {"mine.txt", "result.json"}), (False, {"result.json"})):
        sync_config = tune.SyncConfig(sync_artifacts=artifacts)
        run(leaves_a_file, name=f"exp{artifacts}", sync_config=sync_config, **arguments)
        found = {path.name for path in (tmp_path / "bucket" / f"exp{artifacts}").glob("*/*")}
        assert found & {"mine.txt", "result.json"} == names


class WaitsAtCheckpoints(WaitsForUpload):
    on_trial_result = tune.Callback.on_trial_result

    def on_step_end(self, iteration, trials, **info):
        if any(trial.checkpoints for trial in trials):
            WaitsForUpload.on_trial_result(self, iteration, trials, None, None)


@pytest.mark.parametrize(("hurries", "patience"), [(True, 20), (False, 0.5)])
def test_sync_config_uploads_at_checkpoints(run, tmp_path, hurries, patience):
    callback = WaitsAtCheckpoints(tmp_path / "bucket" / "exp", patience)
    run(
        Counter,
        storage_path=tmp_path / "bucket",
        storage_filesystem=Elsewhere(),
        sync_config=tune.SyncConfig(sync_period=3600, sync_artifacts_on_checkpoint=hurries),
        callbacks=[callback],
    )
    assert callback.seen is hurries


class Stuck(Elsewhere):
    """Takes no journal."""

    def pipe_file(self, path, value, **options):
        if "/journal/" in path:
            threading.Event().wait(5)
        super().pipe_file(path, value, **options)


def test_sync_config_timeout(run, tmp_path):
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        run(
            square,
            storage_path=tmp_path / "bucket",
            storage_filesystem=Stuck(),
            sync_config=tune.SyncConfig(sync_period=3600, sync_timeout=0.2),
        )


def prints(config):
    print("hello from a trial")
    return {"loss": 1}


def test_log_to_file(run):
    assert "hello from a trial" in Path(run(prints, log_to_file=True).trials[0].local_path, "stdout").read_text()
    assert "hello from a trial" in Path(run(prints, log_to_file="both").trials[0].local_path, "both").read_text()
    assert not Path(run(prints).trials[0].local_path, "stdout").exists()


def test_trial_name_creator(run):
    analysis = run(square, config={"x": 3}, trial_name_creator=lambda trial: f"x_is_{trial.config['x']}_{trial.index}")
    assert str(analysis.trials[0]) == "x_is_3_0"


def test_trial_dirname_creator(run, tmp_path):
    run(square, num_samples=2, trial_dirname_creator=lambda trial: f"number{trial.index}")
    assert (tmp_path / "exp" / "number0").is_dir()
    assert (tmp_path / "exp" / "number1" / "result.json").exists()


# -- what is shown


def test_verbose(run, capfd):
    run(square, verbose=0)
    assert capfd.readouterr().out == ""
    run(square, verbose=1)
    assert "TERMINATED" in capfd.readouterr().out


class Recording(ProgressReporter):
    def __init__(self):
        self.reports = []

    def setup(self, **known):
        self.known = known

    def should_report(self, trials, done=False):
        return True

    def report(self, trials, done, *sys_info):
        self.reports.append((len(trials), done))

    def close(self):
        self.reports.append("closed")


def test_progress_reporter_takes_the_tables_place(run, capfd):
    reporter = Recording()
    run(square, progress_reporter=reporter, verbose=1, metric="loss", mode="min")
    assert reporter.known["metric"] == "loss"
    assert reporter.reports[-2:] == [(1, True), "closed"]
    assert capfd.readouterr().out == ""


class Recorder(tune.Callback):
    def __init__(self):
        self.losses = []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.losses.append(result["loss"])


def test_callbacks_are_called(run):
    recorder = Recorder()
    run(five, callbacks=[recorder])
    assert recorder.losses == [0, 1, 2, 3, 4]


class AsRaysDo(tune.Callback):
    """Looks at what Ray's results and trials have."""

    def __init__(self):
        self.seen = []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        assert result["trial_id"] == trial.trial_id
        assert result["pid"] == trial.pid
        assert Path(trial.path).is_dir()
        assert trial.status in {"RUNNING", "TERMINATED"}
        self.seen.append((result["config"], repr(trials)))


def test_callbacks_get_whole_results(run):
    callback = AsRaysDo()
    analysis = run(square, config={"x": 3}, callbacks=[callback])
    assert callback.seen == [({"x": 3}, f"[{analysis.trials[0].name}]")]


class Raises(tune.Callback):
    def on_trial_result(self, iteration, trials, trial, result, **info):
        raise LookupError("in a callback")


def test_callbacks_that_raise_end_the_sweep(run):
    with pytest.raises(tune.errors.CallbackError, match="in a callback"):
        run(five, callbacks=[Raises()])


def test_callbacks_of_files_are_added_unless_the_environment_says_no(run, tmp_path, monkeypatch):
    files = {"result.json", "progress.csv", "params.json", "params.pkl"}
    assert files <= set(os.listdir(run(square).trials[0].local_path))
    assert {"optuna.log", "report.html"} <= set(os.listdir(run(square, metric="loss", mode="min").experiment_path))
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    assert not files & set(os.listdir(run(square).trials[0].local_path))


# -- going on


def test_resume_goes_on_with_the_experiment(run):
    space = {"x": tune.uniform(0, 1)}
    first = run(square, config=space, num_samples=3, seed=1)
    again = run(square, config=space, num_samples=5, seed=1, resume=True)
    assert [trial.config for trial in again.trials[:3]] == [trial.config for trial in first.trials]
    assert len(again.trials) == 5
    assert [trial.attempts for trial in again.trials] == [1] * 5


def test_resume_config_says_which_trials_go_on(run, tmp_path):
    marker = str(tmp_path / "marker")
    run(fails_until_it_finds(marker), raise_on_failed_trial=False)
    same = run(fails_until_it_finds(marker), resume_config=tune.ResumeConfig(), raise_on_failed_trial=False)
    assert str(same.trials[0].status) == "ERROR"
    again = run(fails_until_it_finds(marker), resume_config=tune.ResumeConfig(errored="restart"))
    assert str(again.trials[0].status) == "TERMINATED"


# -- what is gone


@pytest.mark.parametrize(
    ("argument", "value", "instead"),
    [
        ("keep_checkpoints_num", 2, r"CheckpointConfig\(num_to_keep=2\)"),
        ("checkpoint_score_attr", "min-loss", "checkpoint_score_attribute"),
        ("checkpoint_freq", 1, r"checkpoint_frequency=1"),
        ("checkpoint_at_end", True, "checkpoint_at_end=True"),
        ("chdir_to_trial_dir", False, "RAY_CHDIR_TO_TRIAL_DIR"),
        ("local_dir", "/tmp", "storage_path='/tmp'"),
    ],
)
def test_deprecated_arguments_are_refused(run, argument, value, instead):
    with pytest.raises(TypeError, match=instead):
        run(square, **{argument: value})


DEPRECATED = {
    "keep_checkpoints_num",
    "checkpoint_score_attr",
    "checkpoint_freq",
    "checkpoint_at_end",
    "chdir_to_trial_dir",
    "local_dir",
}


def test_every_argument_has_a_test():
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    arguments = set(inspect.signature(tune.run).parameters) - DEPRECATED
    assert not [argument for argument in arguments if argument not in tests]
