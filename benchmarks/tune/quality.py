"""Search quality: is our search as good as Optuna's own loop at the same budget?

::

    python -m benchmarks.tune.quality                    # 20 seeds, all problems, some minutes
    python -m benchmarks.tune.quality --seeds 5 --without-run --out quality.md

Problems: Branin (60 trials), Hartmann6 (100), and the tabulated networks on scikit-learn's digits that come with the
package (60; the objective is looked up, only the search is real). Searches: random; our default intelligent search one
trial after the other through the searcher interface; the same through ``tune.run`` with two trials at a time in
processes of their own; Optuna's own ``study.optimize``. A search's *regret* is what its best trial lacks to the known
optimum.

Our searches and Optuna's have different seeds, so their samples are independent. The test is Mann and Whitney's, one
sided: the hypothesis that Optuna's regret is as large as ours is kept unless p < 0.05 says that ours is larger. That a
difference would be seen is shown by the same test against random search. Beyond the test, the sequences of
configurations are compared seed by seed: one trial after the other, they are the same.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from scipy.stats import mannwhitneyu

from tune import space as s
from tune.backend.table import TabularBenchmark
from tune.search import BasicVariantGenerator, OptunaSearch, Searcher
from tune.space import to_distributions

Config = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Something to minimise."""

    name: str
    space: Config
    loss: Callable[[Config], float]
    optimum: float
    budget: int


def branin(config: Config) -> float:
    x, y = config["x"], config["y"]
    curve = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    return curve + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(config: Config) -> float:
    x = np.array([config[f"x{number}"] for number in range(6)])
    return float(-_ALPHA @ np.exp(-np.sum(_A * (x - _P) ** 2, axis=1)))


def problems() -> list[Problem]:
    table = TabularBenchmark.load()
    accuracy = table.final("accuracy")
    return [
        Problem("Branin", {"x": s.uniform(-5, 10), "y": s.uniform(0, 15)}, branin, 0.397887, 60),
        Problem("Hartmann6", {f"x{number}": s.uniform(0, 1) for number in range(6)}, hartmann6, -3.32237, 100),
        Problem("digits table", table.space, lambda c: -float(accuracy[table.row(c)]), -float(accuracy.max()), 60),
    ]


def by_interface(problem: Problem, searcher: Searcher, seed: int) -> list[tuple[Config, float]]:
    """Drive a searcher as the controller does, one trial after the other."""
    assert searcher.set_search_properties("loss", "min", problem.space, seed=seed, num_samples=problem.budget)
    tried: list[tuple[Config, float]] = []
    for number in range(problem.budget):
        config = searcher.suggest(str(number))
        assert isinstance(config, dict)
        loss = problem.loss(config)
        searcher.on_trial_complete(str(number), {"loss": loss, "training_iteration": 1})
        tried.append((config, loss))
    return tried


def by_optuna(problem: Problem, seed: int) -> list[tuple[Config, float]]:
    """Have Optuna search alone."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = to_distributions(problem.space)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(lambda trial: problem.loss(_suggested(trial, distributions)), n_trials=problem.budget)
    return [(trial.params, float(trial.value or 0.0)) for trial in study.trials]


def _suggested(trial: optuna.Trial, distributions: dict[str, Any]) -> Config:
    config: Config = {}
    for name, distribution in distributions.items():
        if hasattr(distribution, "choices"):
            config[name] = trial.suggest_categorical(name, distribution.choices)
            continue
        suggest = trial.suggest_int if "Int" in type(distribution).__name__ else trial.suggest_float
        config[name] = suggest(name, distribution.low, distribution.high, log=distribution.log)
    return config


def by_run(problem: Problem, seed: int) -> list[tuple[Config, float]]:
    """Search with ``tune.run``, two trials at a time."""
    import tune

    loss = problem.loss
    with tempfile.TemporaryDirectory() as directory:
        analysis = tune.run(
            lambda config: {"loss": loss(config)},
            config=problem.space,
            metric="loss",
            mode="min",
            num_samples=problem.budget,
            search_alg="optuna",
            max_concurrent_trials=2,
            seed=seed,
            storage_path=directory,
            verbose=0,
        )
        return [(trial.config, trial.last_result["loss"]) for trial in analysis.trials]


def regret(problem: Problem, tried: list[tuple[Config, float]]) -> float:
    return min(loss for _, loss in tried) - problem.optimum


@dataclass
class Comparison:
    """All searches on one problem."""

    problem: Problem
    #: by search, one for each seed
    regrets: dict[str, list[float]]
    #: how many of our sequences were Optuna's, of how many
    same: tuple[int, int]

    def worse(self, search: str) -> float:
        """Return p of the test that a search's regret is larger than that of Optuna's own loop."""
        return float(mannwhitneyu(self.regrets[search], self.regrets["optuna alone"], alternative="greater").pvalue)

    def better_than_random(self, search: str) -> float:
        """Return p of the test that a search's regret is smaller than that of random search."""
        return float(mannwhitneyu(self.regrets[search], self.regrets["random"], alternative="less").pvalue)


def compare(problem: Problem, seeds: int, *, with_run: bool = True) -> Comparison:
    """Run all searches on a problem. Optuna's seeds are others than ours, 1000 away."""
    regrets: dict[str, list[float]] = {"random": [], "ours": [], "optuna alone": []}
    if with_run:
        regrets["ours, tune.run, 2 at a time"] = []
    same = 0
    for seed in range(seeds):
        ours = by_interface(problem, OptunaSearch(), seed)
        regrets["random"].append(regret(problem, by_interface(problem, BasicVariantGenerator(), seed)))
        regrets["ours"].append(regret(problem, ours))
        regrets["optuna alone"].append(regret(problem, by_optuna(problem, 1000 + seed)))
        if with_run:
            regrets["ours, tune.run, 2 at a time"].append(regret(problem, by_run(problem, seed)))
        same += [config for config, _ in ours] == [config for config, _ in by_optuna(problem, seed)]
    return Comparison(problem, regrets, (same, seeds))


def markdown(comparisons: list[Comparison]) -> str:
    lines = [
        "# Search quality",
        "",
        f"Regret of the best trial, over {comparisons[0].same[1]} seeds. *worse than Optuna*: p of the one-sided test",
        "(Mann-Whitney) that the regret is larger than that of Optuna's own loop; below 0.05 it would be. *better than",
        "random*: p of the test that it is smaller than random search's. *same sequence*: with Optuna's seed, how many",
        "sequences of configurations were Optuna's own, to the last bit.",
        "",
        "| problem | trials | search | median | quartiles | worse than Optuna | better than random | same sequence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for comparison in comparisons:
        for search, regrets in comparison.regrets.items():
            low, high = np.quantile(regrets, [0.25, 0.75])
            worse = "" if search in {"random", "optuna alone"} else f"{comparison.worse(search):.2f}"
            better = "" if search == "random" else f"{comparison.better_than_random(search):.1g}"
            same = "{} of {}".format(*comparison.same) if search == "ours" else ""
            lines.append(
                f"| {comparison.problem.name} | {comparison.problem.budget} | {search} | {median(regrets):.4g} "
                f"| {low:.4g} to {high:.4g} | {worse} | {better} | {same} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run the comparison, write it, and return 1 if a search of ours was worse than Optuna's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--without-run", action="store_true", help="leave out what goes through tune.run")
    parser.add_argument("--out", type=Path, help="Markdown file; printed in any case")
    options = parser.parse_args(arguments)
    comparisons = [compare(problem, options.seeds, with_run=not options.without_run) for problem in problems()]
    text = markdown(comparisons)
    print(text)
    if options.out:
        options.out.write_text(text)
    worse = [
        f"{search} on {comparison.problem.name}"
        for comparison in comparisons
        for search in comparison.regrets
        if search.startswith("ours") and comparison.worse(search) < 0.05
    ]
    if worse:
        print("worse than Optuna's own loop:", ", ".join(worse), file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
