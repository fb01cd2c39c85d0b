"""The search is one: a small part of ``benchmarks/tune/quality.py``, which random search does not pass."""

from __future__ import annotations

import pytest

from benchmarks.tune import quality
from tune.search import BasicVariantGenerator, OptunaSearch, Searcher


def learns(problem: quality.Problem, make: type[Searcher]) -> bool:
    """Tell whether 8 searches leave 8 random ones behind, beyond what chance would do once in a thousand times."""
    found = [quality.regret(problem, quality.by_interface(problem, make(), 100 + seed)) for seed in range(8)]
    random = [
        quality.regret(problem, quality.by_interface(problem, BasicVariantGenerator(), 200 + seed)) for seed in range(8)
    ]
    comparison = quality.Comparison(problem, {"found": found, "random": random}, (0, 8))
    return comparison.better_than_random("found") < 0.001


@pytest.mark.parametrize("name", ["Branin", "Hartmann6"])
def test_our_search_finds_what_random_search_does_not(name: str) -> None:
    problem = next(problem for problem in quality.problems() if problem.name == name)
    assert learns(problem, OptunaSearch)
    assert not learns(problem, BasicVariantGenerator)


def test_on_the_table_the_sequence_is_optunas_and_the_regret_no_worse() -> None:
    problem = next(problem for problem in quality.problems() if problem.name == "digits table")
    comparison = quality.compare(problem, 3, with_run=False)
    assert comparison.same == (3, 3)
    assert comparison.worse("ours") > 0.05
    text = quality.markdown([comparison])
    assert "| digits table | 60 | ours |" in text
    assert "3 of 3" in text
