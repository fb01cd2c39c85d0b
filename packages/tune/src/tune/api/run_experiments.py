"""``run_experiments``: several sweeps in one call."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tune.api.configs import ResumeConfig
from tune.api.experiment import Experiment
from tune.api.run import run
from tune.argument_checks import flag
from tune.callback import Callback
from tune.trial import Trial

if TYPE_CHECKING:
    from tune.schedulers.base import TrialScheduler


def run_experiments(
    experiments: Experiment | Mapping[str, Any] | Sequence[Experiment],
    scheduler: TrialScheduler | str | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = True,
    raise_on_failed_trial: bool = True,
    concurrent: bool = True,
    callbacks: Sequence[Callback] | None = None,
) -> list[Trial]:
    """Run experiments, and return the trials of all of them.

    Args:
        experiments: one; a list of them; or a dict of their names and what `Experiment.from_json` takes.
        scheduler: as in ``tune.run``; each experiment gets a copy.
        verbose: as in ``tune.run``.
        progress_reporter: as in ``tune.run``.
        resume: as in ``tune.run``.
        resume_config: as in ``tune.run``.
        reuse_actors: as in ``tune.run``.
        raise_on_failed_trial: as in ``tune.run``.
        concurrent: whether they run at the same time (each with a controller of its own), or one after the other.
        callbacks: as in ``tune.run``; each experiment gets a copy.

    Raises:
        TypeError: not experiments.
        TrialFailedError: trials failed (`raise_on_failed_trial`).
    """
    todo = _as_list(experiments)
    flag("concurrent", concurrent)

    def one(experiment: Experiment) -> list[Trial]:
        analysis = run(
            experiment,
            scheduler=copy.deepcopy(scheduler),
            verbose=verbose,
            progress_reporter=progress_reporter,
            resume=resume,
            resume_config=resume_config,
            reuse_actors=reuse_actors,
            raise_on_failed_trial=raise_on_failed_trial,
            callbacks=copy.deepcopy(callbacks),
        )
        return analysis.trials

    if not concurrent or len(todo) == 1:
        return [trial for experiment in todo for trial in one(experiment)]
    with ThreadPoolExecutor(len(todo), thread_name_prefix="tune-experiment") as pool:
        return [trial for trials in pool.map(one, todo) for trial in trials]


def _as_list(experiments: Any) -> list[Experiment]:
    if isinstance(experiments, Experiment):
        return [experiments]
    if isinstance(experiments, Mapping):
        return [
            spec if isinstance(spec, Experiment) else Experiment.from_json(name, spec)
            for name, spec in experiments.items()
        ]
    if isinstance(experiments, Sequence) and experiments and all(isinstance(e, Experiment) for e in experiments):
        return list(experiments)
    raise TypeError(
        "experiments must be a tune.Experiment, a list of them, or a dict such as {'name': {'run': trainable, ...}}; "
        f"got {experiments!r}."
    )
