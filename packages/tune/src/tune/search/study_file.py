"""`StudyFileCallback`: every sweep as an Optuna study in ``optuna.log``, whatever searched it.

``optuna-dashboard <experiment>/optuna.log`` shows it, while it runs too, and `optuna.load_study` loads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tune.callback import Callback
from tune.result import AUTOMATIC, TRAINING_ITERATION
from tune.search.objectives import Constraints, Objectives, violations
from tune.search.study_log import Beginning, Ending, Parameter, StudyLog
from tune.space import SearchSpace, Space, as_space
from tune.space.distributions import as_json, internal
from tune.trial import Config, Result, Trial

#: Name of the file in the experiment's directory.
FILE = "optuna.log"
#: Records are appended when the last time was so many seconds ago.
_PERIOD_S = 1.0
#: A learning curve has every point up to this step, and then as many again for each power of ten: Optuna's time to
#: read a curve grows with the square of its points.
_EVERY_POINT = 100


class StudyFileCallback(Callback):
    """Writes the sweep's trials into ``optuna.log`` in the experiment's directory.

    Parameters that Optuna has no distribution for (computed ones) become user attributes, and so do the other metrics
    of the last result. A sweep without a metric has no study.

    Args:
        space: the search space, for the parameters' distributions.
        constraints: as in `OptunaSearch`: the dashboard shows which trials keep them.
    """

    complete_results = False

    def __init__(
        self,
        space: Space | Config | Callable[[Any], Config | None],
        *,
        constraints: Constraints | None = None,
    ) -> None:
        self._space = as_space(space)
        self._constraints = constraints
        self._objectives: Objectives | None = None
        self._log: StudyLog | None = None
        self._written = 0.0
        self._resumed = False
        known = self._space.domains if isinstance(self._space, SearchSpace) else {}
        self._distributions = {name: as_json(domain) for name, domain in known.items()}

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Open the file."""
        metric = info.get("metric")
        if metric is None:
            return
        self._objectives = Objectives.of(metric, info.get("mode"), searcher="the study file")
        path = Path(info["experiment_path"]) / FILE
        name = info.get("experiment_name") or path.parent.name
        self._log = StudyLog(path, name, self._objectives.metrics, self._objectives.modes)
        self._resumed = path.exists() and path.stat().st_size > 0
        self._log.load()

    def on_step_begin(self, iteration: int, trials: Iterable[Trial], **info: Any) -> None:
        """After a resumption, add what a crash kept from being written."""
        if self._log is None or not self._resumed:
            return
        self._resumed = False
        for trial in trials:
            if trial.status.finished and not self._log.ended(trial.trial_id):
                self._begin(trial)
                self._end(trial, failed=trial.status.errored)
        self._log.forget()

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Append what was recorded, once a second."""
        now = time.monotonic()
        if self._log is not None and now - self._written >= _PERIOD_S:
            self._written = now
            self._log.flush()

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Record the trial, unless it only goes on. One that is tried again after it failed is another in Optuna."""
        self._begin(trial)

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        """Record a point of the learning curve."""
        if self._log is None or self._objectives is None or len(self._objectives.metrics) != 1:
            return
        step = result.get(TRAINING_ITERATION, trial.iteration)
        if not _worth_keeping(step):
            return
        values = self._objectives.values(result)
        if values is not None:
            self._log.point(trial.trial_id, int(step), values[0])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Record the trial's values."""
        self._end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Record that the trial failed."""
        self._end(trial, failed=True)

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Append what is left."""
        if self._log is not None:
            self._log.close()

    def _begin(self, trial: Trial) -> None:
        if self._log is None or self._log.knows(trial.trial_id):
            return
        params, others = self._params(trial)
        started = time.time() if trial.start_time is None else trial.start_time
        self._log.begin(trial.trial_id, Beginning(started, params, others))

    def _end(self, trial: Trial, *, failed: bool) -> None:
        if self._log is None or self._objectives is None:
            return
        result = trial.last_result
        values = None if failed else self._objectives.values(result)
        broken = None
        if self._constraints is not None and values is not None:
            amounts = violations(self._constraints, result)
            values = values if amounts is not None else None
            broken = None if amounts is None else list(amounts.values())
        attributes = {
            name: value
            for name, value in result.items()
            if _is_plain(value) and name not in AUTOMATIC and name not in self._objectives.metrics
        }
        if trial.failures:
            attributes["error"] = f"{trial.failures[-1].error_type}: {trial.failures[-1].message}"
        self._log.end(trial.trial_id, Ending(time.time(), values, attributes, broken))

    def _params(self, trial: Trial) -> tuple[dict[str, Parameter], dict[str, Any]]:
        """Return a trial's parameters as Optuna stores them, and those that it has no distribution for."""
        params: dict[str, Parameter] = {}
        others: dict[str, Any] = {}
        domains = self._space.domains_of(trial.evaluated_params)
        for name, value in trial.evaluated_params.items():
            domain = domains.get(name)
            distribution = None
            if domain is not None:
                distribution = self._distributions[name] if name in self._distributions else as_json(domain)
            number = None if domain is None else internal(domain, value)
            if distribution is not None and number is not None:
                params[name] = Parameter(distribution, number)
            elif _is_plain(value):
                others[name] = value
        return params, others


def _worth_keeping(step: float) -> bool:
    if step <= _EVERY_POINT:
        return True
    spacing = 10
    while step > _EVERY_POINT * spacing:
        spacing *= 10
    return step % spacing == 0


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
