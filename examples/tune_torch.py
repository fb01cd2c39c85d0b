"""Tune a PyTorch forecaster of 148 real series with ASHA: bad configurations stop after an epoch or two.

``python examples/tune_torch.py`` trains one small network over all series for each of 40 configurations, judges each
after every epoch by the error of forecasting the last year (MASE; below 1 beats repeating last year's changes), and
lets only the promising third go on. See docs/guides/tune.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from fleet.panel import Panel, read_panel
from sweeps.windows import HORIZON, cut, seasonal_naive
from torch import nn

import tune
from tune.integration.torch import TuneReportCheckpoint
from tune.schedulers import ASHAScheduler

DATA = Path(__file__).parent / "data" / "us_employment.parquet"
BATCHES_PER_EPOCH = 40


def train(config: dict[str, Any], *, panel: Panel, epochs: int) -> None:
    """Train one configuration, reporting the error on the last year after every epoch."""
    torch.set_num_threads(1)
    windows = cut(panel, config["lookback"])
    inputs, targets = torch.from_numpy(windows.inputs), torch.from_numpy(windows.targets)
    last_inputs = torch.from_numpy(windows.last_inputs)
    layers: list[nn.Module] = []
    width = config["lookback"]
    for _ in range(config["layers"]):
        layers += [nn.Linear(width, config["hidden"]), nn.ReLU(), nn.Dropout(config["dropout"])]
        width = config["hidden"]
    model = nn.Sequential(*layers, nn.Linear(width, HORIZON))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    report = TuneReportCheckpoint(model=model, optimizer=optimizer)
    while report.epoch < epochs:
        model.train()
        for _ in range(BATCHES_PER_EPOCH):
            rows = torch.randint(len(inputs), (config["batch_size"],))
            loss = nn.functional.l1_loss(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            predicted = model(last_inputs)
        report({"mase": windows.mase(predicted.numpy()), "train_loss": loss})


SPACE = {
    "lookback": tune.choice([13, 25, 37]),
    "layers": tune.randint(1, 4),
    "hidden": tune.choice([16, 32, 64, 128]),
    "dropout": tune.uniform(0.0, 0.4),
    "lr": tune.loguniform(1e-4, 3e-2),
    "weight_decay": tune.loguniform(1e-6, 1e-1),
    "batch_size": tune.choice([32, 64, 128]),
}


def main() -> None:
    """Run the sweep and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40, help="configurations (default 40)")
    parser.add_argument("--epochs", type=int, default=27, help="epochs of the best ones (default 27)")
    parser.add_argument("--series", type=int, default=148, help="series (default all 148)")
    parser.add_argument("--out", default="out/tune_torch", help="folder of the results (default out/tune_torch)")
    parser.add_argument("--quiet", action="store_true", help="print only the end result")
    options = parser.parse_args()

    panel = read_panel(DATA).evenly_spaced(options.series)
    naive = seasonal_naive(panel, cut(panel, 13))
    began = time.perf_counter()
    results = tune.Tuner(
        tune.with_parameters(train, panel=panel, epochs=options.epochs),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="mase",
            mode="min",
            num_samples=options.samples,
            search_alg="optuna",
            scheduler=ASHAScheduler(max_t=options.epochs, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(
            name="employment",
            storage_path=str(Path(options.out).resolve()),
            verbose=0 if options.quiet else 1,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()
    seconds = time.perf_counter() - began

    best = results.get_best_result(scope="all")
    epochs = sum(result.metrics["training_iteration"] for result in results if result.metrics)
    error = best.metrics_dataframe["mase"].min()
    print(f"{len(results)} configurations, {epochs} of {options.samples * options.epochs} epochs, {seconds:.0f} s")
    print(f"seasonal naive: MASE {naive:.3f}; best network: MASE {error:.3f} with")
    for name, value in best.config.items():
        print(f"  {name:13} {value:.3g}" if isinstance(value, float) else f"  {name:13} {value}")
    print(f"page with curves and importances: {Path(results.experiment_path) / 'report.html'}")


if __name__ == "__main__":
    main()
