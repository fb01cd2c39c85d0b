"""`ExperimentAnalysis`: what came out of a sweep, as ``tune.run`` returns it, or from an experiment's directory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.api.results.experiment_files import SavedExperiment, open_experiment
from tune.api.results.frames import frame
from tune.api.results.nested import flatten
from tune.api.results.result import Result, best_checkpoint, trial_metrics
from tune.api.results.scores import SCOPES, as_number, better, score
from tune.argument_checks import one_of
from tune.checkpoint import Checkpoint
from tune.result import complete, lookup
from tune.trial import Config, Trial
from tune.trial import Result as Metrics

if TYPE_CHECKING:
    import pandas as pd

    from tune.search.objectives import Constraints

logger: logging.Logger = logging.getLogger("tune")


class ExperimentAnalysis:
    """The trials of a sweep, to be asked for the best of them, their configurations, results and checkpoints.

    The members ``best_...`` judge by the last result of each trial and by the sweep's metric and mode; the methods
    ``get_best_...`` take others. Histories are read from the experiment's journal when they are first needed.

    Args:
        experiment_checkpoint_path: the experiment's directory, or a URL that fsspec knows.
        storage_filesystem: the fsspec filesystem of the path, if its URL does not say enough.
        trials: the trials, if they are at hand.
        default_metric: the metric to judge by; None takes the sweep's.
        default_mode: ``"min"`` or ``"max"``; None takes the sweep's.
        constraints: as in ``tune.run``: trials whose last results do not keep them are never the best. Ours.

    Raises:
        ExperimentNotFoundError: there is no experiment in the directory.
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        experiment_checkpoint_path: str | Path,
        *,
        storage_filesystem: Any = None,
        trials: Sequence[Trial] | None = None,
        default_metric: str | None = None,
        default_mode: str | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        if default_mode is not None:
            one_of("default_mode", default_mode, ("min", "max"))
        self._experiment: SavedExperiment = open_experiment(experiment_checkpoint_path, storage_filesystem, trials)
        #: the trials, in order of creation
        self.trials: list[Trial] = list(self._experiment.trials)
        self.default_metric: str | None = default_metric or _single(self._experiment.metric)
        self.default_mode: str | None = default_mode or _single(self._experiment.mode)
        self._constraints = constraints
        self._scores: dict[tuple[str, str, str], dict[str, float | None]] = {}

    @property
    def experiment_path(self) -> str:
        """Directory or URL of the experiment in the storage."""
        return self._experiment.storage

    @property
    def metric(self) -> str | list[str] | None:
        """What the sweep optimized; a list for several objectives."""
        return self._experiment.metric

    @property
    def mode(self) -> str | list[str] | None:
        """``"min"`` or ``"max"``; a list for several objectives."""
        return self._experiment.mode

    @property
    def state(self) -> str:
        """``running``, why the sweep ended, as ``complete``, or ``interrupted``."""
        return self._experiment.state

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem of `experiment_path`."""
        return Checkpoint(self._experiment.storage, self._experiment.filesystem).filesystem

    # -- the best, by the sweep's metric and mode

    @property
    def best_trial(self) -> Trial:
        """The best trial.

        Raises:
            ValueError: the sweep had no single metric and mode, or no trial has reported a number for it.
        """
        metric, mode = self._objective(None, None)
        found = self.get_best_trial(metric, mode)
        if found is None:
            raise ValueError(f"no trial has reported a finite number as {metric!r}.{self._metric_hint(metric)}")
        return found

    @property
    def best_config(self) -> Config:
        """The configuration of the best trial."""
        return self.best_trial.config

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """The best checkpoint of the best trial; None if it has none."""
        return self.get_best_checkpoint(self.best_trial)

    @property
    def best_result(self) -> Metrics:
        """The last result of the best trial."""
        return trial_metrics([self.best_trial])[self.best_trial.trial_id]

    @property
    def best_result_df(self) -> pd.DataFrame:
        """The last result of the best trial as a table of one row.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame([self.best_result], "ExperimentAnalysis.best_result_df", index="trial_id")

    @property
    def best_dataframe(self) -> pd.DataFrame:
        """All results of the best trial as a table.

        Raises:
            ImportError: pandas is not installed.
        """
        return self._trial_frame(self.best_trial, "ExperimentAnalysis.best_dataframe")

    # -- all of them

    @property
    def results(self) -> dict[str, Metrics]:
        """The last result of each trial, by trial id; empty for one that has none."""
        return dict(trial_metrics(self.trials))

    @property
    def results_df(self) -> pd.DataFrame:
        """The last result of each trial as a table, one row each.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = [row for row in self.results.values() if row]
        return frame(rows, "ExperimentAnalysis.results_df", index="trial_id")

    @property
    def trial_dataframes(self) -> dict[str, pd.DataFrame]:
        """All results of each trial as tables, by trial id.

        Raises:
            ImportError: pandas is not installed.
        """
        what = "ExperimentAnalysis.trial_dataframes"
        return {trial.trial_id: self._trial_frame(trial, what) for trial in self.trials}

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> pd.DataFrame:
        """Return one result of each trial, with its configuration in columns ``config/...``, as a table.

        Args:
            metric: with `mode`, the result in which this metric was best; otherwise the last one.
            mode: ``"min"`` or ``"max"``.

        Raises:
            ImportError: pandas is not installed.
            ValueError: an unknown mode, or a mode without a metric.
        """
        if mode is not None:
            one_of("mode", mode, ("min", "max"))
            if metric is None:
                raise ValueError(f"dataframe(mode={mode!r}) needs a metric too, to pick each trial's result by.")
        rows = []
        for trial in self.trials:
            result = self._pick(trial, metric, mode)
            if result:
                rows.append(
                    {
                        **complete(trial, result, done=trial.status.finished),
                        "logdir": self._experiment.place(trial).url,
                    }
                )
        return frame(rows, "ExperimentAnalysis.dataframe()")

    def get_all_configs(self, prefix: bool = False) -> dict[str, Config]:
        """Return the configuration of each trial, by trial id.

        Args:
            prefix: whether to flatten them, with names ``config/...``.
        """
        if not prefix:
            return {trial.trial_id: trial.config for trial in self.trials}
        return {trial.trial_id: flatten({"config": trial.config}) for trial in self.trials}

    def stats(self) -> dict[str, Any]:
        """Return figures of the whole sweep: how many trials stand how, and seconds of all trials together."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            counts[str(trial.status)] = counts.get(str(trial.status), 0) + 1
        return {
            "num_trials": len(self.trials),
            "status": counts,
            "num_results": sum(trial.iteration for trial in self.trials),
            "time_total_s": sum(trial.run_time for trial in self.trials),
        }

    # -- the best, by whatever one likes

    def get_best_trial(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Trial | None:
        """Return the best trial; None if no trial has reported the metric. The only trial is always the best.

        Args:
            metric: None takes the sweep's.
            mode: ``"min"`` or ``"max"``; None takes the sweep's.
            scope: what of a trial counts: ``"last"`` result, best of ``"all"``, mean of all (``"avg"``) or of the last
                ones (``"last-5-avg"``, ``"last-10-avg"``).
            filter_nan_and_inf: whether trials are left out whose score is not finite.

        Raises:
            ValueError: no metric or mode, or an unknown mode or scope.
        """
        if len(self.trials) == 1:
            return self.trials[0]
        metric, mode = self._objective(metric, mode)
        best: Trial | None = None
        best_score = math.nan
        for trial in self.trials:
            found = self._trial_scores(metric, mode, scope)[trial.trial_id]
            if found is None or (filter_nan_and_inf and not math.isfinite(found)) or not self._feasible(trial):
                continue
            if best is None or better(found, best_score, mode):
                best, best_score = trial, found
        if best is None:
            logger.warning("no trial has reported a number as %r.%s", metric, self._metric_hint(metric))
        return best

    def get_best_config(self, metric: str | None = None, mode: str | None = None, scope: str = "last") -> Config | None:
        """Return the configuration of the best trial, as `get_best_trial` finds it; None if there is none."""
        trial = self.get_best_trial(metric, mode, scope)
        return None if trial is None else trial.config

    def get_best_checkpoint(
        self, trial: Trial, metric: str | None = None, mode: str | None = None
    ) -> Checkpoint | None:
        """Return the best kept checkpoint of a trial; None if it has none.

        Args:
            trial: one of `trials`.
            metric: None takes the sweep's, and without one ``training_iteration``.
            mode: ``"min"`` or ``"max"``; None takes the sweep's.

        Raises:
            ValueError: no mode, or no checkpoint came with this metric.
        """
        metric = metric or self.default_metric or "training_iteration"
        mode = self._objective(metric, mode)[1]
        return best_checkpoint(self.result_of(trial).best_checkpoints, metric, mode)

    def get_last_checkpoint(
        self, trial: Trial | None = None, metric: str = "training_iteration", mode: str = "max"
    ) -> Checkpoint | None:
        """Return the newest checkpoint of a trial; None if it has none.

        Args:
            trial: one of `trials`; None for the best by `metric` and `mode`.
            metric: the metric to find the trial by.
            mode: ``"min"`` or ``"max"``, to find the trial by.
        """
        trial = trial or self.get_best_trial(metric, mode)
        return None if trial is None else self.result_of(trial).checkpoint

    def result_of(self, trial: Trial) -> Result:
        """Return a trial's outcome."""
        return Result(trial, self._experiment.place(trial), lambda: self._experiment.history(trial))

    # -- inside

    def _trial_frame(self, trial: Trial, what: str) -> pd.DataFrame:
        return frame((complete(trial, result) for result in self._experiment.history(trial)), what)

    def _pick(self, trial: Trial, metric: str | None, mode: str | None) -> Metrics:
        if metric is None or mode is None:
            return trial.last_result
        best: Metrics = {}
        best_value = math.nan
        for result in self._experiment.history(trial):
            value = as_number(lookup(result, metric))
            if value is not None and better(value, best_value, mode):
                best, best_value = result, value
        return best or trial.last_result

    def _trial_scores(self, metric: str, mode: str, scope: str) -> dict[str, float | None]:
        key = (metric, mode, one_of("scope", scope, SCOPES))
        if key not in self._scores:
            self._scores[key] = {
                trial.trial_id: score(self._scored_results(trial, scope), metric, mode, scope) for trial in self.trials
            }
        return self._scores[key]

    def _scored_results(self, trial: Trial, scope: str) -> Iterable[Metrics]:
        if scope == "last":  # what the trial itself keeps
            return [trial.last_result] if trial.last_result else []
        return self._experiment.history(trial)

    def _feasible(self, trial: Trial) -> bool:
        if self._constraints is None:
            return True
        # here: it brings numpy, which `import tune` does without
        from tune.search.objectives import violations  # noqa: PLC0415

        broken = violations(self._constraints, trial.last_result)
        return broken is not None and all(amount <= 0 for amount in broken.values())

    def _objective(self, metric: str | None, mode: str | None) -> tuple[str, str]:
        metric = metric or self.default_metric
        mode = mode or self.default_mode
        for name, value, given in (("metric", metric, self._experiment.metric), ("mode", mode, self._experiment.mode)):
            if value is None:
                several = f" (the sweep has several: {given!r})" if given is not None else ""
                raise ValueError(
                    f"which {name}{several}? Pass {name}= here, or to tune.run() or TuneConfig() when the sweep is run."
                )
        one_of("mode", mode, ("min", "max"))
        assert metric is not None
        assert mode is not None
        return metric, mode

    def _metric_hint(self, metric: str) -> str:
        known = {name for trial in self.trials for name in flatten(trial.last_result)}
        if metric in known or not known:
            return ""
        return f" Reported were: {', '.join(sorted(known))}."


def _single(value: Any) -> str | None:
    return value if isinstance(value, str) else None
