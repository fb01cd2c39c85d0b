"""Results per second: two trials at once that report as fast as they can, with and without the default loggers.

The clock runs from the start of the sweep to its end: every result has been through the controller and its journal, and
with loggers stands in JSON, CSV and TensorBoard files.
"""

from __future__ import annotations

import os
import tempfile
import time

RESULTS = 40_000


def skate(*, loggers: bool, results: int = RESULTS) -> float:
    """Return results per second over two trials."""
    if not loggers:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import core
    import tune

    def train(config: dict[str, int]) -> None:
        for step in range(config["steps"]):
            tune.report({"loss": 1.0 / (step + 1), "accuracy": 0.5})

    core.init(num_cpus=2)

    def sweep(steps: int) -> float:
        started = time.perf_counter()
        tune.run(
            train, config={"steps": steps}, num_samples=2, metric="loss", mode="min", storage_path=tempfile.mkdtemp(),
            verbose=0,
        )  # fmt: skip
        return time.perf_counter() - started

    sweep(10)
    seconds = sweep(results // 2)
    core.shutdown()
    return results / seconds


def ray(*, loggers: bool, results: int = 2_000) -> float:
    """Return results per second of Ray Tune, of fewer results: it takes long."""
    if not loggers:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray as engine
    from ray import tune

    def train(config: dict[str, int]) -> None:
        for step in range(config["steps"]):
            tune.report({"loss": 1.0 / (step + 1), "accuracy": 0.5})

    engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

    def sweep(steps: int) -> float:
        started = time.perf_counter()
        tune.run(
            train, config={"steps": steps}, num_samples=2, metric="loss", mode="min", storage_path=tempfile.mkdtemp(),
            verbose=0, reuse_actors=True,
        )  # fmt: skip
        return time.perf_counter() - started

    sweep(10)
    seconds = sweep(results // 2)
    engine.shutdown()
    return results / seconds
