"""Domains to Optuna's distributions and back; the unit cube."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tune import space as s
from tune.space import SearchSpace, UnitCube
from tune.space.define_by_run import Stepped
from tune.space.distributions import as_json, internal, suggest


@st.composite
def domains(draw: st.DrawFn) -> s.Domain:
    """Any domain that Optuna can search."""
    low, width = draw(st.integers(1, 100)), draw(st.integers(1, 100))
    step = draw(st.integers(1, width))
    real = draw(st.floats(1e-3, 1e3))
    return draw(
        st.sampled_from(
            [
                s.uniform(-real, real),
                s.quniform(low / 10, (low + width) / 10, step / 10),
                s.loguniform(real, real * 10),
                s.qloguniform(low, low + width, step),
                s.randint(low, low + width),
                s.qrandint(low - 50, low + width, step),
                s.lograndint(low, low + width),
                s.qlograndint(low, low + width, step),
                s.choice(["a", 1, None, 2.5]),
                Stepped(low + 0.5, low + 0.5 + width, step),
                Stepped(low, low + width, step, whole=True),
            ]
        )
    )


@given(domains(), st.integers(0, 2**32))
def test_what_random_search_draws_optuna_could_have_suggested(domain: s.Domain, seed: int) -> None:
    distribution = s.to_distribution(domain)
    value = domain.draw(np.random.default_rng(seed))
    number = internal(domain, value)
    assert number == distribution.to_internal_repr(value)
    assert distribution._contains(number)
    # the study file says what Optuna would have said
    assert json.loads(as_json(domain)) == json.loads(optuna.distributions.distribution_to_json(distribution))


@given(domains(), st.integers(0, 2**16))
def test_what_optuna_suggests_random_search_could_have_drawn(domain: s.Domain, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    value = suggest(study.ask(), "x", domain)
    assert domain.is_valid(value)


@given(domains())
def test_there_and_back(domain: s.Domain) -> None:
    distribution = s.to_distribution(domain)
    back = s.from_distribution(distribution)
    assert s.to_distribution(back) == distribution
    if not (isinstance(domain, s.Float | s.Integer) and domain.log) and not isinstance(domain, Stepped):
        assert s.to_distribution(domain) == s.to_distribution(back)


def test_the_distributions_of_each_domain() -> None:
    assert s.to_distributions(
        {
            "a": s.uniform(0, 1),
            "b": s.quniform(0.05, 1, 0.1),
            "c": s.loguniform(1e-3, 1),
            "d": s.randint(0, 5),
            "e": s.qrandint(1, 10, 2),
            "f": {"g": s.lograndint(1, 9), "h": 3},
            "i": s.choice(["x", "y"]),
            "j": s.choice([[1, 2], {"k": s.uniform(0, 1)}]),
            "l": s.sample_from(lambda config: config.a),
        }
    ) == {
        "a": FloatDistribution(0, 1),
        "b": FloatDistribution(0.1, 1.0, step=0.1),
        "c": FloatDistribution(1e-3, 1, log=True),
        "d": IntDistribution(0, 4),
        "e": IntDistribution(2, 10, step=2),
        "f/g": IntDistribution(1, 8, log=True),
        "i": CategoricalDistribution(["x", "y"]),
        "j": CategoricalDistribution(["[1, 2]", "1"]),
        "j/1/k": FloatDistribution(0, 1),
    }


def test_distributions_become_a_space() -> None:
    given_distributions = {
        "a/b": FloatDistribution(0, 1),
        "c": IntDistribution(1, 9, step=2),
        "d": CategoricalDistribution((1, "x")),
    }
    space = s.from_distributions(given_distributions)
    assert space["a/b"] == s.uniform(0, 1)
    assert s.to_distributions(space) == given_distributions
    with pytest.raises(TypeError, match="not an Optuna distribution"):
        s.from_distribution(3)


def test_what_optuna_cannot_search_is_named_by_its_path() -> None:
    with pytest.raises(ValueError, match="'a/b' is a grid_search, which Optuna cannot search"):
        s.to_distributions({"a": {"b": s.grid_search([1, 2])}})
    with pytest.raises(ValueError, match=r"'a/0' is randn\(0, 1\), which Optuna cannot search"):
        s.to_distributions({"a": [s.randn()]})
    with pytest.raises(TypeError, match="not known before it runs"):
        s.to_distributions(lambda trial: {})
    with pytest.raises(ValueError, match="'x' is randn"):
        s.to_distribution(s.randn(), "x")


@given(st.lists(domains(), min_size=1, max_size=5), st.data())
def test_a_point_of_the_cube_is_a_configuration_and_back(listed: list[s.Domain], data: st.DataObject) -> None:
    known = [domain for domain in listed if not isinstance(domain, Stepped)]
    space = SearchSpace({f"p{number}": domain for number, domain in enumerate(known)})
    cube = UnitCube(space)
    point = data.draw(st.lists(st.floats(0, 1), min_size=cube.size, max_size=cube.size))
    params = cube.params(point)
    assert all(space.domains[name].is_valid(value) for name, value in params.items())
    again = cube.params(cube.point(params))
    for name, value in params.items():
        assert again[name] == (value if isinstance(value, str | int | None) else pytest.approx(value))


def test_the_cube_clips_and_counts() -> None:
    cube = UnitCube(SearchSpace({"x": s.uniform(0, 10), "c": s.choice(["a", "b", "c"]), "n": s.randint(0, 4)}))
    assert cube.params([-1, 2, 0.99]) == {"x": 0.0, "c": "c", "n": 3}
    assert cube.point({}) == [0.5, 0.5, 0.5]
    assert [cube.params([0, 0, u])["n"] for u in (0.1, 0.3, 0.6, 0.9)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="has 3 coordinates, got 1"):
        cube.params([0])
