"""What a page is made of: a sweep as it stands, with few enough trials to draw. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tune.result import AUTOMATIC
from tune.trial import Result, Trial

#: trials on the page at most: of more, the best, the newest, the failed, and an even choice of the rest
SHOWN_TRIALS = 2_000

#: A learning curve: iterations and values, downsampled.
Curve = tuple[list[float], list[float]]


class Sweep(msgspec.Struct):
    """A sweep as it stands."""

    name: str
    #: objectives; the first is drawn where only one can be
    metrics: list[str]
    #: ``"min"`` or ``"max"`` for each objective
    modes: list[str]
    #: the trials to show, in order of creation
    trials: list[Trial]
    #: all trials by status
    counts: dict[str, int]
    #: configurations in all; None if unknown
    total: int | None = None
    elapsed_s: float = 0.0
    #: whether it still runs
    running: bool = False
    #: learning curves of the first objective, by trial id
    curves: dict[str, Curve] = msgspec.field(default_factory=dict)
    #: lines about searcher and scheduler
    notes: list[str] = msgspec.field(default_factory=list)

    @property
    def made(self) -> int:
        """Trials made so far, shown or not."""
        return sum(self.counts.values())

    @property
    def parameters(self) -> list[str]:
        """Names of the searched parameters, as they first appear."""
        return list(dict.fromkeys(name for trial in self.trials for name in trial.evaluated_params))

    def value(self, trial: Trial, objective: int = 0) -> float | None:
        """Return a trial's last finite value of an objective; None if it has none."""
        return number(trial.last_result, self.metrics[objective]) if objective < len(self.metrics) else None

    def sign(self, objective: int = 0) -> float:
        """Return 1 if smaller is better, else -1."""
        return 1.0 if self.modes[objective] == "min" else -1.0

    def best(self) -> tuple[Trial, float] | None:
        """Return the trial with the best value of the first objective; None if no trial has one."""
        valued = [(value, trial) for trial in self.trials if (value := self.value(trial)) is not None]
        if not valued:
            return None
        value, trial = min(valued, key=lambda pair: (self.sign() * pair[0], pair[1].index))
        return trial, value


def make_sweep(
    name: str,
    trials: Sequence[Trial],
    metric: str | Sequence[str] | None,
    mode: str | Sequence[str] | None,
    *,
    shown: int = SHOWN_TRIALS,
    **more: Any,
) -> Sweep:
    """Return a sweep as it stands.

    Args:
        name: of the experiment.
        trials: all of them, in order of creation.
        metric: one objective or several; None: the first number that trials report.
        mode: ``"min"`` or ``"max"``, for each objective; default: ``"max"``, Ray's.
        shown: trials on the page at most.
        **more: other fields of `Sweep`.
    """
    metrics = [metric] if isinstance(metric, str) else list(metric or [])
    metrics = metrics or _first_number(trials)
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    modes += (modes[-1:] or ["max"]) * (len(metrics) - len(modes))
    counts = Counter(trial.status.value for trial in trials)
    sweep = Sweep(name, metrics, modes[: len(metrics)], list(trials), dict(counts), **more)
    if len(sweep.trials) > shown:
        sweep.trials = _chosen(sweep, shown)
    return sweep


def number(result: Result, name: str) -> float | None:
    """Return a result's finite number under a name, ``a/b`` for nested ones; None if it has none."""
    value: Any = result.get(name)
    if value is None and "/" in name:
        value = result
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, Mapping) else None
    return as_number(value)


def as_number(value: Any) -> float | None:
    """Return a finite number as a float; None for everything else, texts and truths included."""
    if isinstance(value, bool) or not (isinstance(value, int | float) or hasattr(value, "__float__")):
        return None
    try:
        converted = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def _first_number(trials: Sequence[Trial]) -> list[str]:
    for trial in trials:
        for name in trial.last_result:
            if name not in AUTOMATIC and number(trial.last_result, name) is not None:
                return [name]
    return []


def _chosen(sweep: Sweep, limit: int) -> list[Trial]:
    """Return a quarter each of the best, the newest and the failed, and an even choice of the rest."""
    part = limit // 4
    trials = sweep.trials
    valued = [(value, trial.index) for trial in trials if (value := sweep.value(trial)) is not None]
    best = {index for _, index in sorted(valued, key=lambda pair: sweep.sign() * pair[0])[:part]}
    newest = {trial.index for trial in trials[-part:]}
    failed = {trial.index for trial in [trial for trial in trials if trial.failures][-part:]}
    wanted = best | newest | failed
    rest = [trial.index for trial in trials if trial.index not in wanted]
    room = limit - len(wanted)
    wanted |= {rest[position * len(rest) // room] for position in range(room)} if rest else set()
    return [trial for trial in trials if trial.index in wanted]
