"""Going on: a killed driver, Ctrl-C, a finished sweep with more samples, another space, a longer ``max_t``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import core
import tune
from tests.eventually import eventually
from tune.controller.history import read_experiment
from tune.schedulers import ASHAScheduler


@pytest.fixture(scope="module", autouse=True)
def _session():
    core.init(num_cpus=2)
    yield
    core.shutdown()


def square(config):
    return {"loss": (config["x"] - 0.3) ** 2}


def ten(config):
    for step in range(1, 11):
        tune.report({"loss": config["x"] / step})


class Steps(tune.Trainable):
    def setup(self, config):
        self.count = 0

    def step(self):
        self.count += 1
        return {"loss": self.config["x"] / self.count, "count": self.count}

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]


@pytest.fixture
def run(tmp_path):
    def run(trainable, **arguments):
        quiet = {"storage_path": tmp_path, "name": "exp", "verbose": 0, "metric": "loss", "mode": "min"}
        return tune.run(trainable, **{**quiet, **arguments})

    return run


SPACE = {"x": tune.uniform(0, 1)}


def test_the_same_call_twice_is_the_same_sweep(run):
    first = run(square, config=SPACE, num_samples=4, resume=True)  # nothing to resume: it begins
    again = run(square, config=SPACE, num_samples=4, resume=True)
    assert [trial.config for trial in first.trials] == [trial.config for trial in again.trials]
    assert [trial.attempts for trial in again.trials] == [1] * 4


@pytest.mark.parametrize("search_alg", [None, "optuna"])
def test_more_samples_continue_the_very_sequence(run, search_alg):
    arguments = {"config": SPACE, "search_alg": search_alg, "seed": 7, "max_concurrent_trials": 1}
    whole = [trial.config for trial in run(square, num_samples=8, name="whole", **arguments).trials]
    run(square, num_samples=5, **arguments)
    parts = [trial.config for trial in run(square, num_samples="+3", resume=True, **arguments).trials]
    assert parts == whole


def test_less_samples_change_nothing(run):
    run(square, config=SPACE, num_samples=3)
    assert len(run(square, config=SPACE, resume=True).trials) == 3


def test_a_grid_is_repeated_more_often(run):
    space = {"x": tune.grid_search([1, 2])}
    run(square, config=space, num_samples=1)
    trials = run(square, config=space, num_samples=2, resume=True).trials
    assert [trial.config["x"] for trial in trials] == [1, 2, 1, 2]


def test_the_space_may_change(run):
    run(square, config=SPACE, num_samples=3, search_alg="optuna")
    trials = run(square, config={"x": tune.uniform(5, 6)}, num_samples="+3", search_alg="optuna", resume=True).trials
    assert all(trial.config["x"] < 1 for trial in trials[:3])
    assert all(trial.config["x"] > 5 for trial in trials[3:])


class HaltsAfter(tune.Callback):
    """Ends the sweep with an error when so many trials have ended, as a crash would."""

    def __init__(self, trials):
        self.left = trials

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("halt")


@pytest.mark.parametrize("search_alg", ["random", "bohb", "optuna", "nevergrad"])
def test_a_changed_constant_takes_no_trials_away(run, search_alg):
    searched = {"x": tune.grid_search([1, 2, 3, 4])} if search_alg == "random" else SPACE
    settings = {"num_samples": 1 if search_alg == "random" else 4, "max_concurrent_trials": 1, "search_alg": search_alg}
    with pytest.raises(tune.errors.CallbackError):
        run(square, config={**searched, "constant": 1}, callbacks=[HaltsAfter(2)], **settings)
    trials = run(square, config={**searched, "constant": 2}, resume=True, **settings).trials
    assert [trial.config["constant"] for trial in trials] in ([1, 1, 2, 2], [1, 1, 1, 2])  # one may have been made
    if search_alg == "random":
        assert [trial.config["x"] for trial in trials] == [1, 2, 3, 4]


def test_a_longer_max_t_goes_on_with_the_finished_trials(run):
    def asha(max_t):
        return ASHAScheduler(max_t=max_t, grace_period=1, reduction_factor=2)

    first = run(Steps, config=SPACE, num_samples=6, scheduler=asha(4))
    assert max(trial.iteration for trial in first.trials) == 4
    again = run(Steps, config=SPACE, num_samples=6, scheduler=asha(8), resume=True)
    assert max(trial.iteration for trial in again.trials) == 8
    best = max(again.trials, key=lambda trial: trial.iteration)
    assert best.last_result["count"] == 8  # from its checkpoint


def test_resuming_needs_a_name(run):
    with pytest.raises(ValueError, match="pass name="):
        run(square, config=SPACE, name=None, resume=True)


def test_adding_to_nothing(run):
    with pytest.raises(ValueError, match="there is none"):
        run(square, config=SPACE, num_samples="+3")


def fails_without(marker):
    def trainable(config):
        if not os.path.exists(marker) and config["x"] == 1:
            raise ZeroDivisionError
        return {"loss": config["x"]}

    return trainable


@pytest.mark.parametrize("resume", ["AUTO+ERRORED", "AUTO+RESTART_ERRORED", "AUTO+ERRORED_ONLY"])
def test_errored_trials_may_be_tried_again(run, tmp_path, resume):
    trainable = fails_without(str(tmp_path / "marker"))
    space = {"x": tune.grid_search([0, 1])}
    run(trainable, config=space, raise_on_failed_trial=False)
    same = run(trainable, config=space, resume=True, raise_on_failed_trial=False)
    assert [str(trial.status) for trial in same.trials] == ["TERMINATED", "ERROR"]
    (tmp_path / "marker").touch()
    again = run(trainable, config=space, resume=resume)
    assert [str(trial.status) for trial in again.trials] == ["TERMINATED", "TERMINATED"]
    assert [trial.attempts for trial in again.trials] == [1, 2]


#: a driver of its own: runs 12 trials and says how many were done
DRIVER = """
import sys, core, tune
from pathlib import Path

def slow(config):
    import time
    for step in range(3):
        time.sleep(0.03)
        tune.report({"loss": config["x"] + step})
    with open(sys.argv[2], "a") as log:  # who was run to the end
        log.write(tune.get_context().get_trial_id() + "\\n")

core.init(num_cpus=2)
analysis = tune.run(
    slow, config={"x": tune.uniform(0, 1)}, num_samples=12, metric="loss", mode="min", seed=3,
    storage_path=sys.argv[1], name="exp", resume=True, verbose=0,
)
print(len(analysis.trials), analysis.state)
core.shutdown()
"""


def driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("sys.argv[2]", repr(str(tmp_path / "ended"))))
    return [sys.executable, str(script), str(tmp_path)]


def ended(tmp_path):
    log = tmp_path / "ended"
    return log.read_text().split() if log.exists() else []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_ended_loses_nothing(tmp_path, number):
    process = subprocess.Popen(driver(tmp_path), stdout=subprocess.PIPE, text=True)
    eventually(lambda: len(ended(tmp_path)) >= 3, 30)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    if number != signal.SIGKILL:
        assert "interrupted" in output
    before = read_experiment(tmp_path / "exp").trials
    assert any(not trial.status.finished for trial in before) or len(before) < 12
    output = subprocess.run(driver(tmp_path), capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.split() == ["12", "complete"]
    trials = read_experiment(tmp_path / "exp").trials
    assert [str(trial.status) for trial in trials] == ["TERMINATED"] * 12
    assert [trial.iteration for trial in trials] == [3] * 12
    finished_before = [trial.trial_id for trial in before if trial.status.finished]
    assert [trial.attempts for trial in trials if trial.trial_id in finished_before] == [1] * len(finished_before)
    rows = [len(Path(trial.local_path, "result.json").read_text().splitlines()) for trial in trials]
    assert rows == [3] * 12
    assert json.loads((tmp_path / "exp" / "experiment.json").read_text())


def test_two_drivers_do_not_run_the_same_experiment(tmp_path):
    process = subprocess.Popen(driver(tmp_path), stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: len(ended(tmp_path)) >= 1, 30)
        with pytest.raises(tune.errors.ExperimentInUseError, match=str(process.pid)):
            tune.run(square, config=SPACE, storage_path=tmp_path, name="exp", resume=True, verbose=0)
        with pytest.raises(tune.errors.ExperimentInUseError):
            tune.run(square, config=SPACE, storage_path=tmp_path, name="exp", verbose=0)
    finally:
        process.communicate(timeout=60)
