"""Trivial trials: what a sweep costs beside its trials. Runs on Skate, on Ray Tune, and on Optuna alone as the floor.

Each measurement is one sweep in a process of its own (`run`, called by ``python -m benchmarks.tune``). The session is
open, and one small sweep has been run, before the clock starts: what is measured is the sweep, not the start of a
session or of imports. Loggers are those that are on by default.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

TRIALS = 200


def trivial(config: dict[str, float]) -> dict[str, float]:
    """One result, no work."""
    return {"loss": (config["x"] - 1) ** 2 + config["y"]}


def skate(search: str, *, loggers: bool = True, trials: int = TRIALS, **options: Any) -> float:
    """Return the seconds of a sweep of `trials` trials."""
    _loggers(loggers)
    import core
    import tune

    core.init(num_cpus=2)
    space = {"x": tune.uniform(0, 2), "y": tune.loguniform(1e-3, 1)}
    algorithms: dict[str, Any] = {"random": "random", "tpe": "optuna"}

    def sweep(number: int) -> float:
        started = time.perf_counter()
        analysis = tune.run(
            trivial, config=space, num_samples=number, search_alg=algorithms[search], metric="loss", mode="min",
            storage_path=tempfile.mkdtemp(), verbose=0, **options,
        )  # fmt: skip
        assert len(analysis.trials) == number
        return time.perf_counter() - started

    sweep(4)
    seconds = sweep(trials)
    core.shutdown()
    return seconds


def ray(search: str, *, loggers: bool = True, trials: int = TRIALS, reuse: bool = True) -> float:
    """Return the seconds of the same sweep on Ray Tune."""
    _loggers(loggers)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray as engine
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {"x": tune.uniform(0, 2), "y": tune.loguniform(1e-3, 1)}

    def sweep(number: int) -> float:
        started = time.perf_counter()
        analysis = tune.run(
            trivial, config=space, num_samples=number, search_alg=OptunaSearch() if search == "tpe" else None,
            metric="loss", mode="min", storage_path=tempfile.mkdtemp(), verbose=0, reuse_actors=reuse,
        )  # fmt: skip
        assert len(analysis.trials) == number
        return time.perf_counter() - started

    sweep(4)
    seconds = sweep(trials)
    engine.shutdown()
    return seconds


def optuna(search: str, trials: int = TRIALS) -> float:
    """Return the seconds of Optuna's own loop: no processes, no files."""
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)

    def objective(trial: Any) -> float:
        config = {"x": trial.suggest_float("x", 0, 2), "y": trial.suggest_float("y", 1e-3, 1, log=True)}
        return trivial(config)["loss"]

    samplers = {"random": library.samplers.RandomSampler, "tpe": library.samplers.TPESampler}
    library.create_study(sampler=samplers[search]()).optimize(objective, n_trials=4)
    study = library.create_study(sampler=samplers[search]())
    started = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return time.perf_counter() - started


def skate_memory(trials: int = 10_000) -> float:
    """Return by how many MB the driver's resident memory grows from the 500th trial of a sweep to its last."""
    import psutil

    import core
    import tune

    sizes: list[int] = []

    class Watch(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if trial.index in (500, last):
                sizes.append(psutil.Process().memory_info().rss)

    last = trials - 1
    core.init(num_cpus=2)
    tune.run(
        trivial, config={"x": tune.uniform(0, 2), "y": tune.uniform(0, 1)}, num_samples=trials, search_alg="random",
        metric="loss", mode="min", storage_path=tempfile.mkdtemp(), verbose=0, callbacks=[Watch()],
    )  # fmt: skip
    core.shutdown()
    return (sizes[-1] - sizes[0]) / 1e6


def _loggers(on: bool) -> None:
    if not on:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
