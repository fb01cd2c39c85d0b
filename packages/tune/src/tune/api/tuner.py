"""`Tuner`: a sweep as an object that can be run, restored and asked for results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tune.api import saved_settings
from tune.api.configs import ResumeConfig, RunConfig, TuneConfig, check_num_samples
from tune.api.execution import execute
from tune.api.location import Location, open_location
from tune.api.results.analysis import ExperimentAnalysis
from tune.api.results.result_grid import ResultGrid
from tune.api.settings import Settings, check_space, plan_of
from tune.argument_checks import flag, instance
from tune.controller.plan import ResumePlan
from tune.errors import TuneError


class Tuner:
    """A sweep to be run with `fit`.

    Args:
        trainable: a function of a config that calls ``tune.report(metrics)`` or returns a dict; a `tune.Trainable`
            class; or the name of one.
        param_space: the search space: a dict with domains anywhere in it; or a function of a trial with Optuna's
            ``suggest_...`` methods.
        tune_config: what is searched, and how.
        run_config: where results go, and what happens besides.
        backend: where trials run: None for actors, or a `tune.backend.SimulatorBackend`. Ours.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an argument with a wrong value.
    """

    def __init__(
        self,
        trainable: Callable[..., Any] | type | str,
        *,
        param_space: dict[str, Any] | Callable[[Any], dict[str, Any] | None] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
        backend: Any = None,
    ) -> None:
        self._settings = Settings(
            trainable,
            space=check_space("param_space", param_space),
            tune=instance("tune_config", tune_config or TuneConfig(), TuneConfig),
            run=instance("run_config", run_config or RunConfig(), RunConfig),
            backend=backend,
            caller="Tuner(...)",
        )
        #: where the experiment is, once it has been run or restored
        self._location: Location | None = None

    @classmethod
    def restore(
        cls,
        path: str | Path,
        trainable: Callable[..., Any] | type | str | None = None,
        resume_unfinished: bool = True,
        resume_errored: bool = False,
        restart_errored: bool = False,
        param_space: dict[str, Any] | Callable[[Any], dict[str, Any] | None] | None = None,
        storage_filesystem: Any = None,
        *,
        resume_config: ResumeConfig | None = None,
        num_samples: int | str | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> Tuner:
        """Return a tuner that goes on with an experiment, interrupted or finished, when it is fitted.

        Only restore directories you trust: the settings in them are pickles.

        Args:
            path: the experiment's directory or URL.
            trainable: None takes the one saved with the experiment.
            resume_unfinished: whether trials go on that were running or waiting.
            resume_errored: whether failed trials go on from their newest checkpoints.
            restart_errored: whether failed trials start anew.
            param_space: a changed space for trials yet to come; None keeps the saved one.
            storage_filesystem: the fsspec filesystem of the path, if its URL does not say enough.
            resume_config: says all of that in full. Ours.
            num_samples: the new total, or ``"+50"`` for so many more; None keeps the saved one. Ours.
            tune_config: replaces the saved one, with a longer ``max_t`` in its scheduler, say. Ours.
            run_config: replaces the saved one; its name and storage must be those of `path`, or None. Ours.

        Raises:
            ExperimentNotFoundError: there is no experiment.
            TuneError: a part of it could not be saved and is not given.
            ValueError: arguments that contradict each other.
        """
        if resume_errored and restart_errored:
            raise ValueError("resume_errored and restart_errored contradict each other: leave out one of them.")
        for name, value in (
            ("resume_unfinished", resume_unfinished),
            ("resume_errored", resume_errored),
            ("restart_errored", restart_errored),
        ):
            flag(name, value)
        location = open_location(path, storage_filesystem)
        space = None if param_space is None else check_space("param_space", param_space)
        settings = saved_settings.read(location.directory, "Tuner.restore(...)", trainable=trainable, param_space=space)
        if tune_config is not None:
            settings.tune = instance("tune_config", tune_config, TuneConfig)
        if run_config is not None:
            settings.run = _same_place(instance("run_config", run_config, RunConfig), location)
        location = open_location(path, storage_filesystem, settings.run.sync_config)
        if num_samples is not None:
            check_num_samples(num_samples)
            settings.tune.num_samples = num_samples
        if resume_config is not None:
            settings.resume = plan_of(resume_config)
        else:
            errored = "RESUME" if resume_errored else "RESTART" if restart_errored else "SKIP"
            settings.resume = ResumePlan(unfinished="RESUME" if resume_unfinished else "SKIP", errored=errored)
        tuner = cls(settings.trainable)
        tuner._settings, tuner._location = settings, location
        return tuner

    @classmethod
    def can_restore(cls, path: str | Path, storage_filesystem: Any = None) -> bool:
        """Tell whether a directory, or a URL, has an experiment that can be restored.

        Args:
            path: the experiment's directory or URL.
            storage_filesystem: the fsspec filesystem of the path, if its URL does not say enough.
        """
        try:
            return saved_settings.exists(open_location(path, storage_filesystem).directory)
        except TuneError:
            return False

    def fit(self) -> ResultGrid:
        """Run the sweep to its end, and return what came out. Failed trials do not raise: they are in the results.

        Raises:
            CallbackError: a callback, searcher, scheduler or stopper raised.
            ExperimentInUseError: another process is running the same experiment.
        """
        finished = execute(self._settings, self._location)
        self._location = finished.location
        return ResultGrid(finished.analysis(raise_on_failed_trial=False))

    def get_results(self) -> ResultGrid:
        """Return what has come out so far, of a restored experiment too, without running anything.

        Raises:
            TuneError: it was neither fitted nor restored.
        """
        if self._location is None:
            raise TuneError("there are no results yet: call fit() first, or Tuner.restore(path) for an earlier run.")
        filesystem = self._location.storage.storage.filesystem
        return ResultGrid(
            ExperimentAnalysis(
                self._location.storage.url, storage_filesystem=filesystem, constraints=self._settings.tune.constraints
            )
        )


def _same_place(run: RunConfig, location: Location) -> RunConfig:
    if run.name not in (None, location.name):
        raise ValueError(f"run_config.name={run.name!r} is not the name of the restored experiment, {location.name!r}.")
    return run
