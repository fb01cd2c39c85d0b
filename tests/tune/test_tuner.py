"""`Tuner` and the configuration records: every field reaches the sweep, every argument of `restore` does its work.

What the fields mean is tested in ``test_run.py``, where each argument of ``tune.run`` has the same name. Here each is
given a value of its own, which is found again in the plan that the controller gets.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import logging
from pathlib import Path

import pytest

import core
import tune
from tune.api.default_callbacks import all_callbacks
from tune.api.location import locate
from tune.api.planning import make_plan
from tune.api.settings import Settings, settings_of
from tune.backend.simulator import SimulatorBackend
from tune.backend.table import TabularBenchmark
from tune.controller.plan import SweepPlan
from tune.errors import ExperimentNotFoundError, TuneError
from tune.schedulers import ASHAScheduler
from tune.search import BasicVariantGenerator
from tune.stopper import TrialPlateauStopper


@pytest.fixture(scope="module", autouse=True)
def _session():
    core.init(num_cpus=2)
    yield
    core.shutdown()


@pytest.fixture
def runs_in(tmp_path):
    return lambda **fields: tune.RunConfig(**{"storage_path": tmp_path, "name": "exp", "verbose": 0, **fields})


def square(config):
    return {"loss": config["x"] ** 2}


def steps(config):
    for step in range(3):
        tune.report({"loss": config["x"] + step})


class Halts(tune.Callback):
    """Ends the sweep after some trials, as a crash would."""

    def __init__(self, after):
        self.left = after

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError("halted")


def fails_without(marker):
    def trainable(config):
        if not Path(marker).exists():
            raise ZeroDivisionError("no marker")
        return {"loss": config["x"]}

    return trainable


def test_fit_returns_a_grid_and_get_results_the_same(runs_in):
    tuner = tune.Tuner(
        square,
        param_space={"x": tune.grid_search([1, 2, 3])},
        tune_config=tune.TuneConfig(metric="loss", mode="max"),
        run_config=runs_in(),
    )
    with pytest.raises(TuneError, match="call fit"):
        tuner.get_results()
    grid = tuner.fit()
    assert grid.get_best_result().config == {"x": 3}
    assert [result.metrics["loss"] for result in tuner.get_results()] == [1, 4, 9]


def test_failed_trials_are_in_the_grid(runs_in, tmp_path):
    grid = tune.Tuner(fails_without(tmp_path / "marker"), param_space={"x": 1}, run_config=runs_in()).fit()
    assert (grid.num_errors, grid.num_terminated) == (1, 0)
    assert isinstance(grid.errors[0], ZeroDivisionError)


def test_backend(runs_in):
    table = TabularBenchmark({"x": [0.0]}, {"loss": [[3.0]]}, [1.0])
    grid = tune.Tuner(square, param_space={"x": 0.0}, run_config=runs_in(), backend=SimulatorBackend(table)).fit()
    assert grid[0].metrics["hostname"] == "simulated"


# -- every field of the records reaches the plan


@dataclasses.dataclass
class Planned:
    """What a `Tuner` would run."""

    settings: Settings
    plan: SweepPlan


@pytest.fixture
def planned(runs_in):
    """Return what makes the plan of a sweep without running it."""

    def planned(tune_config=None, run_config=None, trainable=square):
        tuner = tune.Tuner(
            trainable, param_space={"x": 1.0}, tune_config=tune_config, run_config=run_config or runs_in()
        )
        location = locate(tuner._settings)
        callbacks = all_callbacks(tuner._settings, location.storage)
        return Planned(tuner._settings, make_plan(tuner._settings, location, None, callbacks))

    return planned


def name_of(trial):
    return f"trial{trial.index}"


SEARCH, SCHEDULER = BasicVariantGenerator(), ASHAScheduler(max_t=7)


def bounded(result):
    return [result["loss"] - 1]


#: field, its value, what it becomes in the plan (or in the settings that the backend is made of)
TUNE_FIELDS = {
    "metric": ("loss", lambda seen: seen.plan.metric == "loss"),
    "mode": ("min", lambda seen: seen.plan.mode == "min"),
    "search_alg": (SEARCH, lambda seen: seen.plan.searcher is SEARCH),
    "scheduler": (SCHEDULER, lambda seen: seen.plan.scheduler is SCHEDULER and SCHEDULER.metric == "loss"),
    "num_samples": (5, lambda seen: seen.plan.num_samples == 5 and seen.plan.total_samples == 5),
    "max_concurrent_trials": (3, lambda seen: seen.plan.max_concurrent == 3),
    "time_budget_s": (datetime.timedelta(seconds=9), lambda seen: seen.plan.time_budget_s == 9),
    "reuse_actors": (False, lambda seen: seen.settings.tune.reuse_actors is False),
    "trial_name_creator": (name_of, lambda seen: seen.plan.trial_name is name_of),
    "trial_dirname_creator": (name_of, lambda seen: seen.plan.trial_dirname is name_of),
    "seed": (4, lambda seen: seen.plan.seed == 4 and seen.plan.deterministic and seen.plan.trial_prefix == "s4"),
    "deterministic": (True, lambda seen: seen.plan.deterministic),
    "trial_time_limit_s": (8, lambda seen: seen.plan.limits.time_limit_s == 8),
    "trial_memory_limit": ("1kB", lambda seen: seen.plan.limits.memory_limit == 1000),
    "constraints": (bounded, lambda seen: seen.plan.constraints is bounded),
}
OBJECTIVE = {"metric": "loss", "mode": "min"}


@pytest.mark.parametrize("field", TUNE_FIELDS)
def test_field_of_tune_config(planned, field):
    value, arrived = TUNE_FIELDS[field]
    assert arrived(planned(tune.TuneConfig(**{**OBJECTIVE, field: value})))
    if field not in OBJECTIVE:
        assert not arrived(planned(tune.TuneConfig(**OBJECTIVE)))


PLATEAU, CALLBACK = TrialPlateauStopper("loss"), Halts(1)
FILES = object()


def reporter_of(seen):
    return [callback for callback in seen.plan.callbacks if type(callback).__name__ == "ProgressCallback"]


RUN_FIELDS = {
    "name": ("other", lambda seen, place: seen.plan.name == "other"),
    "storage_path": ("sub", lambda seen, place: seen.plan.directory.parent.name == "sub"),
    "failure_config": (
        tune.FailureConfig(max_failures=2),
        lambda seen, place: seen.plan.failures.max_failures == 2,
    ),
    "checkpoint_config": (
        tune.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="loss", checkpoint_score_order="min"),
        lambda seen, place: dataclasses.astuple(seen.plan.checkpoints) == (2, "loss", "min", 0, None),
    ),
    "verbose": (1, lambda seen, place: len(reporter_of(seen)) == 1),
    "stop": (PLATEAU, lambda seen, place: seen.plan.stopper is PLATEAU),
    "callbacks": ([CALLBACK], lambda seen, place: seen.plan.callbacks[0] is CALLBACK),
    "progress_reporter": (tune.CLIReporter(), lambda seen, place: len(reporter_of(seen)) == 1),
    "log_to_file": ("out", lambda seen, place: seen.settings.run.log_to_file == "out"),
}


@pytest.mark.parametrize("field", RUN_FIELDS)
def test_field_of_run_config(planned, runs_in, tmp_path, monkeypatch, field):
    monkeypatch.chdir(tmp_path)
    value, arrived = RUN_FIELDS[field]
    assert arrived(planned(run_config=runs_in(**{field: value})), tmp_path)
    assert not arrived(planned(run_config=runs_in()), tmp_path)


def test_every_field_has_a_test():
    def fields(kind):
        return {field.name for field in dataclasses.fields(kind)}

    assert fields(tune.TuneConfig) == set(TUNE_FIELDS)
    # these need a remote file system: test_run.py
    assert fields(tune.RunConfig) == set(RUN_FIELDS) | {"storage_filesystem", "sync_config"}


def test_tune_run_takes_every_field():
    arguments = set(inspect.signature(tune.run).parameters)
    known = {field.name for kind in (tune.TuneConfig, tune.RunConfig) for field in dataclasses.fields(kind)}
    assert known - {"failure_config"} <= arguments
    assert settings_of("tune.run(...)", square, max_failures=3).run.failure_config.max_failures == 3


def test_fields_of_failure_and_checkpoint_config_for_classes(planned, runs_in):
    class Saves(tune.Trainable):
        def step(self):
            return {"done": True}

    checkpoints = tune.CheckpointConfig(checkpoint_frequency=3, checkpoint_at_end=True)
    seen = planned(run_config=runs_in(checkpoint_config=checkpoints), trainable=Saves)
    assert (seen.plan.checkpoints.frequency, seen.plan.checkpoints.at_end) == (3, True)
    assert seen.plan.can_save is False
    seen = planned(run_config=runs_in(failure_config=tune.FailureConfig(fail_fast="raise")))
    assert seen.plan.failures.fail_fast == "raise"


# -- restoring


def halted(runs_in, trainable=square, **fields):
    """Run a sweep of four that halts after two, one after the other."""
    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search([1, 2, 3, 4])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, **OBJECTIVE, **fields),
        run_config=runs_in(callbacks=[Halts(2)]),
    )
    with pytest.raises(tune.errors.CallbackError):
        tuner.fit()


def test_restore_by_path_alone_goes_on(runs_in, tmp_path):
    halted(runs_in)
    path = tmp_path / "exp"
    before = tune.Tuner.restore(path).get_results()
    assert before.num_terminated == 2
    grid = tune.Tuner.restore(path, run_config=tune.RunConfig(verbose=0)).fit()
    assert [result.metrics["loss"] for result in grid] == [1, 4, 9, 16]


def test_restore_path_must_be_an_experiment(tmp_path):
    with pytest.raises(ExperimentNotFoundError):
        tune.Tuner.restore(tmp_path / "nowhere")
    with pytest.raises(ExperimentNotFoundError, match=r"tuner\.pkl"):
        tune.Tuner.restore(tmp_path)


def test_can_restore_path(runs_in, tmp_path):
    assert not tune.Tuner.can_restore(tmp_path)
    assert not tune.Tuner.can_restore(tmp_path / "nowhere")
    halted(runs_in)
    assert tune.Tuner.can_restore(tmp_path / "exp")


QUIET = tune.RunConfig(verbose=0)


def test_restore_trainable_replaces_the_saved_one(runs_in, tmp_path):
    halted(runs_in)
    grid = tune.Tuner.restore(tmp_path / "exp", lambda config: {"loss": -1}, run_config=QUIET).fit()
    assert [result.metrics["loss"] for result in grid] == [1, 4, -1, -1]


def test_restore_resume_unfinished_false_leaves_them(runs_in, tmp_path):
    halted(runs_in)
    grid = tune.Tuner.restore(tmp_path / "exp", resume_unfinished=False, run_config=QUIET).fit()
    assert [result.metrics.get("loss") for result in grid][:2] == [1, 4]
    assert len(grid) == 4


@pytest.mark.parametrize(
    ("arguments", "statuses"),
    [
        ({}, ["ERROR", "ERROR"]),
        ({"resume_errored": True}, ["TERMINATED", "TERMINATED"]),
        ({"restart_errored": True}, ["TERMINATED", "TERMINATED"]),
        ({"resume_config": tune.ResumeConfig(errored="restart")}, ["TERMINATED", "TERMINATED"]),
    ],
)
def test_restore_resume_errored_restart_errored_resume_config(runs_in, tmp_path, arguments, statuses):
    marker = tmp_path / "marker"
    tune.Tuner(fails_without(marker), param_space={"x": tune.grid_search([1, 2])}, run_config=runs_in()).fit()
    marker.touch()
    grid = tune.Tuner.restore(tmp_path / "exp", run_config=QUIET, **arguments).fit()
    assert [result.status for result in grid] == statuses


class Resumable(tune.Trainable):
    """Fails at its third step the first time; says where it began."""

    def setup(self, config):
        self.count = 0
        self.began = 0

    def step(self):
        self.count += 1
        if self.count == 3 and not Path(self.config["marker"]).exists():
            raise ZeroDivisionError("third step")
        return {"began": self.began, "done": self.count == 4}

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = self.began = checkpoint["count"]


@pytest.mark.parametrize(("how", "began"), [("resume_errored", 2), ("restart_errored", 0)])
def test_restore_resumes_from_a_checkpoint_or_restarts(runs_in, tmp_path, how, began):
    marker = tmp_path / "marker"
    run_config = runs_in(checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1))
    tune.Tuner(Resumable, param_space={"marker": str(marker)}, run_config=run_config).fit()
    marker.touch()
    result = tune.Tuner.restore(tmp_path / "exp", run_config=QUIET, **{how: True}).fit()[0]
    assert result.metrics["began"] == began
    assert result.metrics["training_iteration"] == 4


def test_restore_num_samples_param_space_and_tune_config_continue_it(runs_in, tmp_path):
    config = tune.TuneConfig(num_samples=2, **OBJECTIVE)
    tune.Tuner(square, param_space={"x": tune.uniform(0, 1)}, tune_config=config, run_config=runs_in()).fit()
    path = tmp_path / "exp"
    assert len(tune.Tuner.restore(path, num_samples=3, run_config=QUIET).fit()) == 3
    assert len(tune.Tuner.restore(path, num_samples="+2", run_config=QUIET).fit()) == 5
    grid = tune.Tuner.restore(path, num_samples="+1", param_space={"x": tune.uniform(5, 6)}, run_config=QUIET).fit()
    assert grid[5].config["x"] >= 5
    again = tune.TuneConfig(num_samples=8, **OBJECTIVE)
    grid = tune.Tuner.restore(path, tune_config=again, run_config=QUIET).fit()
    assert len(grid) == 8
    assert grid[7].config["x"] >= 5  # the changed space was kept


def test_restore_run_config_is_of_the_same_place(runs_in, tmp_path):
    halted(runs_in)
    with pytest.raises(ValueError, match="not the name of the restored"):
        tune.Tuner.restore(tmp_path / "exp", run_config=tune.RunConfig(name="other"))


def test_restore_storage_filesystem(runs_in, tmp_path):
    from tests.tune.test_run import Elsewhere

    place = tmp_path / "bucket"
    tune.Tuner(
        square, param_space={"x": 1}, run_config=runs_in(storage_path=place, storage_filesystem=Elsewhere())
    ).fit()
    assert tune.Tuner.can_restore(place / "exp", storage_filesystem=Elsewhere())
    tuner = tune.Tuner.restore(place / "exp", storage_filesystem=Elsewhere(), num_samples=2)
    assert len(tuner.get_results()) == 1
    assert len(tuner.fit()) == 2


@pytest.mark.parametrize(
    ("arguments", "say"),
    [
        ({"resume_errored": True, "restart_errored": True}, "contradict"),
        ({"resume_errored": "yes"}, "resume_errored"),
        ({"num_samples": 0}, "num_samples"),
        ({"param_space": 3}, "param_space"),
        ({"tune_config": {}}, "tune_config"),
    ],
)
def test_restore_mistakes(runs_in, tmp_path, arguments, say):
    halted(runs_in)
    with pytest.raises((TypeError, ValueError), match=say):
        tune.Tuner.restore(tmp_path / "exp", **arguments)


def test_every_argument_of_restore_has_a_test():
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    for function in (tune.Tuner.restore, tune.Tuner.can_restore, tune.Tuner):
        assert not [name for name in inspect.signature(function).parameters if name not in tests + FIELDS_TESTED]


#: arguments of `Tuner` that all tests use
FIELDS_TESTED = "param_space run_config tune_config trainable backend"


# -- experiments


def test_run_experiments(tmp_path, caplog):
    experiments = {
        "one": {"run": square, "config": {"x": 2}, "storage_path": tmp_path},
        "two": {"run": square, "config": {"x": tune.grid_search([3, 4])}, "storage_path": tmp_path},
    }
    for concurrent in (True, False):
        trials = tune.run_experiments(experiments, verbose=0, concurrent=concurrent)
        assert [trial.last_result["loss"] for trial in trials] == [4, 9, 16]
    assert (tmp_path / "one").is_dir()
    one = tune.Experiment("one", square, config={"x": 2}, storage_path=tmp_path)
    with caplog.at_level(logging.WARNING):
        assert len(tune.run_experiments(one, verbose=0, resume=True)) == 1
        assert len(tune.run_experiments([one], verbose=0)) == 1
