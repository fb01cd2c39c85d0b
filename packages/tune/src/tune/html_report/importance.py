"""Which parameters mattered: Optuna's evaluator when there are enough trials, a rank correlation otherwise."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tune.html_report.sweep import Sweep, as_number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: trials with a value below which Optuna's evaluator (which compares the best tenth with all) has nothing to go by
ENOUGH_TRIALS = 40
#: trials that are looked at, an even choice of more
MOST_TRIALS = 1_000
#: positive values that differ by this factor are taken for a logarithmic scale
LOG_FACTOR = 100.0


class Importance(msgspec.Struct, frozen=True):
    """How much each parameter mattered for one objective, the most important first."""

    method: str
    values: dict[str, float]


def importance(sweep: Sweep, objective: int, *, may_import_optuna: bool) -> Importance | None:
    """Return how much each parameter mattered.

    Args:
        sweep: the sweep.
        objective: which one.
        may_import_optuna: whether Optuna may be loaded for this (half a second) if it is not yet.

    Returns:
        None if fewer than three trials have a value, or no parameter varies.
    """
    pairs = [
        (trial.evaluated_params, value)
        for trial in sweep.trials
        if trial.status.finished and (value := sweep.value(trial, objective)) is not None
    ]
    if len(pairs) > MOST_TRIALS:
        pairs = [pairs[position * len(pairs) // MOST_TRIALS] for position in range(MOST_TRIALS)]
    names = [name for name in sweep.parameters if len({repr(params.get(name)) for params, _ in pairs}) > 1]
    if len(pairs) < 3 or not names:
        return None
    everywhere = all(name in params for params, _ in pairs for name in names)
    # Optuna's importance brings scikit-learn and scipy, a second of import also where Optuna itself is loaded already
    affordable = may_import_optuna or "optuna.importance" in sys.modules
    if len(pairs) >= ENOUGH_TRIALS and everywhere and affordable and len(names) > 1:
        return Importance("Optuna's PED-ANOVA", _by_optuna(names, pairs, sweep.modes[objective]))
    found = {
        name: _association([(params.get(name), value) for params, value in pairs if name in params]) for name in names
    }
    return Importance("rank correlation", dict(sorted(found.items(), key=lambda item: -item[1])))


def is_logarithmic(values: Sequence[float]) -> bool:
    """Tell whether values are better shown on a logarithmic scale."""
    return min(values) > 0 and max(values) / min(values) >= LOG_FACTOR


def _by_optuna(names: Sequence[str], pairs: Sequence[tuple[dict[str, Any], float]], mode: str) -> dict[str, float]:
    import optuna  # noqa: PLC0415 - half a second

    columns = {name: [params[name] for params, _ in pairs] for name in names}
    scaled = {name: _scaled(values) for name, values in columns.items()}
    trials = [
        optuna.trial.create_trial(
            params={name: scaled[name][0][position] for name in names},
            distributions={name: scaled[name][1] for name in names},
            value=value,
        )
        for position, (_, value) in enumerate(pairs)
    ]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # nobody wants to hear that a study was made for this
    try:
        study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
        study.add_trials(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    finally:
        optuna.logging.set_verbosity(verbosity)


def _scaled(values: Sequence[Any]) -> tuple[list[Any], BaseDistribution]:
    """Return values as Optuna takes them, and the distribution they seem to come from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: PLC0415 - as above

    numbers = [as_number(value) for value in values]
    known = [value for value in numbers if value is not None]
    if len(known) == len(numbers):
        return known, FloatDistribution(min(known), max(known), log=is_logarithmic(known))
    texts = [repr(value) for value in values]
    return texts, CategoricalDistribution(sorted(set(texts)))


def _association(pairs: Sequence[tuple[Any, float]]) -> float:
    """Return how much of the value's rank a parameter explains, 0 to 1: as Spearman does, or its like for groups."""
    ranks = _ranks([value for _, value in pairs])
    mean = sum(ranks) / len(ranks)
    spread = sum((rank - mean) ** 2 for rank in ranks)
    numbers = [as_number(parameter) for parameter, _ in pairs]
    known = [value for value in numbers if value is not None]
    if spread == 0:
        return 0.0
    if len(known) == len(numbers):
        others = _ranks(known)
        other_spread = sum((rank - mean) ** 2 for rank in others)
        together = sum((a - mean) * (b - mean) for a, b in zip(ranks, others, strict=True))
        return abs(together) / (spread * other_spread) ** 0.5 if other_spread else 0.0
    groups = defaultdict(list)
    for (parameter, _), rank in zip(pairs, ranks, strict=True):
        groups[repr(parameter)].append(rank)
    between = sum(len(group) * (sum(group) / len(group) - mean) ** 2 for group in groups.values())
    return float((between / spread) ** 0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value; equal ones share theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for position in order[first : last + 1]:
            ranks[position] = (first + last) / 2
        first = last + 1
    return ranks
