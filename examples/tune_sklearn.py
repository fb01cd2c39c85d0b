"""Tune scikit-learn's gradient boosting on 148 real series with ``TuneSearchCV``, a drop-in for ``RandomizedSearchCV``.

``python examples/tune_sklearn.py`` learns next month's change from the past of each series, cross-validated in time,
with Optuna choosing the configurations. See docs/guides/tune-sklearn.md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from fleet.panel import read_panel
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import TimeSeriesSplit
from sweeps.windows import cut

import tune
from tune.sklearn import TuneSearchCV

DATA = Path(__file__).parent / "data" / "us_employment.parquet"

SPACE = {
    "loss": tune.choice(["squared_error", "absolute_error"]),
    "learning_rate": tune.loguniform(0.01, 0.5),
    "max_leaf_nodes": tune.randint(4, 64),
    "min_samples_leaf": tune.lograndint(5, 200),
    "l2_regularization": tune.loguniform(1e-6, 10.0),
    "max_features": tune.uniform(0.2, 1.0),
}


def main() -> None:
    """Run the search and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=30, help="configurations (default 30)")
    parser.add_argument("--series", type=int, default=148, help="series (default all 148)")
    parser.add_argument("--quiet", action="store_true", help="print only the end result")
    options = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes of trials: each has one CPU
    panel = read_panel(DATA).evenly_spaced(options.series)
    windows = cut(panel, lookback=25, step=6)
    order = np.argsort(windows.months, kind="stable")  # TimeSeriesSplit takes rows oldest first
    inputs, target = windows.inputs[order], windows.targets[order, 0]
    learnt = int(len(target) * 0.8)

    began = time.perf_counter()
    search = TuneSearchCV(
        HistGradientBoostingRegressor(max_iter=60, random_state=0),
        SPACE,
        n_iter=options.samples,
        search_alg="optuna",
        scoring="neg_mean_absolute_error",
        cv=TimeSeriesSplit(3),
        random_state=0,
        verbose=0 if options.quiet else 1,
    ).fit(inputs[:learnt], target[:learnt])
    seconds = time.perf_counter() - began

    plain = HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(inputs[:learnt], target[:learnt])
    best = search.best_params_
    errors = {
        "last value": mean_absolute_error(target[learnt:], np.zeros_like(target[learnt:])),
        "same month last year": mean_absolute_error(target[learnt:], inputs[learnt:, -12] - inputs[learnt:, -13]),
        "boosting, defaults": mean_absolute_error(target[learnt:], plain.predict(inputs[learnt:])),
        "boosting, tuned": mean_absolute_error(target[learnt:], search.predict(inputs[learnt:])),
    }
    print(f"{options.samples} configurations x {search.n_splits_} folds in {seconds:.0f} s")
    for name, error in errors.items():
        print(f"  {name:21} mean absolute error of next month's change {100 * error:.3f} %")
    found = (f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in best.items())
    print("best:", ", ".join(found))


if __name__ == "__main__":
    main()
