"""The callback that drives a progress reporter."""

from __future__ import annotations

import sys
import time
from typing import Any

import core
from tune.callback import Callback
from tune.progress import wording
from tune.progress.cli_reporter import CLIReporter
from tune.progress.reporter import ProgressReporter
from tune.progress.summary import summarize
from tune.result import metrics_only
from tune.trial import Result, Trial

#: with ``verbose=3``: lines about results a second at most; the rest is counted
LINES_PER_SECOND = 10


class ProgressCallback(Callback):
    """Shows a sweep's progress.

    Args:
        reporter: what shows it; None for a `CLIReporter`.
        verbose: 0: nothing. 1: the table. 2: also a line when a trial fails. 3: also lines about results (at most ten a
            second) and when a trial ends.
    """

    complete_results = False

    def __init__(self, reporter: ProgressReporter | None = None, verbose: int = 1) -> None:
        self._reporter = reporter or CLIReporter()
        self._verbose = verbose
        self._scheduler = ""
        self._cluster: dict[str, float] | None = None
        self._lines = 0
        self._second = 0
        self._unsaid = 0

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Hand the reporter what it needs to know of the sweep; of several objectives, the first."""
        metric, mode = info.get("metric"), info.get("mode")
        self._scheduler = str(info.get("scheduler") or "")
        self._reporter.setup(
            start_time=time.time(),
            total_samples=total_num_samples,
            metric=metric[0] if isinstance(metric, list | tuple) else metric,
            mode=mode[0] if isinstance(mode, list | tuple) else mode,
        )

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Report, if the reporter says so."""
        if self._verbose and self._reporter.should_report(trials, done=False):
            self._reporter.report(trials, False, *self._sys_info(trials))

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        """With ``verbose=3``, write a line about it."""
        if self._verbose < 3:
            return
        second = int(time.monotonic())
        if second != self._second:
            if self._unsaid:
                self._say(f"... and {self._unsaid} more results")
            self._second, self._lines, self._unsaid = second, 0, 0
        if self._lines < LINES_PER_SECOND:
            self._lines += 1
            values = ", ".join(f"{name}={wording.cell(value, 40)}" for name, value in metrics_only(result).items())
            self._say(f"{trial} reported {values} (iteration {result.get('training_iteration')})")
        else:
            self._unsaid += 1

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """With ``verbose=3``, write a line about it."""
        if self._verbose >= 3:
            why = "" if trial.ended_by is None else f" ({trial.ended_by.value})"
            self._say(f"{trial} ended after {trial.iteration} results{why}")

    def on_trial_recover(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Write why it failed."""
        if self._verbose >= 2:
            self._say(f"{trial} failed and will be tried again: {_failure(trial)}")

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Write why it failed."""
        if self._verbose >= 2:
            self._say(f"{trial} failed: {_failure(trial)}")

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Report for the last time and give back the terminal."""
        try:
            if self._verbose and self._reporter.should_report(trials, done=True):
                self._reporter.report(trials, True, *self._sys_info(trials))
        finally:
            self._reporter.close()

    def _sys_info(self, trials: Any) -> tuple[str, ...]:
        if self._cluster is None:
            self._cluster = dict(core.cluster_resources()) if core.is_initialized() else {}
        used = summarize(trials, metric=None, mode=None, total=None, elapsed_s=0).used
        lines = (wording.resources(used, self._cluster), self._scheduler)
        return tuple(line for line in lines if line)

    def _say(self, text: str) -> None:
        if isinstance(self._reporter, CLIReporter):
            self._reporter.say(text)
        else:
            sys.stdout.write(f"{text}\n")


def _failure(trial: Trial) -> str:
    if not trial.failures:
        return "no reason given"
    failure = trial.failures[-1]
    return wording.cell(f"{failure.error_type}: {failure.message}", 200)
