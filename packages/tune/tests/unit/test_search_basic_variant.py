"""Random and grid search."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune import space as s
from tune.search import BasicVariantGenerator, Searcher


def made(space: object, samples: int = 1, seed: int | None = 0, **arguments: object) -> BasicVariantGenerator:
    searcher = BasicVariantGenerator(**arguments)
    assert searcher.set_search_properties(None, None, space, num_samples=samples, seed=seed)
    return searcher


def everything(searcher: BasicVariantGenerator) -> list[dict]:
    found = []
    while (config := searcher.suggest(f"t{len(found)}")) is not Searcher.FINISHED:
        found.append(config)
    return found


@given(st.integers(1, 30), st.integers(0, 100), st.integers(0, 29))
def test_configuration_i_depends_on_the_seed_and_i_alone(samples: int, seed: int, moment: int) -> None:
    space = {"x": s.uniform(0, 1), "g": s.grid_search([1, 2]), "y": s.randn()}
    whole = everything(made(space, samples, seed))
    assert whole == everything(made(space, samples + 5, seed))[: len(whole)]
    searcher = made(space, samples, seed)
    for number in range(min(moment, len(whole))):
        searcher.suggest(str(number))
    assert everything(cloudpickle.loads(cloudpickle.dumps(searcher))) == whole[moment:]


def test_grids_are_run_through_num_samples_times() -> None:
    searcher = made({"g": s.grid_search(["a", "b"]), "x": s.uniform(0, 1)}, samples=3)
    assert searcher.total_samples() == 6
    found = everything(searcher)
    assert [config["g"] for config in found] == ["a", "b"] * 3
    assert len({config["x"] for config in found}) == 6
    assert searcher.suggest("more") is Searcher.FINISHED


def test_constant_grid_search_draws_once_for_each_pass() -> None:
    space = {
        "g": s.grid_search([{"kind": "a", "y": s.uniform(0, 1)}, {"kind": "b"}]),
        "h": s.grid_search([1, 2]),
        "x": s.uniform(0, 1),
    }
    found = everything(made(space, samples=2, constant_grid_search=True))
    assert len(found) == 8
    assert [len({config["x"] for config in found[at : at + 4]}) for at in (0, 4)] == [1, 1]
    assert found[0]["x"] != found[4]["x"]
    assert found[0]["g"]["y"] == found[2]["g"]["y"] != found[4]["g"]["y"]


def test_points_count_as_samples_and_leave_open_grids_to_be_run_through() -> None:
    space = {"g": s.grid_search([1, 2, 3]), "x": s.uniform(0, 1)}
    points = [{"g": 2, "x": 5.0}, {"x": 0.5}]
    searcher = made(space, samples=3, points_to_evaluate=points)
    assert searcher.total_samples() == 1 + 3 + 3
    found = everything(searcher)
    assert found[0] == {"g": 2, "x": 5.0}
    assert [(config["g"], config["x"]) for config in found[1:4]] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert len(found) == 7
    # more points than samples: all of them, as in Ray
    assert len(everything(made({"x": s.uniform(0, 1)}, samples=1, points_to_evaluate=[{"x": 1}, {"x": 2}]))) == 2


def test_max_concurrent_holds_back() -> None:
    searcher = made({"x": s.uniform(0, 1)}, samples=5, max_concurrent=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", {})
    assert isinstance(searcher.suggest("c"), dict)
    with pytest.raises(ValueError, match="max_concurrent"):
        BasicVariantGenerator(max_concurrent=-1)


def test_without_end() -> None:
    searcher = made({"x": s.uniform(0, 1)}, samples=-1)
    assert searcher.total_samples() is None
    assert all(isinstance(searcher.suggest(str(number)), dict) for number in range(50))


def test_random_state_takes_what_numpy_does() -> None:
    space = {"x": s.uniform(0, 1)}
    same = [everything(made(space, 3, seed=None, random_state=state())) for state in (lambda: 4, lambda: 4)]
    assert same[0] == same[1]
    for state in (np.random.default_rng(1), np.random.RandomState(1)):
        assert len(everything(made(space, 3, seed=None, random_state=state))) == 3
    assert everything(made(space, 3, seed=1)) == everything(made(space, 3, seed=2, random_state=1))
    assert everything(made(space, 3, seed=None)) != everything(made(space, 3, seed=None))
    with pytest.raises(ValueError, match="negative"):
        BasicVariantGenerator(random_state=-1)


def test_a_finished_search_continues_the_sequence() -> None:
    space = {"x": s.uniform(0, 1), "g": s.grid_search([1, 2])}
    searcher = made(space, 2, seed=3)
    first = everything(searcher)
    searcher.extend(3, None)
    assert first + everything(searcher) == everything(made(space, 5, seed=3))
    assert searcher.total_samples() == 10


def test_an_unfinished_pass_over_changed_grids_begins_anew() -> None:
    searcher = made({"g": s.grid_search([1, 2, 3])}, 1)
    searcher.suggest("t0")
    searcher.extend(1, {"g": s.grid_search([8, 9])})
    assert searcher.total_samples() == 5
    assert [config["g"] for config in everything(searcher)] == [8, 9, 8, 9]


def test_a_changed_constant_takes_no_trials_away() -> None:
    searcher = made({"g": s.grid_search([1, 2, 3, 4]), "c": 0}, 1)
    made_before = [searcher.suggest(name)["g"] for name in "ab"]
    searcher.extend(0, {"g": s.grid_search([1, 2, 3, 4]), "c": 5, "d": 6})
    assert searcher.total_samples() == 4
    rest = everything(searcher)
    assert made_before + [config["g"] for config in rest] == [1, 2, 3, 4]
    assert all(config["c"] == 5 and config["d"] == 6 for config in rest)


def test_points_wait_over_a_changed_constant() -> None:
    searcher = made({"x": s.uniform(0, 1), "c": 0}, 3, points_to_evaluate=[{"x": 0.25}, {"x": 0.75}])
    assert searcher.suggest("a")["x"] == 0.25
    searcher.extend(0, {"x": s.uniform(0, 1), "c": 1})
    assert everything(searcher)[0] == {"x": 0.75, "c": 1}


def test_define_by_run() -> None:
    def space(trial) -> dict:
        depth = trial.suggest_int("depth", 1, 3)
        return {"widths": [trial.suggest_int(f"width{layer}", 8, 16) for layer in range(depth)]}

    found = everything(made(space, 10))
    assert all(len(config["widths"]) == config["depth"] for config in found)
    assert found == everything(made(space, 10))
    pointed = made(space, 1, points_to_evaluate=[{"depth": 2, "width0": 9, "width1": 10}])
    assert everything(pointed)[0]["widths"] == [9, 10]


def test_nothing_is_kept_for_a_trial() -> None:
    searcher = made({"x": s.uniform(0, 1)}, samples=10_000)
    before = len(cloudpickle.dumps(searcher))
    for number in range(10_000):
        searcher.suggest(f"t{number}")
        searcher.on_trial_complete(f"t{number}", {"loss": 1.0})
    assert len(cloudpickle.dumps(searcher)) <= before + 16
