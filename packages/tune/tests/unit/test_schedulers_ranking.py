"""Which of several results is better."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.schedulers.ranking import Judge, Outcome, ParetoRanking, SortedRanking, dominates, fronts, pareto_order

NUMBERS = st.floats(-5, 5).map(lambda value: round(value, 1))
OUTCOMES = st.builds(Outcome, st.tuples(NUMBERS | st.just(-math.inf)), st.sampled_from([0.0, 0.0, 1.0, 2.5]))


@given(st.lists(OUTCOMES, max_size=30))
def test_a_sorted_ranking_is_the_sorted_list(outcomes: list[Outcome]) -> None:
    ranking = SortedRanking()
    for number, outcome in enumerate(outcomes):
        ranking.add(f"t{number}", outcome)
    order = sorted(range(len(outcomes)), key=lambda at: (outcomes[at].breach, -outcomes[at].values[0], at))
    assert ranking.top(len(ranking)) == [f"t{number}" for number in order]
    assert all(ranking.place(trial_id) == place for place, trial_id in enumerate(ranking.top(len(ranking))))
    assert len(ranking) == len(outcomes)
    if outcomes:
        assert ranking.keeps(ranking.outcome(ranking.top(1)[0]), 4)  # as good as the best is good enough


POINTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=25)


@settings(deadline=None)
@given(POINTS)
def test_fronts_are_those_of_the_definition(points: list[tuple[float, float, float]]) -> None:
    named = {str(number): point for number, point in enumerate(points)}
    found = fronts(named)
    left = dict(named)
    for front in found:
        undominated = {
            name for name, point in left.items() if not any(dominates(other, point) for other in left.values())
        }
        assert set(front) == undominated
        for name in front:
            del left[name]
    assert not left


def test_ends_of_a_front_come_first_then_the_lonely() -> None:
    points = {"a": (0.0, 10.0), "b": (1.0, 9.0), "c": (2.0, 8.0), "d": (9.0, 1.0), "e": (10.0, 0.0)}
    order = pareto_order({name: Outcome(point) for name, point in points.items()})
    assert set(order[:2]) == {"a", "e"}
    assert order[2:] == ["c", "d", "b"] or order[2] in {"c", "d"}


def test_a_pareto_ranking_puts_breaches_last() -> None:
    ranking = ParetoRanking()
    ranking.add("bad", Outcome((9.0, 9.0), 1.0))
    ranking.add("good", Outcome((1.0, 1.0)))
    ranking.add("worse", Outcome((9.0, 9.0), 3.0))
    assert ranking.top(3) == ["good", "bad", "worse"]
    assert ranking.place("worse") == 2
    assert not ranking.keeps(Outcome((0.0, 0.0)), 4)
    assert ranking.keeps(Outcome((2.0, 0.5)), 4)


def test_judging() -> None:
    judge = Judge("loss", "min")
    assert judge.outcome({"loss": 2}) == Outcome((-2.0,))
    assert judge.outcome({"loss": math.nan}) == Outcome((-math.inf,))
    assert judge.outcome({}) is None
    mixed = Judge(["a", "b"], ["max", "min"], {"a": 1.0, "b": 0.5})
    assert mixed.total
    assert mixed.outcome({"a": 3, "b": 4}) == Outcome((1.0,))
    assert not Judge(["a", "b"], "max").total


@pytest.mark.parametrize(
    ("constraints", "breach"),
    [
        ({"x": 3}, 2.0),
        ({"x": (None, 4)}, 1.0),
        ({"x": (7, None)}, 2.0),
        ({"x": (4, 6)}, 0.0),
        ({"missing": 1}, math.inf),
        (lambda result: result["x"] - 4, 1.0),
        (lambda result: [result["x"] - 4, -1, 2], 3.0),
        (lambda _result: math.nan, math.inf),
    ],
)
def test_breaches(constraints: object, breach: float) -> None:
    outcome = Judge("x", "max", constraints=constraints).outcome({"x": 5})  # type: ignore[arg-type]
    assert outcome == Outcome((5.0,), breach)


def test_what_does_not_fit_is_refused() -> None:
    for arguments in itertools.product([["a", "b"]], [["max"], "up"]):
        with pytest.raises(ValueError, match="mode"):
            Judge(*arguments)
    with pytest.raises(ValueError, match="weights"):
        Judge(["a", "b"], "max", {"a": 1.0})
    with pytest.raises(ValueError, match="empty"):
        Judge([], "max")
