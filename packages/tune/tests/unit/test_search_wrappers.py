"""ConcurrencyLimiter, Repeater, create_searcher, the names of the package."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import tune.search
from tune import space as s
from tune.search import (
    BasicVariantGenerator,
    ConcurrencyLimiter,
    NevergradSearch,
    OptunaSearch,
    Repeater,
    Searcher,
    TuneBOHB,
    create_searcher,
)
from tune.search.create import SEARCHERS
from tune.search.objectives import Objectives, violations


class Recorder(Searcher):
    """Counts up, and remembers what it is told."""

    def __init__(self, last: int = 100) -> None:
        super().__init__("loss", "min")
        self.count = 0
        self.last = last
        self.told: list[Any] = []

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        self.told.append(("spec", spec))
        return True

    def suggest(self, trial_id: str) -> Any:
        if self.count == self.last:
            return self.FINISHED
        self.count += 1
        return {"x": self.count}

    def on_trial_result(self, trial_id: str, result: Any) -> None:
        self.told.append(("result", trial_id))

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.told.append((trial_id, None if result is None else result["loss"], error))

    def add_evaluated_point(self, config: Any, value: Any, error: bool = False) -> None:
        self.told.append(("point", config, value))


def test_the_limiter_holds_back_and_hands_on() -> None:
    recorder = Recorder(3)
    limiter = ConcurrencyLimiter(recorder, 2)
    assert limiter.suggest("a") == {"x": 1}
    assert limiter.suggest("b") == {"x": 2}
    assert limiter.suggest("c") is None
    limiter.on_trial_result("a", {"loss": 1})
    limiter.on_trial_complete("a", {"loss": 1})
    assert limiter.suggest("c") == {"x": 3}
    limiter.on_trial_complete("b", None, error=True)
    limiter.on_trial_complete("stranger", {"loss": 9})
    assert limiter.suggest("d") is Searcher.FINISHED
    limiter.add_evaluated_point({"x": 0}, 5.0)
    assert recorder.told == [("result", "a"), ("a", 1, False), ("b", None, True), ("point", {"x": 0}, 5.0)]


def test_a_batch_is_told_as_a_whole_and_the_next_one_waits_for_it() -> None:
    recorder = Recorder(5)
    limiter = ConcurrencyLimiter(recorder, 3, batch=True)
    for name in "abc":
        limiter.suggest(name)
    limiter.on_trial_complete("b", {"loss": 2})
    limiter.on_trial_complete("a", {"loss": 1})
    assert limiter.suggest("d") is None
    assert recorder.told == []
    limiter.on_trial_complete("c", {"loss": 3})
    assert [told[0] for told in recorder.told] == ["b", "a", "c"]
    # a last batch that cannot be filled is told when it has ended
    assert limiter.suggest("d") == {"x": 4}
    assert limiter.suggest("e") == {"x": 5}
    assert limiter.suggest("f") is Searcher.FINISHED
    limiter.on_trial_complete("d", {"loss": 4})
    limiter.on_trial_complete("e", {"loss": 5})
    assert [told[0] for told in recorder.told] == ["b", "a", "c", "d", "e"]


@pytest.mark.parametrize("batch", [False, True])
def test_paused_trials_make_room_except_in_a_batch(batch: bool) -> None:
    limiter = ConcurrencyLimiter(Recorder(), max_concurrent=2, batch=batch)
    assert limiter.suggest("a")
    assert limiter.suggest("b")
    limiter.on_pause("a")
    assert (limiter.suggest("c") is None) is batch
    limiter.on_unpause("a")
    assert limiter.suggest("d") is None
    limiter.on_pause("a")
    limiter.on_trial_complete("a")
    assert limiter.suggest("e") is None, "it is counted once"


def test_limiters_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConcurrencyLimiter(Recorder(), 0)
    with pytest.raises(ValueError, match="must not be one itself"):
        ConcurrencyLimiter(ConcurrencyLimiter(Recorder(), 1), 1)


def test_the_repeater_tells_the_mean_of_those_that_ended_well() -> None:
    recorder = Recorder()
    repeater = Repeater(recorder, 3)
    configs = [repeater.suggest(name) for name in "abcdef"]
    assert [(config["x"], config["__trial_index__"]) for config in configs] == [
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2),
    ]  # fmt: skip
    repeater.on_trial_complete("c", {"loss": 4.0, "other": 1})
    repeater.on_trial_complete("a", {"loss": 2.0})
    assert recorder.told == []
    repeater.on_trial_complete("b", None, error=True)
    for name in "def":
        repeater.on_trial_complete(name, {"loss": float("nan")})
    repeater.on_trial_complete("stranger", {"loss": 1.0})
    assert recorder.told == [("a", 3.0, False), ("d", None, True)]


def test_repeaters_arguments_and_counts() -> None:
    assert "__trial_index__" not in Repeater(Recorder(), 2, set_index=False).suggest("a")
    with pytest.raises(ValueError, match="at least 1"):
        Repeater(Recorder(), 0)
    recorder = Recorder()
    Repeater(recorder, 3).set_search_properties("loss", "min", {}, num_samples=10, seed=1)
    assert recorder.told == [("spec", {"num_samples": 4, "seed": 1})]
    random = Repeater(BasicVariantGenerator(), 2)
    random.set_search_properties(None, None, {"g": s.grid_search([1, 2])}, num_samples=2)
    assert random.total_samples() == 4
    first, second = random.suggest("a"), random.suggest("b")
    assert (first["g"], second["g"]) == (1, 1)
    random.on_trial_complete("a", {"loss": 1})
    random.on_trial_complete("b", {"loss": 1})  # without a metric there is nothing to take the mean of


def test_searchers_by_name() -> None:
    kinds = {
        "random": BasicVariantGenerator,
        "Variant_Generator": BasicVariantGenerator,
        "optuna": OptunaSearch,
        "bohb": TuneBOHB,
        "nevergrad": NevergradSearch,
    }
    for name, kind in kinds.items():
        assert type(create_searcher(name, metric="loss", mode="min")) is kind
    assert create_searcher("qmc", seed=3)._sampler == "qmc"
    with pytest.raises(ValueError, match=r"search_alg must be one of .*tpe.*got 'hyperopt'.*AskTellSearch"):
        create_searcher("hyperopt")
    with pytest.raises(TypeError, match="wrong"):
        create_searcher("random", wrong=1)


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_can_be_made_by_name(name: str) -> None:
    if name == "gp":
        pytest.importorskip("torch", reason="PyTorch is optional and not installed")
    searcher = create_searcher(name)
    searcher.set_search_properties("loss", "min", {"n": s.randint(1, 9), "m": s.uniform(0, 1)}, seed=1)


def test_the_packages_names_are_there_and_cheap() -> None:
    for name in tune.search.__all__:
        assert getattr(tune.search, name) is not None
        assert name in dir(tune.search)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tune.search.Nothing
    code = (
        "import sys; from tune.search import OptunaSearch, TuneBOHB, NevergradSearch, StudyFileCallback;"
        "import tune.space as s; OptunaSearch().set_search_properties('loss', 'min', {'x': s.uniform(0, 1)});"
        "heavy = {'optuna', 'nevergrad', 'numpy', 'scipy', 'pandas'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_objectives() -> None:
    both = Objectives.of(["a", "b"], ["min", "max"], searcher="x")
    assert both.values({"a": 1, "b": 2.5, "c": "x"}) == [1.0, 2.5]
    assert both.losses([1.0, 2.5]) == [1.0, -2.5]
    assert both.values({"a": 1}) is both.values(None) is both.values({"a": True, "b": 1}) is None
    assert Objectives.of("a", None, searcher="x").modes == ("max",)
    assert Objectives.of(["a", "b"], "min", searcher="x").modes == ("min", "min")
    with pytest.raises(ValueError, match="need as many modes"):
        Objectives.of(["a", "b"], ["min"], searcher="x")


def test_violations() -> None:
    bounds = {"t": 20, "u": (1, 3), "v": (2, None)}
    assert violations(bounds, {"t": 25, "u": 2, "v": 1}) == {"t<=20": 5.0, "u<=3": -1.0, "u>=1": -1.0, "v>=2": 1.0}
    assert violations(bounds, {"t": 25}) is None
    assert violations(None, {}) == {}
    assert violations(lambda result: float("nan"), {}) is None
