"""Schedulers by name."""

from __future__ import annotations

import inspect
from typing import Any

from tune.schedulers.async_hyperband import AsyncHyperBandScheduler
from tune.schedulers.base import TrialScheduler
from tune.schedulers.fifo import FIFOScheduler
from tune.schedulers.hb_bohb import HyperBandForBOHB
from tune.schedulers.hyperband import HyperBandScheduler
from tune.schedulers.median_stopping_rule import MedianStoppingRule
from tune.schedulers.pb2 import PB2
from tune.schedulers.pbt import PopulationBasedTraining
from tune.schedulers.pbt_replay import PopulationBasedTrainingReplay
from tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

#: Ray's names, and ``asha``.
SCHEDULERS: dict[str, type[TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "asha": AsyncHyperBandScheduler,
    "async_hyperband": AsyncHyperBandScheduler,
    "asynchyperband": AsyncHyperBandScheduler,
    "median_stopping_rule": MedianStoppingRule,
    "medianstopping": MedianStoppingRule,
    "hyperband": HyperBandScheduler,
    "hb_bohb": HyperBandForBOHB,
    "pbt": PopulationBasedTraining,
    "pbt_replay": PopulationBasedTrainingReplay,
    "pb2": PB2,
    "resource_changing": ResourceChangingScheduler,
}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """Return a new scheduler of this name.

    Args:
        scheduler: one of `SCHEDULERS`, such as ``"asha"``; upper and lower case are the same.
        **kwargs: its arguments; those that it does not have are left out, as in Ray.

    Raises:
        ValueError: there is no scheduler of this name.
    """
    known = SCHEDULERS.get(scheduler.lower())
    if known is None:
        raise ValueError(f"there is no scheduler {scheduler!r}; the names are {', '.join(SCHEDULERS)}")
    accepted = inspect.signature(known.__init__).parameters
    return known(**{name: value for name, value in kwargs.items() if name in accepted})
