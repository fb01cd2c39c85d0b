"""Skate's tune: hyperparameter sweeps with Ray Tune's API, Optuna's search and milliseconds per trial.

::

    import tune


    def objective(config):
        return {"loss": (config["x"] - 2) ** 2}


    analysis = tune.run(objective, config={"x": tune.uniform(0, 4)}, metric="loss", mode="min", num_samples=100)
    print(analysis.best_config)

Names are imported when they are first used, so that ``import tune`` costs little and brings neither numpy nor Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune import backend, callback, errors, integration, logger, schedulers, search, stopper
    from tune.api.configs import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, SyncConfig, TuneConfig
    from tune.api.experiment import Experiment
    from tune.api.registry import register_env, register_trainable
    from tune.api.resources import PlacementGroupFactory
    from tune.api.results.analysis import ExperimentAnalysis
    from tune.api.results.result import Result
    from tune.api.results.result_grid import ResultGrid
    from tune.api.run import run
    from tune.api.run_experiments import run_experiments
    from tune.api.tuner import Tuner
    from tune.api.wrappers import with_parameters, with_resources
    from tune.callback import Callback
    from tune.checkpoint import Checkpoint
    from tune.errors import TrialFailedError, TuneError
    from tune.progress import CLIReporter, JupyterNotebookReporter, ProgressReporter
    from tune.schedulers import create_scheduler
    from tune.search import create_searcher
    from tune.space import (
        choice,
        grid_search,
        lograndint,
        loguniform,
        qlograndint,
        qloguniform,
        qrandint,
        qrandn,
        quniform,
        randint,
        randn,
        sample_from,
        uniform,
    )
    from tune.stopper import Stopper
    from tune.trainable import Trainable
    from tune.trial_process.context import TrialContext as TuneContext
    from tune.trial_process.session import TrialStopped, get_checkpoint, get_context, in_trial, report
    from tune.version import __version__

#: each public name and the module it comes from
_HOMES = {
    "__version__": "tune.version",
    "CLIReporter": "tune.progress",
    "Callback": "tune.callback",
    "Checkpoint": "tune.checkpoint",
    "CheckpointConfig": "tune.api.configs",
    "Experiment": "tune.api.experiment",
    "ExperimentAnalysis": "tune.api.results.analysis",
    "FailureConfig": "tune.api.configs",
    "JupyterNotebookReporter": "tune.progress",
    "PlacementGroupFactory": "tune.api.resources",
    "ProgressReporter": "tune.progress",
    "Result": "tune.api.results.result",
    "ResultGrid": "tune.api.results.result_grid",
    "ResumeConfig": "tune.api.configs",
    "RunConfig": "tune.api.configs",
    "Stopper": "tune.stopper",
    "SyncConfig": "tune.api.configs",
    "Trainable": "tune.trainable",
    "TrialFailedError": "tune.errors",
    "TuneConfig": "tune.api.configs",
    "TuneError": "tune.errors",
    "Tuner": "tune.api.tuner",
    "choice": "tune.space",
    "create_scheduler": "tune.schedulers",
    "create_searcher": "tune.search",
    "get_checkpoint": "tune.trial_process.session",
    "get_context": "tune.trial_process.session",
    "in_trial": "tune.trial_process.session",
    "TrialStopped": "tune.trial_process.session",
    "grid_search": "tune.space",
    "lograndint": "tune.space",
    "loguniform": "tune.space",
    "qlograndint": "tune.space",
    "qloguniform": "tune.space",
    "qrandint": "tune.space",
    "qrandn": "tune.space",
    "quniform": "tune.space",
    "randint": "tune.space",
    "randn": "tune.space",
    "register_env": "tune.api.registry",
    "register_trainable": "tune.api.registry",
    "report": "tune.trial_process.session",
    "run": "tune.api.run",
    "run_experiments": "tune.api.run_experiments",
    "sample_from": "tune.space",
    "uniform": "tune.space",
    "with_parameters": "tune.api.wrappers",
    "with_resources": "tune.api.wrappers",
}
#: Ray's names for what is called otherwise inside
_ALIASES = {"TuneContext": ("tune.trial_process.context", "TrialContext")}
#: public modules, imported when they are first used, as in ``tune.schedulers.ASHAScheduler``
_MODULES = ("backend", "callback", "errors", "integration", "logger", "schedulers", "search", "stopper")

__all__ = [
    "CLIReporter",
    "Callback",
    "Checkpoint",
    "CheckpointConfig",
    "Experiment",
    "ExperimentAnalysis",
    "FailureConfig",
    "JupyterNotebookReporter",
    "PlacementGroupFactory",
    "ProgressReporter",
    "Result",
    "ResultGrid",
    "ResumeConfig",
    "RunConfig",
    "Stopper",
    "SyncConfig",
    "Trainable",
    "TrialFailedError",
    "TrialStopped",
    "TuneConfig",
    "TuneContext",
    "TuneError",
    "Tuner",
    "__version__",
    "backend",
    "callback",
    "choice",
    "create_scheduler",
    "create_searcher",
    "errors",
    "get_checkpoint",
    "get_context",
    "grid_search",
    "in_trial",
    "integration",
    "logger",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "register_env",
    "register_trainable",
    "report",
    "run",
    "run_experiments",
    "sample_from",
    "schedulers",
    "search",
    "stopper",
    "uniform",
    "with_parameters",
    "with_resources",
]


def __getattr__(name: str) -> Any:
    home, inside = _ALIASES.get(name) or (_HOMES.get(name), name)
    if home is not None:
        value = getattr(importlib.import_module(home), inside)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"tune.{name}")
    raise AttributeError(f"module 'tune' has no attribute {name!r}{_hint(name)}")


def _hint(name: str) -> str:
    from tune.argument_checks import did_you_mean  # noqa: PLC0415 - only for a name that is wrong

    return did_you_mean(name, __all__).replace(" Did", ". Did")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
