"""Population based training: what it finds, what it writes, playing it back; PB2."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from packages.tune.tests.unit.scheduler_harness import Harness
from tune.schedulers import PB2, PopulationBasedTraining, PopulationBasedTrainingReplay
from tune.schedulers.base import Exploit
from tune.schedulers.pbt_explore import check_mutations, explore, fill
from tune.space import choice, loguniform, randint, sample_from, uniform
from tune.trial import Config

SETTINGS: dict[str, Any] = {"time_attr": "training_iteration", "metric": "score", "mode": "max"}


def quadratic(theta: Any, config: Config) -> tuple[Any, dict[str, Any]]:
    """Return a step on the PBT paper's toy: Q = 1.2 - |theta|^2 is wanted, a surrogate weighted by h is climbed."""
    theta = theta or (0.9, 0.9)
    rate = 0.01
    theta = tuple(value - 2 * rate * weight * value for value, weight in zip(theta, config["h"].values(), strict=True))
    return theta, {"score": 1.2 - sum(value**2 for value in theta)}


def narrowing(progress: Any, config: Config) -> tuple[Any, dict[str, Any]]:
    """Return a step on a toy whose best learning rate falls with progress: from 1e-1 at 0 to 1e-4 at 100.

    A step gains 1 at the best rate, less beside it, nothing a factor of ten away; so with the best schedule progress is
    the number of steps, and with any fixed rate it ends within a factor of ten of where the rate is best.
    """
    progress = progress or 0.0
    best = -1 - 3 * progress / 100
    progress += max(0.0, 1 - abs(math.log10(config["lr"]) - best))
    return progress, {"score": progress}


def population(
    scheduler: PopulationBasedTraining, configs: list[Config], advance: Any, length: int, **options: Any
) -> Harness:
    scheduler.set_search_properties(None, None, seed=0)
    harness = Harness(
        scheduler, configs, lambda _config, _trained: {}, places=len(configs), length=length, advance=advance, **options
    )
    for _ in range(length):
        for trial_id in list(harness.trials):
            if trial_id in harness.running:
                harness.step(trial_id)
        harness.settle()
    return harness


def best(harness: Harness) -> float:
    return max(trial.last_result["score"] for trial in harness.trials.values())


def test_on_the_papers_toy_two_trials_do_together_what_neither_can_alone() -> None:
    scheduler = PopulationBasedTraining(
        perturbation_interval=4,
        quantile_fraction=0.5,
        hyperparam_mutations={"h": {"a": uniform(0.0, 1.0), "b": uniform(0.0, 1.0)}},
        **SETTINGS,
    )
    together = population(scheduler, [{"h": {"a": 1.0, "b": 0.0}}, {"h": {"a": 0.0, "b": 1.0}}], quadratic, 200)
    alone = 0.0
    for h in ({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}):
        theta, result = None, {"score": 0.0}
        for _ in range(200):
            theta, result = quadratic(theta, {"h": h})
        alone = max(alone, result["score"])
    assert alone < 0.4
    assert best(together) > 1.1


@pytest.mark.parametrize("synch", [False, True])
@pytest.mark.parametrize("saves_each", [False, True])
def test_it_beats_the_best_fixed_setting_where_the_best_setting_changes(synch: bool, saves_each: bool) -> None:
    steps = 120
    fixed = 0.0
    for tenths in range(-45, -5):
        progress = None
        for _ in range(steps):
            progress, _ = narrowing(progress, {"lr": 10 ** (tenths / 10)})
        fixed = max(fixed, progress)
    scheduler = PopulationBasedTraining(
        perturbation_interval=3,
        hyperparam_mutations={"lr": loguniform(1e-5, 1.0)},
        perturbation_factors=(1.5, 0.67),
        synch=synch,
        **SETTINGS,
    )
    configs = [{"lr": 10 ** (-0.5 - index / 2)} for index in range(8)]
    harness = population(scheduler, configs, narrowing, steps, saves_each=saves_each)
    assert fixed < 70
    assert best(harness) > 1.2 * fixed


def test_a_replay_trains_as_the_best_trial_was_trained(tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        perturbation_interval=3, hyperparam_mutations={"lr": loguniform(1e-5, 1.0)}, synch=True, **SETTINGS
    )
    configs = [{"lr": 10 ** (-0.5 - index / 2), "other": index} for index in range(8)]
    harness = population(scheduler, configs, narrowing, 60)
    winner = max(harness.trials.values(), key=lambda trial: trial.last_result["score"])
    assert "pbt_global.txt" in harness.documents
    file = tmp_path / f"pbt_policy_{winner.trial_id}.txt"
    file.write_text(harness.documents[file.name])

    replay = PopulationBasedTrainingReplay(file)
    alone = Harness(replay, [{"other": 5}], lambda _config, _trained: {}, length=60, advance=narrowing)
    alone.run()
    [trial] = alone.trials.values()
    assert trial.last_result["score"] == pytest.approx(winner.last_result["score"])
    assert trial.config["lr"] == winner.config["lr"]
    assert trial.config["other"] == 5
    assert "changes made" in replay.debug_string()


def test_a_replay_reads_rays_files(tmp_path: Path) -> None:
    file = tmp_path / "pbt_policy_x.txt"
    file.write_text(
        '["a", "b", 5, 5, {"lr": 9}, {"lr": 8}]\n'  # overwritten by what follows, which does not go on from it
        '["c", "d", 10, 12, {"lr": 1}, {"lr": 2}]\n'
        '["x", "c", 20, 24, {"lr": 2}, {"lr": 3}]\n'
    )
    replay = PopulationBasedTrainingReplay(str(file))
    assert replay.config == {"lr": 1}
    harness = Harness(replay, [{}], lambda _config, _trained: {"score": 1}, length=30)
    changes = []
    while harness.running:
        harness.step("t0")
        changes = [(entry[2], entry[3].config) for entry in harness.log if entry[0] == "result"]
    assert changes == [(12, {"lr": 2}), (24, {"lr": 3})]


@pytest.mark.parametrize("text", ["{}\n", "[1, 2]\n", "no json\n"])
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.txt").write_text(text)
    with pytest.raises(ValueError, match="line 1"):
        PopulationBasedTrainingReplay(tmp_path / "policy.txt")
    with pytest.raises(ValueError, match="no policy file"):
        PopulationBasedTrainingReplay(tmp_path / "missing.txt")


def test_a_replay_has_one_trial(tmp_path: Path) -> None:
    (tmp_path / "policy.txt").write_text('["a", "b", 5, 5, {"lr": 9}, {"lr": 8}]\n')
    with pytest.raises(ValueError, match="one trial"):
        Harness(PopulationBasedTrainingReplay(tmp_path / "policy.txt"), [{}, {}], lambda _c, _t: {"score": 1})


def test_pb2_beats_the_best_fixed_setting_with_four_trials() -> None:
    scheduler = PB2(
        perturbation_interval=4, hyperparam_bounds={"lr": loguniform(1e-5, 1.0)}, quantile_fraction=0.5, **SETTINGS
    )
    harness = population(scheduler, [{"lr": 10.0**-power} for power in (0.5, 1.5, 2.5, 3.5)], narrowing, 120)
    assert best(harness) > 80  # any fixed setting: under 70
    assert all(1e-5 <= trial.config["lr"] <= 1.0 for trial in harness.trials.values())


def test_missing_attributes_are_an_error_unless_allowed() -> None:
    for require, expected in ((True, pytest.raises(RuntimeError, match="require_attrs=False")), (False, None)):
        scheduler = PopulationBasedTraining(
            perturbation_interval=2, hyperparam_mutations={"x": [1, 2]}, require_attrs=require, **SETTINGS
        )
        scheduler.set_search_properties(None, None)
        harness = Harness(scheduler, [{"x": 1}], lambda _config, _trained: {"other": 1}, length=5)
        if expected is None:
            harness.run()
        else:
            with expected:
                harness.run()


def test_custom_explore_fn_has_the_last_word_and_no_policy_is_written_without_log_config() -> None:
    def explored(config: Config) -> Config:
        return {**config, "x": 7}

    scheduler = PopulationBasedTraining(
        perturbation_interval=2, custom_explore_fn=explored, log_config=False, quantile_fraction=0.5, **SETTINGS
    )
    scheduler.set_search_properties(None, None, seed=0)
    harness = Harness(
        scheduler, [{"x": 1}, {"x": 2}], lambda config, _trained: {"score": config["x"]}, length=9, saves_each=True
    )
    harness.run()
    taken = [entry[3] for entry in harness.log if isinstance(entry[-1], Exploit)]
    assert taken
    assert all(decision.config == {"x": 7} for decision in taken)
    assert harness.documents == {}


def test_no_comparison_before_the_burn_in() -> None:
    scheduler = PopulationBasedTraining(
        perturbation_interval=2,
        burn_in_period=7,
        hyperparam_mutations={"x": [1, 2, 3]},
        quantile_fraction=0.5,
        **SETTINGS,
    )
    scheduler.set_search_properties(None, None, seed=0)
    harness = Harness(
        scheduler, [{"x": 1}, {"x": 3}], lambda config, _trained: {"score": config["x"]}, length=20, saves_each=True
    )
    harness.run()
    assert min(entry[2] for entry in harness.log if entry[0] == "result") == 7


def test_exploring() -> None:
    rng = random.Random(3)
    mutations = {
        "list": ["a", "b", "c"],
        "choice": choice([1, 2, 4]),
        "number": uniform(0.0, 1.0),
        "whole": randint(1, 100),
        "drawn": lambda: 5.0,
        "nested": {"deep": [1, 2]},
    }
    check_mutations("hyperparam_mutations", mutations)
    config = {"list": "b", "choice": 2, "number": 0.9, "whole": 10, "drawn": 1.0, "nested": {"deep": 1}, "kept": "k"}
    seen: dict[str, set[Any]] = {name: set() for name in config}
    for _ in range(200):
        changed, done = explore(config, mutations, 0.0, (1.2, 0.8), rng)
        for name, value in changed.items():
            seen[name].add(value if not isinstance(value, dict) else value["deep"])
        assert set(done) == set(mutations)
    assert seen == {
        "list": {"a", "c"},
        "choice": {1, 4},
        "number": {1.0, 0.9 * 0.8},  # within the domain's bounds
        "whole": {12, 8},
        "drawn": {1.2, 0.8},
        "nested": {1, 2},
        "kept": {"k"},
    }
    resampled = [explore(config, mutations, 1.0, (1.2, 0.8), rng)[0] for _ in range(50)]
    assert {one["drawn"] for one in resampled} == {5.0}
    assert len({one["number"] for one in resampled}) > 40
    assert config["nested"] == {"deep": 1}
    filled = fill({"kept": "k", "nested": {}}, mutations, rng)
    assert filled is not None
    assert set(filled) == set(config)
    assert fill(config, mutations, rng) is None


def test_bad_arguments_are_named() -> None:
    good: dict[str, Any] = {"hyperparam_mutations": {"x": [1, 2]}}
    for argument, value, error in (
        ("quantile_fraction", 0.6, ValueError),
        ("resample_probability", 2, ValueError),
        ("perturbation_interval", 0, ValueError),
        ("burn_in_period", -1, ValueError),
        ("perturbation_factors", (), ValueError),
        ("hyperparam_mutations", {"x": 3}, TypeError),
        ("hyperparam_mutations", {"x": []}, ValueError),
        ("hyperparam_mutations", {"x": sample_from(lambda: 1)}, ValueError),
    ):
        with pytest.raises(error, match=argument):
            PopulationBasedTraining(**{**good, argument: value})
    with pytest.raises(ValueError, match="nothing to explore by"):
        PopulationBasedTraining()
    with pytest.raises(ValueError, match="hyperparam_bounds"):
        PB2()
    with pytest.raises(TypeError, match="hyperparam_bounds"):
        PB2(hyperparam_bounds={"x": 3})
    with pytest.raises(ValueError, match="weights"):
        PB2(hyperparam_bounds={"x": [0, 1]}, metric=["a", "b"], mode="max")
