"""What early stopping saves: simulated sweeps over the tabulated digits benchmark, through tune's own controller.

Each sweep tries the 300 configurations of the table in an order drawn with a seed. Measured is the simulated time until
a configuration whose final accuracy is within 0.005 of the table's best has been trained to the end. With ``--cost
unit`` every epoch takes the same time and times are in full trainings (27 epochs); with ``--cost measured`` epochs take
the seconds they took when the table was made. ASHA has ``max_t=27, grace_period=1, reduction_factor=3``.

    python -m benchmarks.tune.simulated --seeds 60
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tune.backend import SimulatorBackend, TabularBenchmark
from tune.callback import Callback
from tune.controller import SweepPlan, run_sweep
from tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, TrialScheduler
from tune.search.base import FINISHED, Searcher
from tune.trial import Result, Trial

METHODS = ("random", "stopping", "promotion", "hyperband")
METRIC, MARGIN = "accuracy", 0.005
#: Where the journals go: in memory, if there is such a place, since nobody wants them.
_FAST_DIRECTORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class RowsInOrder(Searcher):
    """Suggests the rows of a table in a given order."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__(METRIC, "max")
        self._left = rows[::-1]

    def suggest(self, trial_id: str) -> Any:
        """Return the next row."""
        return {"row": self._left.pop()} if self._left else FINISHED


class FirstGoodOne(Callback):
    """Notes when a good configuration was trained to the end, and counts epochs."""

    def __init__(self, backend: SimulatorBackend, target: float, epochs: int) -> None:
        self._backend = backend
        self._target = target
        self._epochs = epochs
        self.found_at: float | None = None
        self.trained = 0

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        """Look at a result."""
        self.trained += 1
        good = result[METRIC] >= self._target and result["training_iteration"] >= self._epochs
        if good and self.found_at is None:
            self.found_at = self._backend.elapsed


def scheduler_of(method: str, epochs: int) -> TrialScheduler:
    """Return the scheduler of a method."""
    if method == "random":
        return FIFOScheduler()
    if method == "hyperband":
        return HyperBandScheduler(max_t=epochs, reduction_factor=3)
    return ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=3, variant=method)  # type: ignore[arg-type]


def time_to_target(table: TabularBenchmark, method: str, workers: int, seed: int) -> float:
    """Run one sweep and return the simulated seconds until a good configuration was trained to the end."""
    target = float(table.final(METRIC).max()) - MARGIN
    rows = list(range(table.num_rows))
    random.Random(seed).shuffle(rows)
    if method == "random":
        # What comes after the first good one has ended changes nothing, so it need not be simulated.
        good = [place for place, row in enumerate(rows) if table.final(METRIC)[row] >= target]
        rows = rows[: good[0] + 4 * workers]
    backend = SimulatorBackend(table, workers=workers)
    watch = FirstGoodOne(backend, target, table.num_epochs)
    scheduler = scheduler_of(method, table.num_epochs)
    scheduler.set_search_properties(METRIC, "max", seed=seed)
    with tempfile.TemporaryDirectory(dir=_FAST_DIRECTORY) as directory:
        plan = SweepPlan(
            name="simulated",
            directory=Path(directory),
            space={},
            metric=METRIC,
            mode="max",
            num_samples=len(rows),
            searcher=RowsInOrder(rows),
            scheduler=scheduler,
            callbacks=[watch],
            seed=seed,
        )
        outcome = run_sweep(plan, backend)
    if outcome.error is not None:
        raise outcome.error
    return watch.found_at if watch.found_at is not None else backend.elapsed


def with_cost(table: TabularBenchmark, cost: str) -> TabularBenchmark:
    """Return the table with epochs that cost alike, such that a full training takes 1 s, or as they were measured."""
    if cost == "measured":
        return table
    seconds = np.full(table.num_rows, 1.0 / table.num_epochs)
    return TabularBenchmark(table.configs, table.metrics, seconds, table.space)


def compare(cost: str, workers: list[int], seeds: int, methods: tuple[str, ...] = METHODS) -> list[dict[str, Any]]:
    """Return, for each number of workers, each method's mean time and how much sooner than random search it is."""
    table = with_cost(TabularBenchmark.load("digits_mlp"), cost)
    rows = []
    for count in workers:
        times = {method: [time_to_target(table, method, count, seed) for seed in range(seeds)] for method in methods}
        means = {method: statistics.fmean(found) for method, found in times.items()}
        row: dict[str, Any] = {"cost": cost, "workers": count, "seeds": seeds}
        for method, mean in means.items():
            error = statistics.stdev(times[method]) / seeds**0.5 if seeds > 1 else 0.0
            row[method] = {"mean": mean, "error": error, "sooner": means["random"] / mean}
        rows.append(row)
    return rows


def show(row: dict[str, Any], methods: tuple[str, ...] = METHODS) -> str:
    """Return a row as a line for people."""
    unit = "trainings" if row["cost"] == "unit" else "s"
    parts = [f"{name} {row[name]['mean']:.2f} ({row[name]['sooner']:.1f}x)" for name in methods]
    return f"{row['workers']} workers, mean of {row['seeds']} seeds, {unit}: {', '.join(parts)}"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--cost", choices=["unit", "measured"], nargs="+", default=["unit"])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    began = time.monotonic()
    rows = [row for cost in options.cost for row in compare(cost, options.workers, options.seeds)]
    for row in rows:
        sys.stdout.write(show(row) + "\n")
    sys.stdout.write(f"{len(rows) * len(METHODS) * options.seeds} sweeps in {time.monotonic() - began:.0f} s\n")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
