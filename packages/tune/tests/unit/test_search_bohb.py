"""BOHB's models, budget by budget."""

from __future__ import annotations

import pytest

from tune import space as s
from tune.search import TuneBOHB
from tune.search.bohb import _milestones

SPACE = {"x": s.uniform(0, 1), "y": s.uniform(0, 1)}


def made(**arguments) -> TuneBOHB:
    searcher = TuneBOHB(**arguments)
    searcher.set_search_properties("loss", "min", SPACE, seed=0)
    return searcher


def run(searcher: TuneBOHB, name: str, last: int) -> dict:
    """One trial: a loss that is misleading at first, as curves are, and true at the end."""
    config = searcher.suggest(name)
    for step in range(1, last + 1):
        truth = (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2
        searcher.on_trial_result(name, {"loss": truth + 0.1 / step, "training_iteration": step})
    searcher.on_trial_complete(name, {"loss": truth + 0.1 / step, "training_iteration": step})
    return config


def test_budgets_are_hyperbands() -> None:
    assert _milestones(81, 3) == [1, 3, 9, 27, 81]
    assert _milestones(100, 3) == [1, 3, 11, 33, 100]
    assert _milestones(2.5, 2) == [1.25, 2.5]


def test_each_trial_is_observed_once_at_each_budget() -> None:
    searcher = made()
    run(searcher, "a", 10)
    run(searcher, "b", 4)
    assert searcher._observed == {1: 2, 3: 2, 9: 1}
    assert {budget: len(model.trials) for budget, model in searcher._models.items()} == {1: 2, 3: 2, 9: 1}
    assert searcher._models[9].trials[0].value == pytest.approx(searcher._models[1].trials[0].value - 0.1 + 0.1 / 9)


def test_the_model_of_the_largest_budget_that_knows_enough_is_asked() -> None:
    searcher = made(bohb_config={"random_fraction": 0.0})
    for number in range(5):  # two parameters: three points at least, and two more
        assert searcher._largest_budget() is None
        run(searcher, f"short {number}", 1)
    assert searcher._largest_budget() == 1
    for number in range(5):
        run(searcher, f"long {number}", 9)
    assert searcher._largest_budget() == 9
    searcher.suggest("asked")
    assert searcher._live["asked"].source == 9
    assert [trial.state.name for trial in searcher._models[9].trials].count("RUNNING") == 1
    searcher.on_trial_complete("asked", None, error=True)
    assert [trial.state.name for trial in searcher._models[9].trials].count("RUNNING") == 0


def test_a_fraction_is_random_and_the_rest_converges() -> None:
    searcher = made()
    sources = []
    configs = []
    for number in range(120):
        config = searcher.suggest(f"{number}")
        sources.append(searcher._live[f"{number}"].source)
        configs.append(config)
        truth = (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2
        searcher.on_trial_complete(f"{number}", {"loss": truth, "training_iteration": 1})
    late = sources[20:]
    assert 0.2 < sum(source is None for source in late) / len(late) < 0.45
    guided = [config for config, source in zip(configs[60:], sources[60:], strict=True) if source is not None]
    assert sum(abs(config["x"] - 0.3) < 0.15 and abs(config["y"] - 0.7) < 0.15 for config in guided) > len(guided) / 2


def test_max_concurrent_holds_back() -> None:
    searcher = made(max_concurrent=1)
    assert searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {"loss": 1.0, "training_iteration": 1})
    assert searcher.suggest("b")


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"unknown keys \['typo'\]"):
        TuneBOHB(bohb_config={"typo": 1})
    with pytest.raises(ValueError, match="random_fraction"):
        TuneBOHB(bohb_config={"random_fraction": 2})
    with pytest.raises(ValueError, match="max_t"):
        TuneBOHB(max_t=0)
    with pytest.raises(ValueError, match="one metric"):
        TuneBOHB().set_search_properties(["a", "b"], ["min", "min"], SPACE)
    with pytest.raises(TypeError, match="needs a dict"):
        TuneBOHB(space=lambda trial: {})


def test_with_its_scheduler_on_the_table(tmp_path) -> None:
    """A whole sweep in simulated time: HyperBand's milestones are the model's budgets."""
    import tune
    from tune.backend.simulator import SimulatorBackend
    from tune.backend.table import TabularBenchmark
    from tune.schedulers import HyperBandForBOHB

    table = TabularBenchmark.load()
    searcher = TuneBOHB(max_t=27)
    analysis = tune.run(
        lambda config: None,
        config=table.space,
        metric="accuracy",
        mode="max",
        num_samples=40,
        search_alg=searcher,
        scheduler=HyperBandForBOHB(max_t=27),
        backend=SimulatorBackend(table, workers=2),
        seed=1,
        storage_path=str(tmp_path),
        verbose=0,
    )
    assert len(analysis.trials) == 40
    iterations = [trial.iteration for trial in analysis.trials]
    assert set(iterations) == {1, 3, 9, 27}
    assert searcher._observed[1] >= 27
    for budget, count in searcher._observed.items():
        assert count <= sum(iteration >= budget for iteration in iterations)
    assert analysis.best_result["accuracy"] > 0.9
