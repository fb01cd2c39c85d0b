"""Whole search spaces: resolution, conditions, grids, computed values, points, names; define-by-run."""

from __future__ import annotations

import pickle
import random
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune import space as s
from tune.space import DefinedSpace, SearchSpace, as_space, has_domains


def resolve(space: Any, seed: int = 0, **options: Any) -> s.Resolved:
    rng = np.random.default_rng(seed)
    return as_space(space).resolve(lambda _name, domain: domain.draw(rng), seed=(seed, 0), **options)


leaves = st.sampled_from(
    [
        s.uniform(0, 1),
        s.quniform(0, 2, 0.5),
        s.loguniform(1e-5, 1),
        s.randint(0, 9),
        s.lograndint(1, 9),
        s.choice(["a", "b"]),
        s.choice([[1], [2, 3]]),
        s.sample_from(lambda config: len(config)),
    ]
)
constants = st.sampled_from([1, "text", None, (1, 2), 2.5, b"bytes"])
keys = st.sampled_from(["a", "b", "c", "lr", "type"])
spaces = st.dictionaries(
    keys,
    st.recursive(
        leaves | constants,
        lambda inner: (
            st.dictionaries(keys, inner, max_size=3)
            | st.lists(inner, max_size=3)
            | st.lists(inner, min_size=1, max_size=3).map(tuple)
            | st.lists(st.dictionaries(keys, inner, max_size=3) | inner, min_size=1, max_size=3).map(s.choice)
        ),
        max_leaves=12,
    ),
    min_size=1,
    max_size=4,
)


@given(spaces, st.integers(0, 1000))
def test_any_space_resolves_repeatably_and_completely(config: dict, seed: int) -> None:
    space = SearchSpace(config)
    made = resolve(space, seed)
    assert not has_domains(made.config)
    assert "Deferred" not in repr(made.config)
    assert made == resolve(space, seed)
    assert made == resolve(cloudpickle.loads(cloudpickle.dumps(space)), seed)
    assert set(made.params) <= set(space.domains)
    for name, value in made.params.items():
        assert space.domains[name].is_valid(value)


@given(spaces, st.integers(0, 1000))
def test_the_parameters_of_a_configuration_make_it_again(config: dict, seed: int) -> None:
    space = SearchSpace(config)
    made = resolve(space, seed)
    again = resolve(space, seed + 1, fixed=made.params)
    assert again.config == made.config
    assert again.params == made.params
    # ... and can be found from it, where the options of every choice can be told apart
    found = space.point(made.config)
    remade = resolve(space, seed + 2, fixed=found)
    assert remade.config == made.config
    assert space.evaluated_params(made.config) == found


def test_names_are_paths_and_options_are_labelled() -> None:
    space = SearchSpace(
        {
            "lr": s.uniform(0, 1),
            "net": {"width": s.randint(1, 9), "layers": [s.randint(1, 3), {"p": s.uniform(0, 1)}]},
            "model": s.choice(
                [
                    {"type": "svm", "C": s.loguniform(0.1, 10)},
                    {"type": "forest", "depth": s.choice([{"_name": "fixed", "n": s.randint(1, 5)}, None])},
                ]
            ),
            "activation": s.choice([np.tanh, len, "relu"]),
        }
    )
    assert list(space.domains) == [
        "lr",
        "net/width",
        "net/layers/0",
        "net/layers/1/p",
        "model",
        "model/svm/C",
        "model/forest/depth",
        "model/forest/depth/fixed/n",
        "activation",
    ]
    assert space.domains["model"] == s.choice(["svm", "forest"])
    assert space.domains["model/forest/depth"] == s.choice(["fixed", None])
    assert space.domains["activation"].categories[1:] == ("len", "relu")


def test_conditional_parameters_exist_only_with_their_option() -> None:
    space = {"m": s.choice([{"type": "a", "x": s.uniform(0, 1)}, {"type": "b", "y": {"z": s.uniform(0, 1)}}])}
    for seed in range(20):
        made = resolve(space, seed)
        assert set(made.params) == ({"m", "m/a/x"} if made.params["m"] == "a" else {"m", "m/b/y/z"})
        assert made.config["m"]["type"] == made.params["m"]
    with pytest.raises(ValueError, match=r"'m': 'c' is not in choice"):
        resolve(space, fixed={"m": "c"})


def test_each_configuration_has_containers_of_its_own() -> None:
    space = SearchSpace({"a": {"b": [1, 2]}, "x": s.uniform(0, 1)})
    first, second = resolve(space).config, resolve(space).config
    first["a"]["b"].append(3)
    assert second["a"]["b"] == [1, 2]
    assert space.config["a"]["b"] == [1, 2]


def test_labels_of_options_that_look_alike_are_told_apart() -> None:
    class Unnamed:
        pass

    space = SearchSpace({"o": s.choice([Unnamed(), Unnamed(), 1, True, "Unnamed", [1]])})
    labels = space.domains["o"].categories
    assert len(set(labels)) == 6
    assert all(isinstance(label, str | int) for label in labels)
    assert "0x" not in repr(labels)


# ---------------------------------------------------------------------------------------------------------- computed


def test_computed_values_see_the_rest_in_each_of_rays_ways() -> None:
    space = {
        "late": s.sample_from(lambda spec: spec.config.middle + 1),
        "middle": s.sample_from(lambda config: config["nested"]["x"] * 2),
        "nested": {"x": s.uniform(1, 2), "y": s.sample_from(lambda config: config.nested.x)},
        "listed": [s.sample_from(lambda: 7), (s.sample_from(lambda config: config["listed"][0] + 1), 0)],
        "missing": s.sample_from(lambda config: config.get("nothing", 5)),
    }
    config = resolve(space).config
    x = config["nested"]["x"]
    assert config == {
        "late": x * 2 + 1,
        "middle": x * 2,
        "nested": {"x": x, "y": x},
        "listed": [7, (8, 0)],
        "missing": 5,
    }


def test_computed_values_that_need_one_another_are_an_error() -> None:
    space = {"a": s.sample_from(lambda c: c.b), "b": s.sample_from(lambda c: c["a"])}
    with pytest.raises(ValueError, match=r"one another's values: 'a', 'b'"):
        resolve(space)


def test_an_error_in_a_function_is_the_functions_own() -> None:
    with pytest.raises(AttributeError, match=r"no 'typo'; it has \['x'\]"):
        resolve({"x": 1, "y": s.sample_from(lambda c: c.typo)})
    with pytest.raises(ValueError, match="'y' returned a search space"):
        resolve({"y": s.sample_from(lambda: s.uniform(0, 1))})


def test_functions_draw_repeatably_and_leave_the_generators_alone() -> None:
    space = {"a": s.sample_from(lambda: random.random()), "b": s.sample_from(lambda: np.random.rand())}
    before, numpys = random.getstate(), np.random.get_state()[1].tolist()
    first = resolve(space, 5).config
    assert first == resolve(space, 5).config
    assert first != resolve(space, 6).config
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == numpys


def test_a_computed_value_can_be_given() -> None:
    space = SearchSpace({"a": s.sample_from(lambda: 1)})
    assert space.point({"a": 2}) == {"a": 2}
    assert resolve(space, fixed={"a": 2}).config == {"a": 2}


# ------------------------------------------------------------------------------------------------------------- grids


def every_cell(config: dict, fixed: dict | None = None) -> list[dict]:
    space = SearchSpace(config)
    return [resolve(space, cell=cell, fixed=fixed).config for cell in range(space.cells(fixed))]


def test_grids_multiply_the_first_path_fastest_as_in_ray() -> None:
    found = every_cell({"b": s.grid_search(["x", "y"]), "a": {"c": {"grid_search": [1, 2, 3]}}})
    assert [(cell["a"]["c"], cell["b"]) for cell in found] == [
        (1, "x"), (2, "x"), (3, "x"), (1, "y"), (2, "y"), (3, "y"),
    ]  # fmt: skip


def test_a_grid_within_a_grid_is_run_through_only_with_its_option() -> None:
    config = {
        "model": s.grid_search(
            [{"type": "a", "n": s.grid_search([1, 2, 3])}, {"type": "b", "lr": s.uniform(0, 1)}, None]
        ),
        "z": s.grid_search([0, 1]),
    }
    found = every_cell(config)
    assert len(found) == 2 * (3 + 1 + 1)
    assert [(cell["model"] or {}).get("n") for cell in found] == [1, 2, 3, None, None] * 2
    assert len(every_cell(config, fixed={"model": "a"})) == 6
    assert len(every_cell(config, fixed={"model": "a", "z": 1})) == 3
    assert resolve(SearchSpace(config), cell=1).params == {"model": "a", "model/a/n": 2, "z": 0}


def test_a_grid_within_a_random_choice_is_refused_by_path() -> None:
    with pytest.raises(ValueError, match="'m/a/n' is a grid_search inside the choice at 'm'"):
        SearchSpace({"m": s.choice([{"type": "a", "n": s.grid_search([1])}])})
    with pytest.raises(ValueError, match="'g': grid_search needs a list"):
        SearchSpace({"g": {"grid_search": []}})


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_every_combination_of_a_grid_is_made_once(sizes: list[int]) -> None:
    config = {f"p{number}": s.grid_search(list(range(size))) for number, size in enumerate(sizes)}
    found = {tuple(cell.values()) for cell in every_cell(config)}
    assert len(found) == SearchSpace(config).cells() == np.prod(sizes)


# ------------------------------------------------------------------------------------------------------------ points


SPACE = {
    "lr": s.loguniform(1e-5, 1),
    "net": {"width": s.randint(1, 9), "kind": "mlp"},
    "m": s.choice([{"type": "a", "x": s.uniform(0, 1)}, {"type": "b", "x": s.uniform(5, 9)}]),
    "o": s.choice([[1, 2], [3]]),
}


@pytest.mark.parametrize(
    ("point", "params"),
    [
        ({"lr": 0.1}, {"lr": 0.1}),
        ({"net/width": 3}, {"net/width": 3}),
        ({"net": {"width": 3, "kind": "mlp"}}, {"net/width": 3}),
        ({"m": {"type": "b", "x": 6}}, {"m": "b", "m/b/x": 6}),
        ({"m": {"x": 0.5}}, {"m": "a", "m/a/x": 0.5}),
        ({"m": {"x": 7}}, {"m": "b", "m/b/x": 7}),
        ({"m/x": 7}, {"m": "b", "m/b/x": 7}),
        ({"m": "b", "m/b/x": 7}, {"m": "b", "m/b/x": 7}),
        ({"o": [3]}, {"o": "[3]"}),
    ],
)
def test_points_may_be_nested_flat_partial_and_labelled(point: dict, params: dict) -> None:
    assert SearchSpace(SPACE).point(point) == params


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"lr": 5}, "'lr': 5 is not in loguniform"),
        ({"net/width": 9}, "'net/width': 9 is not in randint"),
        ({"typo": 1}, "'typo' is not in the search space.*Parameters: "),
        ({"net": {"depth": 1}}, "'net/depth' is not in the search space"),
        ({"net": 3}, "'net' must be a dict"),
        ({"net": {"kind": "cnn"}}, "'net/kind' is always 'mlp'"),
        ({"m": {"type": "c"}}, "'m': .* fits none of the options"),
        ({"o": [4]}, "'o': .* fits none"),
    ],
)
def test_points_that_do_not_fit_are_refused_by_path(point: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SearchSpace(SPACE).point(point)


def test_values_outside_may_be_allowed() -> None:
    assert SearchSpace(SPACE).point({"lr": 5}, strict=False) == {"lr": 5}
    assert SearchSpace(SPACE).evaluated_params({"lr": 5, "other": 1, "net": {"width": 99}}) == {
        "lr": 5,
        "net/width": 99,
    }


def test_a_key_may_contain_a_slash() -> None:
    space = SearchSpace({"a/b": s.uniform(0, 1), "c": {"d/e": s.uniform(0, 1)}})
    assert list(space.domains) == ["a/b", "c/d/e"]
    assert space.point({"a/b": 0.5}) == {"a/b": 0.5}
    assert space.point(resolve(space, 1).config) == resolve(space, 1).params
    with pytest.raises(ValueError, match="two parameters are called 'a/b'"):
        SearchSpace({"a/b": s.uniform(0, 1), "a": {"b": s.uniform(0, 1)}})


def test_a_space_is_a_dict_or_a_function() -> None:
    with pytest.raises(TypeError, match="a dict of parameters or a function"):
        as_space([1])
    assert isinstance(as_space(lambda trial: {}), DefinedSpace)
    assert as_space(space := SearchSpace({})) is space


# ----------------------------------------------------------------------------------------------------- define-by-run


def by_run(trial: Any) -> dict:
    kind = trial.suggest_categorical("kind", ["linear", "deep"])
    if kind == "deep":
        depth = trial.suggest_int("depth", 1, 3)
        return {"widths": [trial.suggest_int(f"width/{layer}", 8, 64, log=True) for layer in range(depth)], "steps": 9}
    trial.suggest_float("alpha", 0, 1, step=0.25)
    trial.suggest_int("even", 0, 10, step=2)
    trial.set_user_attr("remark", 1)
    return {"steps": 9}


def test_define_by_run_draws_what_the_function_asks_for() -> None:
    kinds = set()
    for seed in range(30):
        made = resolve(by_run, seed)
        kinds.add(made.config["kind"])
        assert made == resolve(by_run, seed)
        assert made.config["steps"] == 9
        if made.config["kind"] == "deep":
            assert made.config["widths"] == list(made.config["width"].values())
            assert len(made.config["widths"]) == made.config["depth"]
        else:
            assert made.config["alpha"] in {0, 0.25, 0.5, 0.75, 1}
            assert made.config["even"] % 2 == 0
        space = as_space(by_run)
        assert space.evaluated_params(made.config) == made.params
        assert set(space.domains_of(made.params)) == set(made.params)
        assert all(domain.is_valid(made.params[name]) for name, domain in space.domains_of(made.params).items())
    assert kinds == {"linear", "deep"}


def test_define_by_run_without_a_returned_dict_is_what_was_suggested() -> None:
    def bare(trial: Any) -> None:
        trial.suggest_float("a/b", 0, 1)

    assert set(resolve(bare).config["a"]) == {"b"}
    with pytest.raises(TypeError, match="returns a dict or None, not 3"):
        resolve(lambda trial: 3)


def test_define_by_run_takes_fixed_values_and_refuses_bad_ranges() -> None:
    assert resolve(by_run, fixed={"kind": "deep", "depth": 2}).config["depth"] == 2
    for wrong in (
        lambda trial: trial.suggest_float("x", 1, 0),
        lambda trial: trial.suggest_float("x", 0, 1, log=True),
        lambda trial: trial.suggest_float("x", 1, 2, log=True, step=0.1),
        lambda trial: trial.suggest_int("x", 1, 0),
        lambda trial: trial.suggest_int("x", 1, 5, step=0),
        lambda trial: trial.suggest_categorical("x", []),
        lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("x", 0, 2)),
    ):
        with pytest.raises(ValueError, match="x"):
            resolve(wrong)
    with pytest.raises(TypeError, match="must be a str, int"):
        resolve(lambda trial: trial.suggest_categorical("x", [[1]]))
    same_twice = resolve(lambda trial: {"y": trial.suggest_float("x", 0, 1) == trial.suggest_float("x", 0, 1)})
    assert same_twice.config["y"]


def test_spaces_pickle() -> None:
    space = SearchSpace({"x": s.uniform(0, 1), "g": s.grid_search([1, 2])})
    assert resolve(pickle.loads(pickle.dumps(space)), 3) == resolve(space, 3)
