"""What a trial is worth, and nested results by flat names."""

from __future__ import annotations

import math

import pytest

from tune.api.results.nested import delimiter, flatten
from tune.api.results.scores import as_number, better, score
from tune.result import lookup

NAN, INF = float("nan"), float("inf")


def results(*values):
    return [{"m": value} for value in values]


@pytest.mark.parametrize(
    ("values", "mode", "scope", "expected"),
    [
        ((3, 1, 2), "min", "last", 2),
        ((3, 1, 2), "min", "all", 1),
        ((3, 1, 2), "max", "all", 3),
        ((3, 1, 2), "max", "avg", 2),
        ((100, 1, 2, 3, 4, 5), "max", "last-5-avg", 3),
        ((1000, *range(10)), "max", "last-10-avg", 4.5),
        ((1, 3), "max", "last-5-avg", 2),
        ((NAN, 2, INF), "max", "all", 2),
        ((INF,), "max", "all", INF),
        ((), "max", "last", None),
        ((), "max", "all", None),
        (("text",), "max", "last", None),
    ],
)
def test_scopes(values, mode, scope, expected) -> None:
    assert score(results(*values), "m", mode, scope) == expected


def test_nan_stays_nan_in_means() -> None:
    assert math.isnan(score(results(1, NAN), "m", "max", "avg"))


def test_unknown_scope() -> None:
    with pytest.raises(ValueError, match="Did you mean 'last-5-avg'"):
        score([], "m", "max", "last-5-av")


def test_nested_metrics() -> None:
    assert score([{"eval": {"loss": 2}}], "eval/loss", "min", "last") == 2
    assert lookup({"a/b": 1, "a": {"b": 2}}, "a/b") == 1
    assert lookup({"a": {"b": {"c": 3}}}, "a/b/c") == 3
    assert lookup({"a": 1}, "a/b") is None
    assert lookup({}, "a") is None
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a/b": 1, "a/c": {}, "d": [1]}


def test_the_delimiter_is_the_environments(monkeypatch) -> None:
    assert delimiter() == "/"
    monkeypatch.setenv("TUNE_RESULT_DELIM", ".")
    assert flatten({"a": {"b": 1}}, delimiter()) == {"a.b": 1}


def test_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert as_number(numpy.float32(1.5)) == 1.5
    assert as_number(3) == 3.0
    assert [as_number(value) for value in (True, None, "1", [1])] == [None] * 4


def test_better() -> None:
    assert better(1, 2, "min")
    assert better(2, 1, "max")
    assert better(1, NAN, "min")
    assert not better(NAN, 1, "min")
    assert not better(NAN, NAN, "max")
