"""A driver to be killed: ``python -m tests.tune.durable_driver STORAGE`` begins a sweep, or goes on with it.

The sweep is as sensitive to the order of events as one can be: TPE suggests, ASHA promotes and stops, and trials take
times that differ from run to run. A trial whose function runs to its end writes a line into the file that
``SKATE_TEST_ENDS`` names.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import core
import tune
from tune.schedulers import ASHAScheduler

TRIALS = 14
LENGTH = 6


def trainable(config: dict[str, Any]) -> None:
    """Report six times; trials with an even `kind` save each time."""
    luck = random.Random()
    context = tune.get_context()
    checkpoint = tune.get_checkpoint()
    begun = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            begun = int(Path(directory, "step").read_text())
    for step in range(begun + 1, LENGTH + 1):
        time.sleep(luck.uniform(0, 0.02))  # work, of a length that nobody can foresee
        metrics = {"loss": (config["x"] - 0.3) ** 2 + config["y"] / step}
        if config["kind"] == "saves":
            with tempfile.TemporaryDirectory() as directory:
                Path(directory, "step").write_text(str(step))
                tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(directory))
        else:
            tune.report(metrics)
    with Path(os.environ["SKATE_TEST_ENDS"]).open("a") as file:
        file.write(f"{context.get_trial_id()}\n")


def main(storage: str) -> None:
    """Run the sweep."""
    core.init(num_cpus=2)
    tune.run(
        trainable,
        name="sweep",
        storage_path=storage,
        config={"x": tune.uniform(0, 1), "y": tune.loguniform(1e-3, 1), "kind": tune.choice(["saves", "does not"])},
        metric="loss",
        mode="min",
        num_samples=TRIALS,
        search_alg="optuna",
        scheduler=ASHAScheduler(max_t=LENGTH + 1, grace_period=2, reduction_factor=2),
        seed=11,
        resume="AUTO",
        verbose=0,
    )
    core.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
