"""Schedulers: which trials go on, stop, pause, change. Ray's names; see `tune.schedulers.base` for the contract."""

from tune.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
from tune.schedulers.base import TrialScheduler
from tune.schedulers.create import create_scheduler
from tune.schedulers.fifo import FIFOScheduler
from tune.schedulers.hb_bohb import HyperBandForBOHB
from tune.schedulers.hyperband import HyperBandScheduler
from tune.schedulers.median_stopping_rule import MedianStoppingRule
from tune.schedulers.pb2 import PB2
from tune.schedulers.pbt import PopulationBasedTraining
from tune.schedulers.pbt_replay import PopulationBasedTrainingReplay
from tune.schedulers.resource_allocation import DistributeResources, DistributeResourcesToTopJob
from tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

__all__ = [
    "PB2",
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "DistributeResources",
    "DistributeResourcesToTopJob",
    "FIFOScheduler",
    "HyperBandForBOHB",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PopulationBasedTraining",
    "PopulationBasedTrainingReplay",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]
