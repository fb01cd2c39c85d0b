"""Make the tabulated benchmark ``digits_mlp``: learning curves of 300 small networks on scikit-learn's digits.

Run once, in about four minutes on one core::

    python -m benchmarks.tune.make_digits_table packages/tune/src/tune/backend/data/digits_mlp.npz

300 configurations are drawn with a seed from the space below. Each is an scikit-learn `MLPClassifier` trained for 27
epochs (`partial_fit`: one pass over 1,000 training images in shuffled batches); after each epoch the accuracy and the
log loss on the other 797 images are kept. A configuration's seconds an epoch are the median of the CPU time of its
epochs, so that a busy machine does not show; BLAS runs one thread. The drawn networks and their curves depend on the
seed alone (and on the versions of numpy and scikit-learn), the seconds on the machine.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.neural_network import MLPClassifier

CONFIGS, EPOCHS, TRAIN, SEED = 300, 27, 1000, 0

#: Parameter names to how they were drawn: what `tune.backend.table.TabularBenchmark` calls its space.
SPACE: dict[str, dict[str, Any]] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "alpha": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "log": False},
    "batch_size": {"type": "int", "low": 16, "high": 256, "log": True},
    "width": {"type": "int", "low": 8, "high": 128, "log": True},
    "layers": {"type": "int", "low": 1, "high": 3, "log": False},
    "activation": {"type": "choice", "values": ["relu", "tanh", "logistic"]},
    "solver": {"type": "choice", "values": ["sgd", "adam"]},
}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw one configuration."""
    config: dict[str, Any] = {}
    for name, domain in SPACE.items():
        if domain["type"] == "choice":
            config[name] = domain["values"][int(rng.integers(len(domain["values"])))]
            continue
        low, high = domain["low"], domain["high"]
        value = np.exp(rng.uniform(np.log(low), np.log(high))) if domain["log"] else rng.uniform(low, high)
        if domain["type"] == "int" and not domain["log"]:
            value = rng.integers(low, high + 1)
        config[name] = round(value) if domain["type"] == "int" else float(value)
    return config


def train(config: dict[str, Any], seed: int, data: tuple[Any, Any]) -> tuple[list[float], list[float], float]:
    """Train one network and return its accuracies, its losses and its seconds an epoch."""
    images, labels = data
    network = MLPClassifier(
        hidden_layer_sizes=(config["width"],) * config["layers"],
        activation=config["activation"],
        solver=config["solver"],
        alpha=config["alpha"],
        batch_size=config["batch_size"],
        learning_rate_init=config["learning_rate"],
        momentum=config["momentum"],
        random_state=seed,
    )
    accuracies, losses, seconds = [], [], []
    for _ in range(EPOCHS):
        before = time.process_time()
        network.partial_fit(images[:TRAIN], labels[:TRAIN], classes=range(10))
        seconds.append(time.process_time() - before)
        probabilities = np.nan_to_num(network.predict_proba(images[TRAIN:]), nan=0.1)
        accuracies.append(accuracy_score(labels[TRAIN:], probabilities.argmax(axis=1)))
        losses.append(log_loss(labels[TRAIN:], probabilities, labels=range(10)))
    return accuracies, losses, float(np.median(seconds))


def main(target: Path) -> None:
    """Train all networks and write the table."""
    warnings.simplefilter("ignore")  # some networks diverge: that is part of the table
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(images))
    data = images[order] / 16, labels[order]
    configs = [draw(rng) for _ in range(CONFIGS)]
    rows = []
    for index, config in enumerate(configs):
        rows.append(train(config, SEED + index, data))
        sys.stderr.write(f"\r{index + 1}/{CONFIGS}")
    np.savez_compressed(
        target,
        space=np.array(json.dumps(SPACE)),
        seconds=np.array([row[2] for row in rows], np.float32),
        **{"metric/accuracy": np.array([row[0] for row in rows], np.float32)},
        **{"metric/loss": np.array([row[1] for row in rows], np.float32)},
        **{f"config/{name}": np.array([config[name] for config in configs]) for name in SPACE},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
