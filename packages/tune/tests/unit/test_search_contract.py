"""What every searcher must do, run on all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from tune import space as s
from tune.search import (
    AskTellSearch,
    BasicVariantGenerator,
    ConcurrencyLimiter,
    NevergradSearch,
    OptunaSearch,
    Repeater,
    Searcher,
    TuneBOHB,
    create_searcher,
)
from tune.space import SearchSpace, UnitCube

SPACE = {
    "x": s.uniform(-1, 1),
    "lr": s.loguniform(1e-4, 1),
    "n": s.randint(1, 5),
    "q": s.quniform(0, 1, 0.25),
    "m": s.choice([{"kind": "a", "p": s.uniform(0, 1)}, {"kind": "b", "r": s.qrandint(2, 8, 2)}]),
    "o": s.choice([[1], [2, 3]]),
    "twice": s.sample_from(lambda config: config["n"] * 2),
    "constant": {"k": 7},
}


class Halving(AskTellSearch):
    """A small optimizer of our own: the middle of the cube, then steps around the best point."""

    def start(self, space: SearchSpace, seed: int) -> None:
        self.cube, self.best, self.best_loss, self.count = UnitCube(space), None, math.inf, seed % 7

    def ask(self) -> tuple[Any, dict[str, Any]]:
        self.count += 1
        center = self.best or [0.5] * self.cube.size
        point = [(u + self.count * 0.37 * (number + 1)) % 1.0 for number, u in enumerate(center)]
        return point, self.cube.params(point)

    def tell(self, candidate: Any, losses: list[float]) -> None:
        if losses[0] < self.best_loss:
            self.best, self.best_loss = candidate, losses[0]


SEARCHERS: dict[str, Callable[[], Searcher]] = {
    "random": BasicVariantGenerator,
    "tpe": OptunaSearch,
    "optuna random": lambda: OptunaSearch(sampler="random"),
    "cmaes": lambda: OptunaSearch(sampler="cmaes"),
    "nsgaii": lambda: OptunaSearch(sampler="nsgaii"),
    "nsgaiii": lambda: OptunaSearch(sampler="nsgaiii"),
    "qmc": lambda: OptunaSearch(sampler="qmc"),
    "bohb": TuneBOHB,
    "nevergrad": lambda: NevergradSearch("OnePlusOne"),
    "ask/tell": Halving,
    "limited": lambda: ConcurrencyLimiter(OptunaSearch(), 3),
    "limited batch": lambda: ConcurrencyLimiter(OptunaSearch(), 3, batch=True),
    "repeated": lambda: Repeater(OptunaSearch(), 2),
    "by name": lambda: create_searcher("random"),
}

each = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS.keys())


def made(make: Callable[[], Searcher], seed: int | None = 5, samples: int = 40, space: Any = None) -> Searcher:
    searcher = make()
    assert searcher.set_search_properties("loss", "min", space or SPACE, seed=seed, num_samples=samples)
    return searcher


def loss(config: dict) -> float:
    return config["x"] ** 2 + abs(math.log10(config["lr"]) + 2) + config["n"] + (config["m"]["kind"] == "a")


def drive(searcher: Searcher, start: int, count: int) -> list:
    """Run two trials at a time, one in ten failing, with a learning curve of three results each.

    Returns the configurations; a batch that is not full yet leaves places empty.
    """
    configs: list = []
    for number in range(start, start + count, 2):
        pair = [(f"t{number + i}", searcher.suggest(f"t{number + i}")) for i in range(2)]
        for trial_id, config in reversed(pair):
            if config is None:
                continue
            configs.append(config)
            if config is Searcher.FINISHED:
                continue
            for step in (1, 3, 9):
                result = {"loss": loss(config) + 1 / step, "training_iteration": step}
                searcher.on_trial_result(trial_id, result)
            if trial_id.endswith("6"):
                searcher.on_trial_complete(trial_id, None, error=True)
            else:
                searcher.on_trial_complete(trial_id, result)
    return configs


@each
def test_suggestions_are_complete_configurations_of_the_space(make: Callable[[], Searcher]) -> None:
    searcher = made(make)
    for config in drive(searcher, 0, 30):
        assert set(config) - {"__trial_index__"} == set(SPACE)
        assert config["constant"] == {"k": 7}
        assert config["twice"] == 2 * config["n"]
        known = {name: value for name, value in config.items() if name != "__trial_index__"}
        params = SearchSpace(SPACE).point(known)  # raises if a value is outside
        assert searcher.search_space().evaluated_params(config) == params


@each
def test_a_seed_makes_the_sequence(make: Callable[[], Searcher]) -> None:
    first = drive(made(make, seed=11), 0, 24)
    assert first == drive(made(make, seed=11), 0, 24)
    assert first != drive(made(make, seed=12), 0, 24)


@each
@pytest.mark.parametrize("moment", [0, 2, 13])
def test_a_pickled_copy_goes_on_alike(make: Callable[[], Searcher], moment: int) -> None:
    """Also without a seed, with trials that run, and through a file."""
    searcher = made(make, seed=None)
    drive(searcher, 0, moment)
    running = searcher.suggest("running")
    copy = cloudpickle.loads(cloudpickle.dumps(searcher))
    for one in (searcher, copy):
        if isinstance(running, dict):
            one.on_trial_complete("running", {"loss": loss(running), "training_iteration": 1})
    assert drive(searcher, 100, 14) == drive(copy, 100, 14)


@each
def test_save_and_restore(make: Callable[[], Searcher], tmp_path) -> None:
    searcher = made(make)
    drive(searcher, 0, 12)
    searcher.save(str(tmp_path / "state"))
    fresh = make()
    fresh.restore(str(tmp_path / "state"))
    assert drive(searcher, 50, 12) == drive(fresh, 50, 12)


@each
def test_strange_ends_do_no_harm(make: Callable[[], Searcher]) -> None:
    searcher = made(make)
    searcher.on_trial_complete("never seen", {"loss": 1.0})
    searcher.on_trial_result("never seen", {"loss": 1.0, "training_iteration": 1})
    ends: list[Any] = [{}, None, {"loss": math.nan}, {"loss": "text"}, {"loss": None}, {"other": 1}, {"loss": math.inf}]
    for number, end in enumerate(ends):
        assert searcher.suggest(f"t{number}") is not None
        searcher.on_trial_result(f"t{number}", end or {})
        searcher.on_trial_complete(f"t{number}", end)
        searcher.on_trial_complete(f"t{number}", end)  # twice
    assert isinstance(searcher.suggest("last"), dict)


@each
def test_a_finished_search_goes_on_also_in_a_changed_space(make: Callable[[], Searcher]) -> None:
    searcher = made(make, samples=12)
    drive(searcher, 0, 12)
    searcher.extend(6, None)
    assert all(isinstance(config, dict) for config in drive(searcher, 100, 6))
    changed = {**SPACE, "x": s.uniform(5, 6), "o": s.choice([[9], "other"]), "new": s.randint(0, 3)}
    searcher.extend(6, changed)
    for config in drive(searcher, 200, 6):
        assert 5 <= config["x"] <= 6
        assert config["o"] in [[9], "other"]
        assert config["new"] in {0, 1, 2}
    assert searcher.search_space().domains["x"] == s.uniform(5, 6)


LEARNERS = {name: make for name, make in SEARCHERS.items() if name not in {"random", "by name"}}


@pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS.keys())
def test_what_cannot_be_searched_is_refused_by_path(make: Callable[[], Searcher]) -> None:
    with pytest.raises(ValueError, match="'a/g' is a grid_search"):
        made(make, space={"a": {"g": s.grid_search([1, 2])}})
    with pytest.raises(ValueError, match="'a' is randn"):
        made(make, space={"a": s.randn()})
    with pytest.raises(ValueError, match="metric= and mode="):
        make().set_search_properties(None, None, SPACE)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        make().set_search_properties("loss", "smallest", SPACE)


OWN = {
    "random": lambda: BasicVariantGenerator(space={"x": s.uniform(0, 1)}),
    "optuna": lambda: OptunaSearch({"x": s.uniform(0, 1)}),
    "bohb": lambda: TuneBOHB({"x": s.uniform(0, 1)}),
    "nevergrad": lambda: NevergradSearch("OnePlusOne", space={"x": s.uniform(0, 1)}),
    "ask/tell": lambda: Halving({"x": s.uniform(0, 1)}),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN.keys())
def test_a_space_of_its_own_takes_constants_but_no_second_space(make: Callable[[], Searcher]) -> None:
    searcher = make()
    assert searcher.set_search_properties("loss", "min", {"steps": 9})
    config = searcher.suggest("t0")
    assert set(config) == {"x", "steps"}
    assert not make().set_search_properties("loss", "min", {"y": s.uniform(0, 1)})
    assert not make().set_search_properties("loss", "min", lambda trial: None)


def test_who_looks_at_results() -> None:
    blind = {name for name, make in SEARCHERS.items() if not make().adaptive}
    assert blind == {"random", "optuna random", "qmc", "by name"}
    assert not ConcurrencyLimiter(BasicVariantGenerator(), 2).adaptive
    assert not Repeater(BasicVariantGenerator(), 2).adaptive


UNREADY = [BasicVariantGenerator, OptunaSearch, TuneBOHB, NevergradSearch, Halving]


@pytest.mark.parametrize("make", UNREADY)
def test_without_a_space_it_says_so(make: Callable[[], Searcher]) -> None:
    with pytest.raises(RuntimeError, match="has no search space"):
        make().suggest("t0")


POINTED = {
    "random": lambda points: BasicVariantGenerator(points_to_evaluate=points),
    "optuna": lambda points: OptunaSearch(points_to_evaluate=points),
    "bohb": lambda points: TuneBOHB(points_to_evaluate=points),
    "nevergrad": lambda points: NevergradSearch("OnePlusOne", points_to_evaluate=points),
    "ask/tell": lambda points: Halving(points_to_evaluate=points),
}


@pytest.mark.parametrize("make", POINTED.values(), ids=POINTED.keys())
def test_points_come_first(make: Callable[[Any], Searcher]) -> None:
    points = [{"x": 0.25, "m": {"kind": "b", "r": 4}, "o": [2, 3]}, {"n": 3, "lr": 0.01}]
    searcher = made(lambda: make(points))
    first, second = drive(searcher, 0, 2)[::-1]
    assert (first["x"], first["m"], first["o"]) == (0.25, {"kind": "b", "r": 4}, [2, 3])
    assert (second["n"], second["lr"], second["twice"]) == (3, 0.01, 6)
    with pytest.raises(ValueError, match="'typo' is not in the search space"):
        made(lambda: make([{"typo": 1}]))
