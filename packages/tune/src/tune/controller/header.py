"""``experiment.json``: what people and the command line want to know of an experiment at a glance."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from tune.controller.snapshot import replace_file
from tune.controller.state import State
from tune.result import lookup
from tune.trial import Trial

_NAME = "experiment.json"


def write_header(directory: Path, state: State, now: float, condition: str) -> None:
    """Write the header.

    Args:
        directory: of the experiment.
        state: the books.
        now: seconds since the epoch.
        condition: ``"running"``, or an `EndReason`.
    """
    rules = state.rules
    best = best_trial(state)
    header = {
        "name": rules.name,
        "trainable": rules.trainable_name,
        "metric": list(rules.metrics),
        "mode": list(rules.modes),
        "num_samples": rules.num_samples,
        "total_samples": rules.total_samples,
        "search_alg": rules.searcher,
        "scheduler": rules.scheduler,
        "seed": rules.seed,
        "condition": condition,
        "began": state.trials[0].start_time if state.trials else None,
        "updated": now,
        "trials": dict(Counter(trial.status.value for trial in state.trials)),
        "best": None if best is None else _shown(best, rules.metrics[0]),
    }
    replace_file(directory / _NAME, (json.dumps(header, indent=2, default=repr) + "\n").encode())


def read_header(directory: Path) -> dict[str, Any] | None:
    """Return what the header says, None if there is none that can be read."""
    try:
        header: dict[str, Any] = json.loads((directory / _NAME).read_text())
    except (OSError, ValueError):
        return None
    return header


def best_trial(state: State) -> Trial | None:
    """Return the trial with the best last result by the first metric, None if there is none or no metric."""
    rules = state.rules
    if not rules.metrics:
        return None
    name, sign = rules.metrics[0], -1.0 if rules.modes[0] == "min" else 1.0
    best, best_value = None, -math.inf
    for trial in state.trials:
        value = lookup(trial.last_result, name)
        if isinstance(value, int | float) and sign * value > best_value:
            best, best_value = trial, sign * value
    return best


def _shown(trial: Trial, metric: str) -> dict[str, Any]:
    return {"trial": trial.trial_id, metric: lookup(trial.last_result, metric), "params": trial.evaluated_params}
