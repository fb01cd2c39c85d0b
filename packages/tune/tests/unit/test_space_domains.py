"""Domains and the public functions that make them: bounds, rounding, errors."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune import space as s

finite = st.floats(-1e6, 1e6)


@st.composite
def domains(draw: st.DrawFn) -> s.Domain:
    """Any domain that random search can draw from."""
    kind = draw(st.sampled_from(["uniform", "quniform", "log", "qlog", "int", "qint", "logint", "qlogint", "choice"]))
    if kind in {"uniform", "quniform"}:
        low = draw(finite)
        high = low + draw(st.floats(0.001, 1e6))
        if kind == "uniform":
            return s.uniform(low, high)
        return s.quniform(low, high, (high - low) / draw(st.integers(2, 50)))
    if kind in {"log", "qlog"}:
        low = draw(st.floats(1e-6, 1e3))
        high = low * draw(st.floats(1.5, 1e6))
        return s.loguniform(low, high) if kind == "log" else s.qloguniform(low, high, (high - low) / 4)
    if kind == "choice":
        return s.choice(draw(st.lists(st.integers() | st.text(), min_size=1, max_size=5, unique=True)))
    low = draw(st.integers(1, 1000))
    high = low + draw(st.integers(1, 1000))
    make = {"int": s.randint, "logint": s.lograndint}.get(kind)
    if make:
        return make(low, high)
    q = draw(st.integers(1, high - low))
    return s.qrandint(low, high, q) if kind == "qint" else s.qlograndint(low, high, q)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw imports what draws
@given(domains(), st.integers(0, 2**32))
def test_every_draw_is_valid_settled_and_repeatable(domain: s.Domain, seed: int) -> None:
    value = domain.draw(np.random.default_rng(seed))
    assert domain.is_valid(value)
    assert value == domain.draw(np.random.default_rng(seed))
    assert type(value) in {float, int, str}
    if isinstance(domain, s.Float | s.Integer):
        assert domain.settle(value) == value
        assert domain.lower <= value <= domain.upper
    assert pickle.loads(pickle.dumps(domain)) == domain
    assert domain.domain_str


@given(domains())
def test_sample_draws_as_in_ray(domain: s.Domain) -> None:
    assert domain.is_valid(domain.sample())
    five = domain.sample(size=5, random_state=7)
    assert len(five) == 5
    assert five == domain.sample(size=5, random_state=np.random.default_rng(7))
    assert all(map(domain.is_valid, domain.sample(size=3, random_state=np.random.RandomState(1))))


def drawn(domain: s.Domain, count: int = 4000) -> list:
    rng = np.random.default_rng(0)
    return [domain.draw(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("domain", "cdf"),
    [
        (s.uniform(-2, 3), scipy.stats.uniform(-2, 5).cdf),
        (s.loguniform(1e-4, 1), scipy.stats.loguniform(1e-4, 1).cdf),
        (s.randn(10, 2), scipy.stats.norm(10, 2).cdf),
    ],
)
def test_real_domains_have_the_distribution_they_say(domain: s.Domain, cdf) -> None:
    assert scipy.stats.kstest(drawn(domain), cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (s.randint(2, 5), [2, 3, 4]),
        (s.qrandint(1, 10, 3), [3, 6, 9]),
        (s.qrandint(2, 10, 2), [2, 4, 6, 8, 10]),
        (s.qrandint(2, 5), [2, 3, 4]),  # as in Ray: without a step the upper end is not included
        (s.quniform(0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
        (s.quniform(0.05, 0.34, 0.1), [0.1, 0.2, 0.3]),
        (s.choice(["a", None, 3]), ["a", None, 3]),
    ],
)
def test_discrete_domains_draw_each_value_equally_often(domain: s.Domain, values: list) -> None:
    counts = {repr(value): 0 for value in values}
    for value in drawn(domain):
        counts[repr(value)] += 1
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_logarithmic_integers_favour_small_ones_in_the_ratio_of_logarithms() -> None:
    values = drawn(s.lograndint(1, 101))
    assert min(values) == 1
    assert max(values) == 100
    assert abs(np.mean([value <= 10 for value in values]) - math.log(10.5 / 0.5) / math.log(100.5 / 0.5)) < 0.03
    assert set(drawn(s.qlograndint(5, 20, 5))) == {5, 10, 15, 20}
    assert set(drawn(s.qloguniform(0.1, 0.5, 0.1))) == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_quantized_normal_is_rounded() -> None:
    assert all(math.isclose(value / 0.5, round(value / 0.5)) for value in drawn(s.qrandn(0, 5, 0.5)))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: s.uniform(2, 1), ValueError, "lower <= upper"),
        (lambda: s.uniform("a", 1), TypeError, "number as lower"),
        (lambda: s.uniform(True, 2), TypeError, "number as lower"),
        (lambda: s.uniform(0, math.inf), ValueError, "finite upper"),
        (lambda: s.uniform(-1.7e308, 1.7e308), ValueError, "difference"),
        (lambda: s.uniform(math.nan, 1), ValueError, "finite lower"),
        (lambda: s.quniform(0, 1, 0), ValueError, "q > 0"),
        (lambda: s.quniform(0.1, 0.2, 5), ValueError, "no multiple of q=5"),
        (lambda: s.loguniform(0, 1), ValueError, "lower > 0"),
        (lambda: s.qloguniform(-1, 1, 0.1), ValueError, "lower > 0"),
        (lambda: s.randint(5, 5), ValueError, "lower < upper"),
        (lambda: s.randint(0.5, 5), TypeError, "whole number"),
        (lambda: s.randint(0, 2**60), ValueError, "2\\*\\*53"),
        (lambda: s.qrandint(0, 5, 0), ValueError, "q > 0"),
        (lambda: s.qrandint(0, 5, 0.5), TypeError, "whole number as q"),
        (lambda: s.qrandint(1, 2, 5), ValueError, "no multiple"),
        (lambda: s.lograndint(0, 5), ValueError, "lower > 0"),
        (lambda: s.qlograndint(0, 5, 2), ValueError, "lower > 0"),
        (lambda: s.randn(0, 0), ValueError, "sd > 0"),
        (lambda: s.qrandn(0, 1, -1), ValueError, "q > 0"),
        (lambda: s.choice([]), ValueError, "at least one value"),
        (lambda: s.choice("abc"), TypeError, "list of values"),
        (lambda: s.choice(3), TypeError, "list of values"),
        (lambda: s.grid_search([]), ValueError, "at least one value"),
        (lambda: s.sample_from(3), TypeError, "needs a function"),
        (lambda: s.sample_from(lambda a, b: 1), TypeError, "of the configuration or of nothing"),
    ],
)
def test_bad_arguments_are_refused_where_they_are_given(make, error, says) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_domain_of_one_value_draws_it() -> None:
    assert s.uniform(2, 2).sample() == 2.0
    assert s.choice([[1]]).sample() == [1]


def test_functions_sample_with_and_without_a_configuration() -> None:
    assert s.sample_from(lambda config: config["a"] + 1).sample({"a": 1}) == 2
    assert s.sample_from(lambda: 5).sample() == 5
    assert s.sample_from(lambda: 5).sample(size=2) == [5, 5]
    assert s.sample_from(max).is_valid(object())  # a builtin without a signature


def test_validity_tells_types_apart() -> None:
    assert s.choice([1, 2]).is_valid(1)
    assert not s.choice([1, 2]).is_valid(True)
    assert not s.choice([1, 2]).is_valid("1")
    assert not s.uniform(0, 1).is_valid("0.5")
    assert s.uniform(0, 1).is_valid(np.float32(0.5))
    assert s.randint(0, 3).is_valid(2.0)
    assert not s.randint(0, 3).is_valid(3)
    array = np.zeros(2)
    assert s.choice([array]).is_valid(array)
    assert not s.choice([array]).is_valid(np.zeros(2))
