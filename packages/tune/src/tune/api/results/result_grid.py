"""`ResultGrid`: what came out of a sweep, as ``Tuner.fit`` returns it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tune.api.results.analysis import ExperimentAnalysis
from tune.api.results.result import Result
from tune.trial import TrialStatus

if TYPE_CHECKING:
    import pandas as pd


class ResultGrid:
    """The outcomes of a sweep's trials, in order of creation: a sequence of `Result`.

    Trials of all states are in it; what an interrupted sweep left has the results it had reported.
    """

    def __init__(self, experiment_analysis: ExperimentAnalysis) -> None:
        self._analysis = experiment_analysis
        self._results = [experiment_analysis.result_of(trial) for trial in experiment_analysis.trials]

    @property
    def experiment_path(self) -> str:
        """Directory or URL of the experiment in the storage."""
        return self._analysis.experiment_path

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem of `experiment_path`."""
        return self._analysis.filesystem

    @property
    def errors(self) -> list[Exception]:
        """The exceptions of the trials that failed."""
        return [result.error for result in self._results if result.error is not None]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return sum(trial.status.errored for trial in self._analysis.trials)

    @property
    def num_terminated(self) -> int:
        """How many trials ended well."""
        return sum(trial.status == TrialStatus.TERMINATED for trial in self._analysis.trials)

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Result:
        """Return the best trial's outcome. The only trial is always the best.

        Args:
            metric: None takes that of ``TuneConfig``; ``a/b`` for nested ones.
            mode: ``"min"`` or ``"max"``; None takes that of ``TuneConfig``.
            scope: what of a trial counts: ``"last"`` result, best of ``"all"``, mean of all (``"avg"``) or of the last
                ones (``"last-5-avg"``, ``"last-10-avg"``).
            filter_nan_and_inf: whether trials are left out whose score is not finite.

        Raises:
            ValueError: no metric or mode, or an unknown mode or scope.
            RuntimeError: no trial has reported the metric.
        """
        trial = self._analysis.get_best_trial(metric, mode, scope, filter_nan_and_inf)
        if trial is None:
            finite = " a finite number" if filter_nan_and_inf else ""
            raise RuntimeError(
                f"no trial has reported{finite} as {metric or self._analysis.default_metric!r}: "
                f"{self.num_terminated} trials ended well and {self.num_errors} failed."
            )
        return self._analysis.result_of(trial)

    def get_dataframe(self, filter_metric: str | None = None, filter_mode: str | None = None) -> pd.DataFrame:
        """Return one result of each trial, with its configuration, as a table.

        Args:
            filter_metric: with `filter_mode`, the result in which this metric was best; otherwise the last one.
            filter_mode: ``"min"`` or ``"max"``.

        Raises:
            ImportError: pandas is not installed.
            ValueError: an unknown mode, or a mode without a metric.
        """
        return self._analysis.dataframe(metric=filter_metric, mode=filter_mode)

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, index: int) -> Result:
        return self._results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def __repr__(self) -> str:
        return (
            f"ResultGrid({len(self)} trials, {self.num_terminated} terminated, {self.num_errors} failed, "
            f"{self.experiment_path!r})"
        )
