"""Progress reporters: Ray's interface, and the part that decides what is shown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from tune.progress.summary import Summary, summarize
from tune.progress.tables import DEFAULT_COLUMNS, Table, error_table, inferred_metrics, trial_table
from tune.trial import Trial

#: searched parameters shown when the user names none
PARAMETER_LIMIT = 6
#: trials looked at to infer columns
TRIALS_TO_INFER_FROM = 100


class ProgressReporter:
    """Base of all reporters. Override `should_report` and `report`; Ray's interface.

    The driver calls them in one thread: `setup` once, then `should_report` after each round and `report` if it said so,
    and both once more at the end with ``done=True``.
    """

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Learn about the sweep.

        Args:
            start_time: seconds since the epoch at which this run began.
            total_samples: configurations in all; None if unknown.
            metric: what trials are judged by.
            mode: ``"min"`` or ``"max"``.
            **kwargs: room for more.
        """

    def should_report(self, trials: Sequence[Trial], done: bool = False) -> bool:
        """Tell whether it is time to report."""
        raise NotImplementedError

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        """Show the progress.

        Args:
            trials: all trials.
            done: whether the sweep has ended.
            *sys_info: lines about scheduler and resources.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give back the terminal. Called once, also after an error; idempotent."""


class TuneReporterBase(ProgressReporter):
    """Decides when something is shown and what; subclasses draw it.

    Args:
        metric_columns: names of results to show, or names to titles; nested as ``a/b``. Default: Ray's usual ones and
            the first `infer_limit` numbers that trials report.
        parameter_columns: names of searched parameters to show, or names to titles. Default: the first six.
        total_samples: configurations in all, if the sweep itself cannot tell.
        max_progress_rows: trials shown at most.
        max_error_rows: failed trials shown at most.
        max_column_length: characters of a cell.
        max_report_frequency: seconds between two reports at least, where they are lines; a live table is quicker.
        infer_limit: metrics inferred at most.
        print_intermediate_tables: where reports are lines, print the whole table each time; False: at the end only;
            None: likewise at the end only.
        metric: what trials are judged by; default: the sweep's.
        mode: ``"min"`` or ``"max"``; default: the sweep's.
        sort_by_metric: show the best trials first, not the running ones.
    """

    def __init__(
        self,
        *,
        metric_columns: Sequence[str] | Mapping[str, str] | None = None,
        parameter_columns: Sequence[str] | Mapping[str, str] | None = None,
        total_samples: int | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        infer_limit: int = 3,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise ValueError(f'mode must be "min" or "max", not {mode!r}')
        for name, value in (("max_progress_rows", max_progress_rows), ("max_column_length", max_column_length)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._metrics = None if metric_columns is None else _titled(metric_columns)
        self._parameters = None if parameter_columns is None else _titled(parameter_columns)
        self._total = total_samples
        self._max_rows = max_progress_rows
        self._max_errors = max_error_rows
        self._width = max_column_length
        self._interval = float(max_report_frequency)
        self._infer_limit = infer_limit
        self._print_tables = bool(print_intermediate_tables)
        self._metric = metric
        self._mode = mode
        self._sort = sort_by_metric
        self._start = time.time()
        self._ended_before: int | None = None
        self._reported_at = 0.0

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what the user did not say from the sweep."""
        self._start = time.time() if start_time is None else start_time
        self._total = self._total if self._total is not None else total_samples
        self._metric = self._metric or metric
        self._mode = self._mode or mode
        self._ended_before = None

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Show one more result, under a title of its own if one is given.

        Raises:
            ValueError: it is shown already.
        """
        self._metrics = _with(DEFAULT_COLUMNS if self._metrics is None else self._metrics, metric, representation)

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Show one more searched parameter, under a title of its own if one is given.

        Raises:
            ValueError: it is shown already.
        """
        self._parameters = _with(self._parameters or {}, parameter, representation)

    def should_report(self, trials: Sequence[Trial], done: bool = False) -> bool:
        """Tell whether `max_report_frequency` seconds are over, or the sweep is."""
        now = time.time()
        if not done and now - self._reported_at < self._interval:
            return False
        self._reported_at = now
        return True

    def summary(self, trials: Sequence[Trial]) -> Summary:
        """Return the sweep at a glance."""
        elapsed = max(0.0, time.time() - self._start)
        summary = summarize(
            trials,
            metric=self._metric,
            mode=self._mode,
            total=self._total,
            elapsed_s=elapsed,
            ended_before=self._ended_before or 0,
        )
        if self._ended_before is None:  # a resumed sweep begins with trials that cost this run nothing
            self._ended_before = sum(
                1 for trial in trials if trial.status.finished and (trial.end_time or 0.0) < self._start
            )
            return self.summary(trials) if self._ended_before else summary
        return summary

    def trial_table(self, trials: Sequence[Trial]) -> Table:
        """Return the table of trials."""
        first = list(islice(trials, TRIALS_TO_INFER_FROM))
        metrics = self._metrics
        if metrics is None:
            metrics = dict(DEFAULT_COLUMNS)
            if self._metric is not None:
                metrics.setdefault(self._metric, self._metric)
            for name in inferred_metrics(first, self._infer_limit):
                metrics.setdefault(name, name)
        parameters = self._parameters
        if parameters is None:
            names = dict.fromkeys(name for trial in first for name in trial.evaluated_params)
            parameters = {name: name for name in islice(names, PARAMETER_LIMIT)}
        sort_by = (self._metric, self._mode or "max") if self._sort and self._metric else None
        return trial_table(
            trials,
            metrics=metrics,
            parameters=parameters,
            max_rows=self._max_rows,
            width=self._width,
            sort_by=sort_by,
        )

    def error_table(self, trials: Sequence[Trial]) -> Table | None:
        """Return the table of failures; None if there are none."""
        return error_table(trials, self._max_errors, self._width)


def _titled(columns: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    return dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}


def _with(columns: Mapping[str, str], name: str, title: str | None) -> dict[str, str]:
    if name in columns:
        raise ValueError(f"column {name!r} is shown already")
    return {**columns, name: title or name}
