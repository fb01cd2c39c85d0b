"""Population based training on a toy whose best schedule is known, against every fixed setting, with real trials.

The best learning rate falls with progress, from 1e-1 at progress 0 to 1e-4 at 100. A step gains 1 at the best rate,
less beside it and nothing a factor of ten away. With the best schedule progress is the number of steps; a fixed rate
stands still once the best one is a factor of ten below it.

    python -m benchmarks.tune.pbt_toy docs/guides/tune-schedulers-pbt.svg
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tune
from tune.schedulers import PB2, PopulationBasedTraining, TrialScheduler

STEPS, POPULATION = 120, 8


def best_rate(progress: float) -> float:
    """Return the logarithm of the best rate."""
    return -1 - 3 * progress / 100


class Narrowing(tune.Trainable):
    """A trial on the toy."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin at nothing."""
        self.progress = 0.0

    def step(self) -> dict[str, Any]:
        """Gain by how good the rate is."""
        rate = math.log10(self.config["rate"])
        self.progress += max(0.0, 1 - abs(rate - best_rate(self.progress)))
        return {"progress": self.progress, "rate": self.config["rate"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save the progress."""
        (Path(checkpoint_dir) / "progress").write_text(str(self.progress))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Go on from a saved progress."""
        self.progress = float((Path(checkpoint) / "progress").read_text())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another configuration in the same process."""
        self.progress = 0.0
        return True


def curves(scheduler: TrialScheduler | None, rates: list[float]) -> list[tuple[list[float], list[float]]]:
    """Run one trial for each rate and return the progress and the rate of each after each step."""
    with tempfile.TemporaryDirectory() as directory:
        analysis = tune.run(
            Narrowing,
            config={"rate": tune.grid_search(rates)},
            metric="progress",
            mode="max",
            scheduler=scheduler,
            stop={"training_iteration": STEPS},
            resources_per_trial={"cpu": 0.25},
            seed=0,
            storage_path=directory,
            name="toy",
            verbose=0,
        )
        frames = analysis.trial_dataframes.values()
        return [(frame["progress"].tolist(), frame["rate"].tolist()) for frame in frames]


def main(target: Path | None) -> None:
    """Compare, print, and draw if there is a target."""
    rates = [10 ** (-0.5 - index / 2) for index in range(POPULATION)]
    fixed = curves(None, [10 ** (tenths / 10) for tenths in range(-45, -5)])
    pbt = curves(
        PopulationBasedTraining(
            "training_iteration",
            perturbation_interval=3,
            hyperparam_mutations={"rate": tune.loguniform(1e-5, 1.0)},
            perturbation_factors=(1.5, 0.67),
            synch=True,
        ),
        rates,
    )
    pb2 = curves(
        PB2(
            "training_iteration",
            perturbation_interval=3,
            hyperparam_bounds={"rate": tune.loguniform(1e-5, 1.0)},
            synch=True,
        ),
        rates,
    )
    found = {"best schedule": STEPS, "best fixed rate": _best(fixed), "PBT": _best(pbt), "PB2": _best(pb2)}
    for name, progress in found.items():
        sys.stdout.write(f"{name}: {progress:.1f} after {STEPS} steps\n")
    for name, progress in untuned().items():
        sys.stdout.write(f"{name}, four trials, default factors, mean of four seeds: {progress:.1f}\n")
    if target is not None:
        _draw(target, max(fixed, key=lambda curve: curve[0][-1])[0], pbt, pb2)


def untuned() -> dict[str, float]:
    """Return what a small population comes to, on average, if nobody has fitted factors and interval to the toy."""
    rates = [0.3, 0.01, 0.001, 1e-5]
    rate = tune.loguniform(1e-5, 1.0)
    makers: dict[str, Callable[[int], TrialScheduler]] = {
        "PBT": lambda seed: PopulationBasedTraining(
            "training_iteration", perturbation_interval=4, hyperparam_mutations={"rate": rate}, synch=True, seed=seed
        ),
        "PB2": lambda seed: PB2(
            "training_iteration", perturbation_interval=4, hyperparam_bounds={"rate": rate}, synch=True, seed=seed
        ),
    }
    return {
        name: statistics.fmean(_best(curves(make(seed), rates)) for seed in range(4)) for name, make in makers.items()
    }


def _best(found: list[tuple[list[float], list[float]]]) -> float:
    return max(progress[-1] for progress, _ in found)


def _draw(target: Path, fixed: list[float], pbt: Any, pb2: Any) -> None:
    import matplotlib as mpl  # heavy and optional: only the picture needs it

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "tune"  # the same picture each time
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    steps = range(1, STEPS + 1)
    left.plot(steps, steps, "k--", lw=1, label="best schedule")
    left.plot(steps, fixed, "0.4", label="best fixed rate")
    for name, found, color in (("PBT", pbt, "C0"), ("PB2", pb2, "C1")):
        population = [max(values) for values in zip(*(progress for progress, _ in found), strict=True)]
        left.plot(steps, population, color, label=f"{name}, best of {POPULATION}")
        for progress, rate in found:
            right.scatter(progress, rate, s=3, c=color, alpha=0.5, lw=0, rasterized=True)
    right.plot([0, STEPS], [10 ** best_rate(0), 10 ** best_rate(STEPS)], "k--", lw=1)
    left.set(xlabel="steps", ylabel="progress")
    right.set(xlabel="progress", ylabel="learning rate", yscale="log", ylim=(1e-6, 1))
    left.legend(frameon=False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
