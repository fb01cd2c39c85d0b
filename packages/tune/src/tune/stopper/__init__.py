"""Stoppers: when a trial, or the whole sweep, has had enough. ``stop=`` takes one, a dict of bounds, or a function."""

from __future__ import annotations

from tune.stopper.base import Stopper
from tune.stopper.coercion import coerce_stop
from tune.stopper.combined import CombinedStopper
from tune.stopper.experiment_plateau import ExperimentPlateauStopper
from tune.stopper.function import FunctionStopper
from tune.stopper.maximum_iteration import MaximumIterationStopper
from tune.stopper.noop import NoopStopper
from tune.stopper.timeout import TimeoutStopper
from tune.stopper.trial_plateau import TrialPlateauStopper

__all__ = [
    "CombinedStopper",
    "ExperimentPlateauStopper",
    "FunctionStopper",
    "MaximumIterationStopper",
    "NoopStopper",
    "Stopper",
    "TimeoutStopper",
    "TrialPlateauStopper",
    "coerce_stop",
]
