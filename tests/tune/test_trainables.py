"""What may be run (wrapped functions and classes, their data and resources), and what the environment changes."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import core
import tune
from tune.errors import TuneError


@pytest.fixture(scope="module", autouse=True)
def _session():
    core.init(num_cpus=2)
    yield
    core.shutdown()


@pytest.fixture
def run(tmp_path):
    def run(trainable, **arguments):
        return tune.run(trainable, **{"storage_path": tmp_path, "name": "exp", "verbose": 0, **arguments})

    return run


class Counted:
    """Counts how often it is pickled."""

    pickled = 0

    def __init__(self):
        self.data = list(range(1000))

    def __reduce__(self):
        Counted.pickled += 1
        return (Counted, ())


def total(config, data, array=None):
    return {"total": sum(data.data) + config["x"], "array": None if array is None else float(array.sum())}


def test_with_parameters_sends_large_values_once(run):
    Counted.pickled = 0
    array = np.ones(1_000_000)
    trainable = tune.with_parameters(total, data=Counted(), array=array)
    analysis = run(trainable, config={"x": tune.grid_search(list(range(6)))})
    assert [row["total"] for row in analysis.results.values()] == [499500 + x for x in range(6)]
    assert {row["array"] for row in analysis.results.values()} == {1e6}
    assert Counted.pickled < 6  # into the object store and into tuner.pkl, not into each of the six trials


class Summing(tune.Trainable):
    def setup(self, config, data=None):
        self.total = sum(data)

    def step(self):
        return {"total": self.total, "cpus": self.trial_resources.total["CPU"], "done": True}

    @classmethod
    def default_resource_request(cls, config):
        return tune.PlacementGroupFactory([{"CPU": config["cpus"]}])


def test_class_with_parameters_and_a_default_resource_request(run):
    trial = run(tune.with_parameters(Summing, data=[1, 2]), config={"cpus": 2}).trials[0]
    assert (trial.last_result["total"], trial.last_result["cpus"]) == (3, 2)


def test_resources_may_depend_on_the_config(run):
    trainable = tune.with_resources(cpus_of, lambda config: {"cpu": config["n"]})
    analysis = run(trainable, config={"n": tune.grid_search([1, 2])})
    assert [row["cpus"] for row in analysis.results.values()] == [1, 2]


def cpus_of(config):
    return {"cpus": tune.get_context().get_trial_resources().total["CPU"]}


def test_a_trial_that_nothing_has_room_for(run):
    analysis = run(cpus_of, resources_per_trial={"cpu": 64}, raise_on_failed_trial=False)
    assert str(analysis.trials[0].status) == "ERROR"
    assert "CPU" in analysis.trials[0].error.message


def test_partials_lambdas_and_bound_methods(run):
    assert run(functools.partial(total, data=Counted()), config={"x": 1}).trials[0].last_result["total"] == 499501
    assert run(lambda config: {"x": 1}).trials[0].last_result["x"] == 1
    assert run(Holder().train).trials[0].last_result["held"] == 7


class Holder:
    held = 7

    def train(self, config):
        return {"held": self.held}


def test_checkpoints_of_functions(run):
    analysis = run(saves, metric="step", mode="max")
    result = analysis.result_of(analysis.trials[0])
    with result.checkpoint.as_directory() as directory:
        assert Path(directory, "step").read_text() == "2"
    assert [numbers["step"] for _, numbers in result.best_checkpoints] == [0, 1, 2]
    assert result.get_best_checkpoint("step", "min").path.endswith("checkpoint_000000")
    assert analysis.best_checkpoint == result.checkpoint
    with pytest.raises(ValueError, match="step"):
        result.get_best_checkpoint("accuracy", "max")


def saves(config):
    for step in range(3):
        Path("saved").mkdir(exist_ok=True)
        Path("saved", "step").write_text(str(step))
        tune.report({"step": step}, checkpoint=tune.Checkpoint.from_directory("saved"))


def test_a_limit_of_the_searcher_and_of_the_sweep_must_agree(run):
    from tune.search import BasicVariantGenerator, ConcurrencyLimiter

    limited = ConcurrencyLimiter(BasicVariantGenerator(), max_concurrent=1)
    with pytest.raises(ValueError, match="contradicts"):
        run(cpus_of, search_alg=limited, max_concurrent_trials=2)


@pytest.mark.parametrize(
    ("arguments", "say"),
    [
        ({"search_alg": "optnua", "metric": "a", "mode": "min"}, "optuna"),
        ({"scheduler": "ahsa", "metric": "a", "mode": "min"}, "asha"),
        ({"search_alg": 3}, "search_alg must be"),
        ({"scheduler": 3}, "scheduler must be"),
        ({"scheduler": "asha"}, "metric"),
        ({"search_alg": "optuna"}, "metric"),
        ({"search_alg": "optuna", "metric": "a", "mode": "min", "config": {"x": tune.grid_search([1])}}, "grid_search"),
    ],
)
def test_deciders_that_do_not_fit(run, arguments, say):
    with pytest.raises((TypeError, ValueError), match=say):
        run(cpus_of, **{"config": {"x": tune.uniform(0, 1)}, **arguments})


def test_a_searcher_with_a_space_of_its_own(run):
    from tune.search.optuna import OptunaSearch

    search = OptunaSearch({"x": tune.uniform(0, 1)}, metric="cpus", mode="max")
    trial = run(cpus_of, search_alg=search, config={"fixed": 3}).trials[0]
    assert set(trial.config) == {"x", "fixed"}
    assert set(trial.evaluated_params) == {"x"}
    search = OptunaSearch({"x": tune.uniform(0, 1)}, metric="cpus", mode="max")
    with pytest.raises(ValueError, match="one of its own"):
        run(cpus_of, search_alg=search, config={"y": tune.uniform(0, 1)})


# -- the environment


def test_longest_names_of_directories(run, monkeypatch):
    space = {"a_parameter": tune.choice(["value"]), "another_parameter": tune.choice(["other"])}
    assert run(cpus_of, config=space).trials[0].dirname.endswith("a_parameter=value,another_parameter=other")
    monkeypatch.setenv("TUNE_MAX_LEN_IDENTIFIER", "40")
    assert len(run(cpus_of, config=space).trials[0].dirname) == 40
    monkeypatch.setenv("TUNE_MAX_LEN_IDENTIFIER", "forty")
    with pytest.raises(ValueError, match="TUNE_MAX_LEN_IDENTIFIER"):
        run(cpus_of, config=space)


def test_metrics_need_not_be_there(run, monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    assert str(run(cpus_of, metric="accuracy", mode="max").trials[0].status) == "TERMINATED"


def here(config):
    return {"here": os.getcwd()}


def test_where_trials_run(run, monkeypatch):
    trial = run(here).trials[0]
    assert trial.last_result["here"] == trial.local_path
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    trial = run(here).trials[0]
    assert trial.last_result["here"] != trial.local_path


NO_SESSION = """
import tune
try:
    tune.run(lambda config: {"a": 1}, storage_path=".", verbose=0)
except tune.TuneError as error:
    assert "core.init()" in str(error)
else:
    raise AssertionError
"""


def test_no_session_is_started(tmp_path):
    environment = {**os.environ, "TUNE_DISABLE_AUTO_INIT": "1"}
    subprocess.run([sys.executable, "-c", NO_SESSION], check=True, cwd=tmp_path, env=environment)
    assert issubclass(tune.errors.ExperimentNotFoundError, TuneError)
