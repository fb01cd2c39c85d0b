"""How arguments become one record: coercions, contradictions, what can be resumed, what can be saved."""

from __future__ import annotations

import threading

import pytest

import tune
from tune.api import saved_settings
from tune.api.configs import ResumeConfig
from tune.api.earlier import Earlier
from tune.api.planning import total_samples_wanted
from tune.api.registry import environments, get_env_creator, register_env, register_trainable, trainables
from tune.api.settings import check_export_formats, check_space, resume_plan, settings_of
from tune.controller.plan import ResumePlan
from tune.errors import ExperimentNotFoundError, TuneError


def objective(config):
    return {"loss": config["x"]}


@pytest.mark.parametrize(
    ("resume", "config", "plan"),
    [
        (None, None, None),
        (False, None, None),
        (True, None, ResumePlan()),
        ("AUTO", None, ResumePlan()),
        ("AUTO+ERRORED", None, ResumePlan(errored="RESUME")),
        ("AUTO+RESTART_ERRORED", None, ResumePlan(errored="RESTART")),
        ("AUTO+ERRORED_ONLY", None, ResumePlan(unfinished="SKIP", errored="RESUME")),
        ("AUTO+RESTART_ERRORED_ONLY", None, ResumePlan(unfinished="SKIP", errored="RESTART")),
        (None, ResumeConfig(finished="restart"), ResumePlan(finished="RESTART")),
        (True, ResumeConfig(errored="resume"), ResumePlan(errored="RESUME")),
    ],
)
def test_what_resuming_means(resume, config, plan) -> None:
    assert resume_plan(resume, config) == plan


@pytest.mark.parametrize(
    ("resume", "config", "say"),
    [
        ("LOCAL", None, "'AUTO'"),
        ("AUTO+ERORED", None, "Did you mean 'ERRORED'"),
        (3, None, "resume must be"),
        (False, ResumeConfig(), "leave out one"),
        ("AUTO+ERRORED", ResumeConfig(), "both say how"),
        (True, {"errored": "resume"}, "resume_config"),
    ],
)
def test_what_resuming_cannot_mean(resume, config, say) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        resume_plan(resume, config)


def test_samples_of_a_resumed_sweep_are_a_total_or_so_many_more() -> None:
    earlier = Earlier(100, None)
    assert total_samples_wanted(50, None) == 50
    assert total_samples_wanted(150, earlier) == 150
    assert total_samples_wanted(1, earlier) == 100
    assert total_samples_wanted("+50", earlier) == 150
    assert total_samples_wanted(-1, earlier) == -1
    assert total_samples_wanted("+50", Earlier(-1, None)) == -1
    assert total_samples_wanted(10, Earlier(-1, None)) == -1
    with pytest.raises(ValueError, match="there is none"):
        total_samples_wanted("+50", None)


def test_a_trainable_may_be_named() -> None:
    register_trainable("mine", objective)
    assert settings_of("tune.run(...)", "mine").trainable is objective
    with pytest.raises(ValueError, match="Did you mean 'mine'"):
        settings_of("tune.run(...)", "mien")
    with pytest.raises(TypeError):
        register_trainable("other", 3)
    with pytest.raises(ValueError, match="empty"):
        register_trainable("", objective)
    assert trainables.find("mine") is objective


def test_environments_are_named() -> None:
    register_env("maze", dict)
    assert get_env_creator("maze") is dict
    assert environments.find("maze") is dict
    with pytest.raises(ValueError, match=r"tune\.register_env"):
        get_env_creator("labyrinth")
    with pytest.raises(TypeError):
        register_env("maze", 3)


class NoTrainable:
    pass


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: settings_of("tune.run(...)", 3), "the trainable must be a function"),
        (lambda: settings_of("tune.run(...)", NoTrainable), "must derive from tune.Trainable"),
        (lambda: settings_of("tune.run(...)", objective, config=[1]), "config must be a dict"),
        (lambda: settings_of("tune.run(...)", objective, config={1: 2}), "names as keys"),
        (lambda: settings_of("tune.run(...)", objective, resources_per_trial=3), "resources must be"),
        (lambda: settings_of("tune.run(...)", objective, export_formats="onnx"), "export_formats"),
        (lambda: settings_of("tune.run(...)", objective, max_failures=1, fail_fast=True), "contradict"),
        (
            lambda: settings_of(
                "tune.run(...)", tune.with_resources(objective, {"cpu": 2}), resources_per_trial={"cpu": 1}
            ),
            "contradicts what tune.with_resources",
        ),
        (lambda: tune.Tuner(objective, tune_config={"num_samples": 3}), "tune_config must be"),
        (lambda: tune.Tuner(objective, run_config=tune.TuneConfig()), "run_config must be"),
        (lambda: tune.Tuner(objective, param_space=3), "param_space must be a dict"),
    ],
)
def test_mistakes_are_told_at_the_call(make, say) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        make()


class ConfigObject:
    def to_dict(self):
        return {"x": 1}


def test_spaces() -> None:
    assert check_space("config", None) == {}
    assert check_space("config", ConfigObject()) == {"x": 1}
    assert check_space("config", objective) is objective
    assert check_export_formats(None) == ()
    assert check_export_formats(["onnx"]) == ("onnx",)


def test_experiments_are_checked_when_they_are_made() -> None:
    experiment = tune.Experiment("name", objective, num_samples=3, config={"x": 1})
    assert experiment.name == "name"
    assert experiment.spec == {"name": "name", "num_samples": 3, "config": {"x": 1}}
    assert "name" in repr(experiment)
    with pytest.raises(ValueError, match="num_samples"):
        tune.Experiment("name", objective, num_samples=0)
    made = tune.Experiment.from_json(
        "other", {"run": objective, "checkpoint_config": {"num_to_keep": 2}, "sync_config": {"sync_period": 1}}
    )
    assert made.spec["checkpoint_config"] == tune.CheckpointConfig(num_to_keep=2)
    with pytest.raises(ValueError, match="'run'"):
        tune.Experiment.from_json("other", {})
    with pytest.raises(TypeError, match="Did you mean 'num_samples'"):
        tune.Experiment.from_json("other", {"run": objective, "num_sample": 2})
    with pytest.raises(TypeError, match="experiments must be"):
        tune.run_experiments([objective])


def test_settings_survive_in_a_directory(tmp_path) -> None:
    settings = settings_of(
        "tune.run(...)",
        tune.with_parameters(objective_with_data, data=[1, 2]),
        config={"x": tune.uniform(0, 1)},
        num_samples=7,
        stop={"loss": 1},
        resources_per_trial={"cpu": 2},
        restore="somewhere",
        metric="loss",
        mode="min",
    )
    saved_settings.write(settings, tmp_path)
    assert saved_settings.exists(tmp_path)
    read = saved_settings.read(tmp_path, "Tuner.restore(...)")
    assert read.trainable({"x": 1}) == {"loss": 4}
    assert read.space == settings.space
    assert (read.tune, read.resources, read.restore) == (settings.tune, settings.resources, "somewhere")
    assert (read.run, read.caller) == (settings.run, "Tuner.restore(...)")
    assert saved_settings.packed_part(tmp_path, "param_space") is not None
    replaced = saved_settings.read(tmp_path, "here", trainable=objective)
    assert replaced.trainable is objective


def objective_with_data(config, data):
    return {"loss": config["x"] + sum(data)}


def test_what_does_not_pickle_is_asked_for_again(tmp_path, caplog) -> None:
    lock = threading.Lock()
    settings = settings_of("tune.run(...)", lambda config: {"loss": bool(lock)}, config={"x": 1})
    saved_settings.write(settings, tmp_path)
    with pytest.raises(TuneError, match="trainable could not be saved"):
        saved_settings.read(tmp_path, "here")
    assert saved_settings.read(tmp_path, "here", trainable=objective).space == {"x": 1}


def test_a_directory_without_settings(tmp_path) -> None:
    with pytest.raises(ExperimentNotFoundError):
        saved_settings.read(tmp_path, "here")
    (tmp_path / "tuner.pkl").write_bytes(b"garbage")
    with pytest.raises(TuneError, match="cannot be read"):
        saved_settings.read(tmp_path, "here")
