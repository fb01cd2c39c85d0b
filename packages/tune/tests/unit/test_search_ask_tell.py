"""The ask/tell adapter, Nevergrad, and another real library in 30 lines."""

from __future__ import annotations

from typing import Any

import cmaes
import numpy as np
import pytest

from tune import space as s
from tune.search import AskTellSearch, NevergradSearch
from tune.space import SearchSpace, UnitCube

SPACE = {"x": s.uniform(-5, 10), "y": s.uniform(0, 15)}


def branin(config: dict[str, Any]) -> float:
    x, y = config["x"], config["y"]
    return (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10


class CmaSearch(AskTellSearch):
    """The library `cmaes` as a searcher."""

    def start(self, space: SearchSpace, seed: int) -> None:
        self.cube = UnitCube(space)
        bounds = np.tile([0.0, 1.0], (self.cube.size, 1))
        self.optimizer = cmaes.CMA(np.full(self.cube.size, 0.5), 0.3, bounds=bounds, seed=seed)
        self.generation: list[tuple[Any, float]] = []

    def ask(self) -> tuple[Any, dict[str, Any]]:
        point = self.optimizer.ask()
        return point, self.cube.params(point)

    def tell(self, candidate: Any, losses: list[float]) -> None:
        self.generation.append((candidate, losses[0]))
        if len(self.generation) == self.optimizer.population_size:
            self.optimizer.tell(self.generation)
            self.generation = []


def best_of(searcher: AskTellSearch, mode: str, count: int = 150) -> float:
    searcher.set_search_properties("value", mode, SPACE, seed=1)
    best = float("inf")
    for number in range(count):
        config = searcher.suggest(str(number))
        value = branin(config)
        best = min(best, value)
        searcher.on_trial_complete(str(number), {"value": value if mode == "min" else -value})
    return best


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("make", [CmaSearch, lambda: NevergradSearch("OnePlusOne")])
def test_outside_optimizers_find_the_minimum_whatever_the_mode(make: Any, mode: str) -> None:
    assert best_of(make(), mode) < 0.45  # the least is 0.398; 150 random trials get to 0.7 on average


def test_nevergrad_takes_names_classes_and_arguments() -> None:
    import nevergrad as ng

    for make in (
        lambda: NevergradSearch("NGOpt", {"budget": 40}),
        lambda: NevergradSearch(ng.optimizers.DE),
        lambda: NevergradSearch(ng.optimizers.ParametrizedOnePlusOne(noise_handling="random")),
    ):
        assert best_of(make(), "min", 40) < 20


@pytest.mark.parametrize("samples", [1, 12, -1, None])
@pytest.mark.parametrize("arguments", [[], ["NGOpt"]])
def test_nevergrads_optimizers_are_given_a_budget(arguments: list[str], samples: int | None) -> None:
    searcher = NevergradSearch(*arguments)
    searcher.set_search_properties("loss", "min", {"x": s.uniform(0, 1)}, num_samples=samples, seed=1)
    for number in range(6):  # a sweep that goes on asks for more than the budget
        config = searcher.suggest(f"t{number}")
        assert isinstance(config, dict)
        searcher.on_trial_complete(f"t{number}", {"loss": config["x"]})


def test_nevergrad_takes_every_kind_of_domain() -> None:
    space = {
        "one": s.uniform(1, 1),
        "log": s.loguniform(1e-4, 1),
        "n": s.randint(0, 2),
        "ln": s.lograndint(1, 9),
        "l1": s.lograndint(1, 2),
        "q": s.quniform(0, 1, 0.25),
        "c": s.choice(["a", None, 3]),
        "m": s.choice([{"k": "a", "x": s.uniform(0, 1)}, {"k": "b"}]),
    }
    searcher = NevergradSearch("RandomSearch")
    searcher.set_search_properties("value", "min", space, seed=0)
    whole = SearchSpace(space)
    seen = set()
    for number in range(60):
        config = searcher.suggest(str(number))
        seen.add(config["n"])
        whole.point(config)
        searcher.on_trial_complete(str(number), {"value": 1.0})
    assert seen == {0, 1}


def test_nevergrad_with_several_objectives() -> None:
    searcher = NevergradSearch("DE", metric=["a", "b"], mode=["min", "max"])
    searcher.set_search_properties(None, None, SPACE, seed=0)
    for number in range(20):
        config = searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), {"a": config["x"], "b": config["y"]})
    assert searcher._optimizer.num_tell == 20


def test_nevergrad_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune.search.nevergrad.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install skate-tune\[nevergrad\]"):
        NevergradSearch()


def test_failed_candidates_are_forgotten_and_a_pause_is_none() -> None:
    class Shy(AskTellSearch):
        def start(self, space: SearchSpace, seed: int) -> None:
            self.forgotten: list[Any] = []
            self.pause = False

        def ask(self) -> tuple[Any, dict[str, Any]] | None:
            return None if self.pause else (7, {"x": 0.0, "y": 1.0})

        def forget(self, candidate: Any) -> None:
            self.forgotten.append(candidate)

    searcher = Shy(SPACE, "value", "min", seed=1)
    assert searcher.suggest("a") == {"x": 0.0, "y": 1.0}
    searcher.on_trial_complete("a", None, error=True)
    assert searcher.forgotten == [7]
    searcher.pause = True
    assert searcher.suggest("b") is None
    with pytest.raises(TypeError, match="Shy needs a dict"):
        Shy(lambda trial: {})
