"""OptunaSearch: the same as Optuna's own loop, and what Ray's adds to it."""

from __future__ import annotations

import math
from typing import Any

import cloudpickle
import optuna
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tune import space as s
from tune.search import OptunaSearch, Searcher
from tune.search.samplers import SAMPLERS, make_sampler, quiet

optuna.logging.set_verbosity(optuna.logging.WARNING)


def modern_tpe(**arguments: Any) -> optuna.samplers.TPESampler:
    """Optuna 5's default, also with Optuna 4, where these were experimental."""
    with quiet():
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, **arguments)


SPACE = {
    "x": s.uniform(-5, 10),
    "lr": s.loguniform(1e-5, 1),
    "n": s.randint(1, 9),
    "q": s.quniform(0, 1, 0.1),
    "c": s.choice(["a", "b", "c"]),
}


def loss(config: dict) -> float:
    return (config["x"] - 2) ** 2 + abs(math.log10(config["lr"]) + 3) + config["n"] + config["q"] - (config["c"] == "b")


def suggest_all(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "x": trial.suggest_float("x", -5, 10),
        "lr": trial.suggest_float("lr", 1e-5, 1, log=True),
        "n": trial.suggest_int("n", 1, 8),
        "q": trial.suggest_float("q", 0, 1, step=0.1),
        "c": trial.suggest_categorical("c", ["a", "b", "c"]),
    }


def searched(searcher: OptunaSearch, count: int, mode: str = "min", space: Any = SPACE, **spec: Any) -> list[dict]:
    assert searcher.set_search_properties("loss", mode, space, **spec)
    configs = []
    for number in range(count):
        config = searcher.suggest(f"t{number}")
        if config is Searcher.FINISHED:
            break
        configs.append(config)
        value = loss(config) if mode == "min" else -loss(config)
        searcher.on_trial_complete(f"t{number}", {"loss": value, "training_iteration": 1})
    return configs


# ------------------------------------------------------------------------------------------------------------ parity


def optunas_own(sampler: optuna.samplers.BaseSampler, count: int, direction: str = "minimize") -> list[dict]:
    study = optuna.create_study(sampler=sampler, direction=direction)
    sign = 1 if direction == "minimize" else -1
    study.optimize(lambda trial: sign * loss(suggest_all(trial)), n_trials=count)
    return [trial.params for trial in study.trials]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None, phases=(Phase.generate,))
def test_with_one_seed_the_sequence_is_optunas_own(seed: int) -> None:
    """The strongest statement of parity: not merely as good, the very same configurations."""
    theirs = optunas_own(modern_tpe(seed=seed), 40)
    assert searched(OptunaSearch(seed=seed), 40) == theirs
    assert searched(OptunaSearch(), 40, seed=seed) == theirs
    assert searched(OptunaSearch(suggest_all), 40, space={}, seed=seed) == theirs


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("random", optuna.samplers.RandomSampler),
        ("nsgaii", optuna.samplers.NSGAIISampler),
        ("tpe", modern_tpe),
    ],
)
def test_so_it_is_with_samplers_by_name_and_by_instance(name: str, kind: Any) -> None:
    theirs = optunas_own(kind(seed=3), 60, "maximize")
    assert searched(OptunaSearch(sampler=name, seed=3), 60, "max") == theirs
    assert searched(OptunaSearch(sampler=kind(seed=3)), 60, "max") == theirs


def test_so_it_is_with_several_objectives() -> None:
    def both(config: dict) -> tuple[float, float]:
        return loss(config), config["x"]

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1), directions=["minimize", "maximize"])
    study.optimize(lambda trial: both(suggest_all(trial)), n_trials=40)
    searcher = OptunaSearch(metric=["loss", "x"], mode=["min", "max"], seed=1)
    searcher.set_search_properties(None, None, SPACE)
    configs = []
    for number in range(40):
        configs.append(searcher.suggest(str(number)))
        values = both(configs[-1])
        searcher.on_trial_complete(str(number), {"loss": values[0], "x": values[1]})
    assert configs == [trial.params for trial in study.trials]


# --------------------------------------------------------------------------------------------------------- the study


def study_of(searcher: OptunaSearch) -> optuna.Study:
    return searcher._known_study()


def test_failures_are_told_as_failures() -> None:
    searcher = OptunaSearch(seed=0)
    searcher.set_search_properties("loss", "min", SPACE)
    ends: list[tuple[Any, bool]] = [
        ({"loss": 1.0}, False),
        ({"loss": 1.0}, True),
        (None, False),
        ({"loss": math.nan}, False),
        ({"loss": "x"}, False),
    ]
    for number, (result, error) in enumerate(ends):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), result, error)
    states = [trial.state.name for trial in study_of(searcher).trials]
    assert states == ["COMPLETE", "FAIL", "FAIL", "FAIL", "FAIL"]


def test_running_trials_are_liars() -> None:
    """Eight at a time must not suggest the same: TPE's constant liar sees those that run."""
    searcher = OptunaSearch(seed=0)
    searched(searcher, 30, space={"x": s.uniform(0, 1)} | SPACE)
    xs = [searcher.suggest(f"parallel {number}")["x"] for number in range(8)]
    assert len({round(x, 6) for x in xs}) == 8


def test_a_storage_keeps_the_study_and_the_learning_curves(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    for attempt in (1, 2):
        searcher = OptunaSearch(storage=url, study_name="mine", seed=attempt)
        searcher.set_search_properties("loss", "min", SPACE)
        searcher.suggest("t0")
        for step, value in enumerate([3.0, 2.0, math.nan, 1.0], start=1):
            searcher.on_trial_result("t0", {"loss": value, "training_iteration": step})
        searcher.on_trial_complete("t0", {"loss": 1.0})
        copy = cloudpickle.loads(cloudpickle.dumps(searcher))
        copy.suggest("t1")
        kept = optuna.load_study(study_name="mine", storage=url)
        assert len(kept.trials) == 2 * attempt
        assert kept.trials[-2].intermediate_values == {1: 3.0, 2: 2.0, 4: 1.0}
        for study in (study_of(searcher), study_of(copy), kept):
            study._storage.remove_session()
            study._storage._backend.engine.dispose()


def test_points_with_known_values_are_not_run() -> None:
    points = [{"x": 1.0, "lr": 0.1, "n": 2, "q": 0.5, "c": "a"}, {"x": 2.0, "lr": 0.2, "n": 3, "q": 0.6, "c": "b"}]
    searcher = OptunaSearch(points_to_evaluate=points, evaluated_rewards=[4.0, 5.0], seed=0)
    searcher.set_search_properties("loss", "min", SPACE)
    searcher.add_evaluated_point(points[0] | {"n": 7}, 6.0)
    searcher.add_evaluated_point(points[0], math.nan)
    searcher.add_evaluated_point(points[0], 7.0, pruned=True, intermediate_values=[9.0, 8.0])
    trials = study_of(searcher).trials
    assert [trial.values for trial in trials] == [[4.0], [5.0], [6.0], None, [7.0]]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3 + ["FAIL", "PRUNED"]
    assert trials[1].params == points[1]
    assert trials[4].intermediate_values == {1: 9.0, 2: 8.0}
    assert searcher.suggest("t0") not in points
    with pytest.raises(ValueError, match="'n' is missing"):
        searcher.add_evaluated_point({"x": 1.0, "lr": 0.1}, 1.0)
    with pytest.raises(ValueError, match="'x': 99 is not in"):
        searcher.add_evaluated_point(points[0] | {"x": 99}, 1.0)
    with pytest.raises(ValueError, match="2 points_to_evaluate but 1 evaluated_rewards"):
        OptunaSearch(points_to_evaluate=points, evaluated_rewards=[1.0])


def test_known_values_of_conditional_and_define_by_run_spaces() -> None:
    space = {"m": s.choice([{"k": "a", "x": s.uniform(0, 1)}, {"k": "b"}])}
    searcher = OptunaSearch(space, "loss", "min")
    searcher.add_evaluated_point({"m": {"k": "a", "x": 0.5}}, 1.0)
    searcher.add_evaluated_point({"m": {"k": "b"}}, 2.0)
    assert [trial.params for trial in study_of(searcher).trials] == [{"m": "a", "m/a/x": 0.5}, {"m": "b"}]
    by_run = OptunaSearch(suggest_all, "loss", "min")
    point = {"x": 1.0, "lr": 0.1, "n": 2, "q": 0.5, "c": "a"}
    by_run.add_evaluated_point(point, 1.0)
    assert study_of(by_run).trials[0].params == point
    with pytest.raises(ValueError, match="'lr' is missing"):
        by_run.add_evaluated_point({"x": 1.0}, 1.0)


def test_a_space_of_optunas_distributions() -> None:
    space = {"a/b": optuna.distributions.FloatDistribution(0, 1), "n": optuna.distributions.IntDistribution(1, 3)}
    config = OptunaSearch(space, "loss", "min", seed=1).suggest("t0")
    assert 0 <= config["a/b"] <= 1
    assert config["n"] in {1, 2, 3}


def test_an_error_in_a_space_is_the_users_and_leaves_no_running_trial() -> None:
    def broken(trial: optuna.Trial) -> None:
        trial.suggest_float("x", 0, 1)
        raise RuntimeError("mine")

    searcher = OptunaSearch(broken, "loss", "min")
    with pytest.raises(RuntimeError, match="mine"):
        searcher.suggest("t0")
    assert [trial.state.name for trial in study_of(searcher).trials] == ["FAIL"]


# ------------------------------------------------------------------------------------------------------- constraints


def constrained(constraints: Any, own: Any = None) -> OptunaSearch:
    searcher = OptunaSearch(seed=0, constraints=own)
    searcher.set_search_properties("loss", "min", {"x": s.uniform(0, 1)}, constraints=constraints)
    for number in range(60):
        x = searcher.suggest(str(number))["x"]
        searcher.on_trial_complete(str(number), {"loss": x, "latency": 1 - x})
    return searcher


@pytest.mark.parametrize(
    "constraints",
    [
        {"latency": 0.4},
        {"latency": (None, 0.4)},
        {"latency": (-5, 0.4)},
        lambda result: result["latency"] - 0.4,
        lambda result: [result["latency"] - 0.4, -1.0],
    ],
)
def test_constraints_move_the_search_to_what_keeps_them(constraints: Any) -> None:
    """The loss is least at 0, but only x >= 0.6 keeps the constraint: without it the search goes to 0."""
    for searcher in (constrained(constraints), constrained(None, own=constraints)):
        late = [trial.params["x"] for trial in study_of(searcher).trials[30:]]
        assert sum(x >= 0.6 for x in late) > len(late) / 2
        assert 0.6 <= study_of(searcher).best_trial.params["x"] < 0.65
    free = [trial.params["x"] for trial in study_of(constrained(None)).trials[30:]]
    assert sum(x >= 0.6 for x in free) < len(free) / 4


def test_a_trial_without_a_constrained_metric_failed() -> None:
    searcher = OptunaSearch({"x": s.uniform(0, 1)}, "loss", "min", constraints={"latency": 1})
    searcher.suggest("t0")
    searcher.on_trial_complete("t0", {"loss": 1.0})
    assert study_of(searcher).trials[0].state.name == "FAIL"


@pytest.mark.parametrize(
    ("constraints", "error"),
    [([1], TypeError), ({"a": "x"}, ValueError), ({"a": (None, None)}, ValueError), ({"a": math.nan}, ValueError)],
)
def test_constraints_that_are_none_are_refused(constraints: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="constraints"):
        OptunaSearch(constraints=constraints)


# ---------------------------------------------------------------------------------------------------------- samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_be_made(name: str) -> None:
    if name == "gp":
        pytest.importorskip("torch", reason="PyTorch is optional and not installed")
    space = s.SearchSpace({"c": s.choice([1, 2]), "n": s.qrandint(2, 6, 2), "q": s.quniform(0, 1, 0.5)})
    sampler = make_sampler(name, seed=2**40, objectives=1, space=space)
    study = optuna.create_study(sampler=sampler)
    trial = study.ask(s.to_distributions(space))
    assert set(trial.params) == {"c", "n", "q"}


def test_a_sampler_that_is_none() -> None:
    with pytest.raises(ValueError, match="there is no sampler 'best'"):
        OptunaSearch(sampler="best")


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune.search.samplers.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'skate-tune\[cmaes\]'"):
        OptunaSearch(sampler="cmaes")


@pytest.mark.parametrize("name", ["grid", "bruteforce"])
def test_a_whole_grid_is_searched_once_and_then_it_is_finished(name: str) -> None:
    space = {"c": s.choice(["a", "b"]), "n": s.randint(1, 4), "o": s.choice([[1], [2]])}
    searcher = OptunaSearch(sampler=name, seed=0)
    assert searcher.set_search_properties("loss", "min", space)
    configs = []
    while (config := searcher.suggest(str(len(configs)))) is not Searcher.FINISHED:
        configs.append(repr(config))
        searcher.on_trial_complete(str(len(configs) - 1), {"loss": 1.0})
        assert len(configs) <= 12
    assert len(set(configs)) == 12
    if name == "grid":
        with pytest.raises(ValueError, match=r"'grid' cannot search 'x'.*infinitely many"):
            OptunaSearch(sampler="grid").set_search_properties("loss", "min", {"x": s.uniform(0, 1)})
        with pytest.raises(TypeError, match="'bruteforce' can"):
            OptunaSearch(sampler="grid").set_search_properties("loss", "min", suggest_all)


@pytest.mark.slow  # it imports torch
def test_the_gaussian_process_searches() -> None:
    pytest.importorskip("torch", reason="PyTorch is optional and not installed")
    searcher = OptunaSearch(sampler="gp", seed=0)
    searched(searcher, 12, space=SPACE)
    assert len(study_of(searcher).trials) == 12


# ------------------------------------------------------------------------------------------------------- conditional


def test_a_conditional_space_is_learned() -> None:
    """One option is better, and best at one value of its own parameter; the other has a parameter of the same name."""
    space = {"m": s.choice([{"k": "bad", "x": s.uniform(0, 1)}, {"k": "good", "x": s.uniform(10, 20)}])}
    searcher = OptunaSearch(space, "loss", "min", seed=0)
    late = []
    for number in range(80):
        model = searcher.suggest(str(number))["m"]
        value = 5.0 if model["k"] == "bad" else abs(model["x"] - 13)
        searcher.on_trial_complete(str(number), {"loss": value})
        late.append((model["k"], value))
    assert sum(kind == "good" for kind, _ in late[40:]) > 30
    assert min(value for _, value in late) < 0.2
    assert set(study_of(searcher).best_trial.params) == {"m", "m/good/x"}


# ------------------------------------------------------------------------------------------------------------ extend


def test_what_was_learned_stays_in_a_changed_space() -> None:
    searcher = OptunaSearch(seed=0)
    searched(searcher, 30)
    searcher.extend(10, SPACE | {"x": s.uniform(-5, 3)})
    assert len(study_of(searcher).trials) == 30
    assert searcher.suggest("wider")["x"] <= 3
    searcher.on_trial_complete("wider", {"loss": 1.0})
    kept = sum(trial.params["c"] != "c" for trial in study_of(searcher).trials)
    searcher.extend(10, SPACE | {"c": s.choice(["a", "b", "new"])})
    assert len(study_of(searcher).trials) == kept
    assert {searcher.suggest(f"more{number}")["c"] for number in range(20)} <= {"a", "b", "new"}
    before = {trial.params["x"] for trial in study_of(searcher).trials[:kept]}
    assert all(trial.params["x"] not in before for trial in study_of(searcher).trials[kept:])


def test_changes_that_cannot_be_are_refused(tmp_path) -> None:
    own = OptunaSearch(sampler=optuna.samplers.TPESampler(seed=0))
    searched(own, 3)
    with pytest.raises(ValueError, match="sampler given as an instance"):
        own.extend(1, SPACE | {"c": s.choice(["z"])})
    stored = OptunaSearch(storage=optuna.storages.InMemoryStorage())
    searched(stored, 3)
    with pytest.raises(ValueError, match=r"choices of \['c'\] cannot change"):
        stored.extend(1, SPACE | {"c": s.choice(["z"])})
