"""The callback that keeps a sweep's page up to date, at a small part of the sweep's own time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tune.callback import Callback
from tune.html_report.curves import BEST_CURVES, CurveStore
from tune.html_report.page import write_page
from tune.html_report.sweep import make_sweep, number
from tune.result import TRAINING_ITERATION
from tune.trial import Result, Trial

PAGE = "report.html"
#: seconds between two pages at least
PAUSE = 5.0
#: pages take at most this part of the sweep's time
COST_PART = 0.02
#: seconds that loading Optuna takes
OPTUNA_COST = 1.0


class HtmlReportCallback(Callback):
    """Keeps ``report.html`` in the experiment's directory: refreshed while the sweep runs, finished at its end.

    Args:
        pause: seconds between two pages at least; they are further apart if they cost more than 2 % of the time.
    """

    complete_results = False

    def __init__(self, *, pause: float = PAUSE) -> None:
        self._pause = pause
        self._path: Path | None = None
        self._name = ""
        self._metric: str | list[str] | None = None
        self._mode: str | list[str] | None = None
        self._total: int | None = None
        self._notes: list[str] = []
        self._curves = CurveStore()
        self._curve_metric: str | None = None
        self._recorded: Any = None
        self._started = self._due = time.monotonic()

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Learn where the page goes and what is optimized; see `tune.callback.Callback.setup`.

        ``info["recorded"]`` is a function from a trial's id to the results that the journal has of it.
        """
        self._path = Path(info["experiment_path"], PAGE)
        self._name = str(info.get("experiment_name") or "sweep")
        self._metric, self._mode, self._total = info.get("metric"), info.get("mode"), total_num_samples
        notes = (("searcher", info.get("searcher")), ("scheduler", info.get("scheduler")))
        self._notes = [f"{what}: {name}" for what, name in notes if name]
        first_mode = self._mode[0] if isinstance(self._mode, list) else self._mode
        self._curve_metric = self._metric[0] if isinstance(self._metric, list) else self._metric
        self._curves = CurveStore(1.0 if first_mode == "min" else -1.0)
        self._recorded = info.get("recorded") if info.get("resumed") else None
        self._started = time.monotonic()
        self._due = self._started + self._pause

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """In the first round of a resumed sweep, take up the learning curves of the best trials so far."""
        if self._recorded is not None:
            recorded, self._recorded = self._recorded, None
            sweep = make_sweep(self._name, trials, self._metric, self._mode, shown=4 * BEST_CURVES)
            for trial in sweep.trials:
                for result in recorded(trial.trial_id) if trial.iteration > 1 else ():
                    self.on_trial_result(iteration, trials, trial, result)
                if trial.status.finished:
                    self._curves.end(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        """Take a point of the trial's learning curve."""
        metric = self._curve_metric
        if metric is None:
            return
        value = result.get(metric)
        if type(value) is not float or value - value != 0.0:
            value = number(result, metric)
            if value is None:
                return
        self._curves.add(trial.trial_id, result.get(TRAINING_ITERATION, trial.iteration), value)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Keep the trial's learning curve, or not."""
        self._curves.end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Keep the trial's learning curve, or not."""
        self._curves.end(trial.trial_id)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Write the page, if it is time."""
        if time.monotonic() >= self._due:
            self._write(trials, running=True)

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Write the page for the last time."""
        self._write(trials, running=False)

    def _write(self, trials: Any, *, running: bool) -> None:
        if self._path is None:
            return
        began = time.monotonic()
        elapsed = began - self._started
        sweep = make_sweep(
            self._name,
            trials,
            self._metric,
            self._mode,
            total=self._total,
            elapsed_s=elapsed,
            running=running,
            notes=self._notes,
        )
        sweep.curves = self._curves.curves()
        write_page(self._path, sweep, may_import_optuna=elapsed * COST_PART > OPTUNA_COST)
        ended = time.monotonic()
        self._due = ended + max(self._pause, (ended - began) / COST_PART)
