"""MLflow: a logger for sweeps, and a session inside a trial. Needs mlflow (or mlflow-skinny). Ray's names.

::

    tune.run(train, callbacks=[MLflowLoggerCallback("sqlite:///mlruns.db", experiment_name="digits")])
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

try:
    import mlflow
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "tune.integration.mlflow needs MLflow; install it with: pip install mlflow-skinny"
    ) from error

import tune
from tune.logger import LoggerCallback
from tune.logger.encoding import flatten
from tune.logger.tensorboard_logger import numbers
from tune.result import TIMESTAMP, TRAINING_ITERATION
from tune.trial import Result, Trial

#: what MLflow takes in one call
BATCH = 1_000
#: characters of a parameter's value that MLflow keeps
VALUE_LENGTH = 500
#: seconds that a result may wait before it is sent
FLUSH_INTERVAL = 1.0
#: by this tag a resumed sweep finds the runs of its trials again
TRIAL_TAG = "trial_id"


class MLflowLoggerCallback(LoggerCallback):
    """Logs each trial as a run of MLflow: parameters, numbers, and how it ended.

    The driver sends what trials report, once a second and in batches. A resumed sweep goes on with the runs of its
    trials and sends what was recorded but not sent. For MLflow calls inside a trial see `setup_mlflow`.

    Args:
        tracking_uri: where MLflow keeps runs (a server, or ``sqlite:///file.db``); default: MLflow's own choice.
        registry_uri: where MLflow keeps models; default: MLflow's own choice.
        experiment_name: MLflow experiment, made if it is not there; default: the sweep's name.
        tags: of every run.
        tracking_token: for a server that wants one; becomes the environment's ``MLFLOW_TRACKING_TOKEN``.
        save_artifact: upload each trial's directory when it ends.
        log_params_on_trial_end: send parameters when the trial ends, not when it starts.
    """

    complete_results = False

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: dict[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._registry_uri = registry_uri
        self._experiment_name = experiment_name
        self._tags = dict(tags or {})
        self._token = tracking_token
        self._save_artifact = save_artifact
        self._params_at_end = log_params_on_trial_end
        self._client: Any = None
        self._experiment_id = ""
        #: run ids, by trial
        self._runs: dict[str, str] = {}
        self._waiting: dict[str, list[Result]] = {}
        self._sent_at = 0.0
        #: trials whose runs were there before this sweep's driver
        self._found: set[str] = set()
        self._resumed = False
        self._behind = False
        self._recorded: Any = None

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Connect, and make the experiment if it is not there."""
        super().setup(stop, num_samples, total_num_samples, **info)
        _authenticate(self._token)
        self._client = MlflowClient(self._tracking_uri, self._registry_uri)
        name = self._experiment_name or str(info.get("experiment_name") or "tune")
        experiment = self._client.get_experiment_by_name(name)
        self._experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self._resumed = self._behind = bool(info.get("resumed"))
        self._recorded = info.get("recorded")

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """In the first round of a resumed sweep, send what was recorded but not sent."""
        if self._behind:
            self._behind = False
            for trial in trials:
                if trial.attempts and self._recorded is not None:
                    self._catch_up(trial)

    def log_trial_start(self, trial: Trial) -> None:
        """Make the trial's run, or go on with it."""
        run = self._run_of(trial)
        self._client.update_run(run, status="RUNNING")
        if not self._params_at_end:
            self._send_params(trial)

    def log_trial_result(self, iteration: int, trial: Trial, result: Result) -> None:
        """Take one result, to be sent within a second."""
        self._waiting.setdefault(trial.trial_id, []).append(result)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Send what waits and end the trial's run."""
        run = self._run_of(trial)
        self._send(trial.trial_id)
        if self._params_at_end:
            self._send_params(trial)
        if self._save_artifact:
            self._client.log_artifacts(run, str(self.trial_path(trial)))
        self._client.set_terminated(run, "FAILED" if failed else "FINISHED")
        del self._runs[trial.trial_id]
        self._found.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Send what waits, once a second."""
        now = time.monotonic()
        if now - self._sent_at >= FLUSH_INTERVAL:
            self._sent_at = now
            for trial_id in list(self._waiting):
                self._send(trial_id)

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Send everything, and end the runs of trials that did not come to an end."""
        for trial_id in list(self._waiting):
            self._send(trial_id)
        for run in self._runs.values():
            self._client.set_terminated(run, "KILLED")
        self._runs.clear()

    def _run_of(self, trial: Trial) -> str:
        run = self._runs.get(trial.trial_id)
        if run is None:
            run = self._find(trial) if self._resumed or trial.attempts > 1 else None
            if run is not None:
                self._found.add(trial.trial_id)
            else:
                tags = {**self._tags, TRIAL_TAG: trial.trial_id, "trial_name": str(trial)}
                tags = {name: str(value) for name, value in tags.items()}
                run = str(self._client.create_run(self._experiment_id, run_name=str(trial), tags=tags).info.run_id)
            self._runs[trial.trial_id] = run
        return run

    def _find(self, trial: Trial) -> str | None:
        found = self._client.search_runs([self._experiment_id], f"tags.{TRIAL_TAG} = '{trial.trial_id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _catch_up(self, trial: Trial) -> None:
        run = self._run_of(trial)
        last = self._client.get_run(run).data.metrics.get(TRAINING_ITERATION, 0)
        missing = [result for result in self._recorded(trial.trial_id) if result.get(TRAINING_ITERATION, 0) > last]
        if missing:
            self._waiting[trial.trial_id] = missing
            self._send(trial.trial_id)
        if trial.status.finished:
            self._client.set_terminated(run, "FAILED" if trial.status.errored else "FINISHED")
            del self._runs[trial.trial_id]

    def _send(self, trial_id: str) -> None:
        results = self._waiting.pop(trial_id, ())
        metrics = [metric for result in results for metric in _metrics(result)]
        for first in range(0, len(metrics), BATCH):
            self._client.log_batch(self._runs[trial_id], metrics=metrics[first : first + BATCH])

    def _send_params(self, trial: Trial) -> None:
        """Send the configuration; of one that has changed since, as tags, because MLflow's parameters cannot change."""
        run = self._runs[trial.trial_id]
        known = self._client.get_run(run).data.params if trial.attempts > 1 or trial.trial_id in self._found else {}
        params = _params(trial.config)
        new = [Param(name, value) for name, value in params.items() if name not in known]
        changed = [
            RunTag(f"changed/{name}", value) for name, value in params.items() if known.get(name, value) != value
        ]
        self._client.log_batch(run, params=new, tags=changed)


def setup_mlflow(
    config: dict[str, Any] | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    tracking_token: str | None = None,
    artifact_location: str | None = None,
    run_name: str | None = None,
    create_experiment_if_not_exists: bool = False,
    tags: dict[str, Any] | None = None,
    rank_zero_only: bool = True,
) -> ModuleType:
    """Begin a run of MLflow inside a trial and return the module, ready for ``mlflow.log_metric`` and the like.

    The run has the trial's name and the configuration as parameters; an earlier run of the same process is ended. Call
    ``mlflow.end_run()`` at the end of the trial: a process may run many.

    Args:
        config: the trial's configuration; its entry ``"mlflow"`` may hold any of the arguments below.
        tracking_uri: where MLflow keeps runs; default: MLflow's own choice.
        registry_uri: where MLflow keeps models; default: MLflow's own choice.
        experiment_id: MLflow experiment by id.
        experiment_name: MLflow experiment by name; default: the sweep's.
        tracking_token: for a server that wants one.
        artifact_location: of an experiment that is made.
        run_name: default: the trial's name.
        create_experiment_if_not_exists: make the experiment if it is not there.
        tags: of the run.
        rank_zero_only: for distributed training; a trial has no ranks, so it changes nothing here.

    Raises:
        ValueError: there is no such experiment and it is not to be made.
    """
    given = {
        "tracking_uri": tracking_uri,
        "registry_uri": registry_uri,
        "experiment_id": experiment_id,
        "experiment_name": experiment_name,
        "tracking_token": tracking_token,
        "artifact_location": artifact_location,
        "run_name": run_name,
        "tags": tags,
    }
    params = dict(config or {})
    settings = {**params.pop("mlflow", {}), **{name: value for name, value in given.items() if value is not None}}
    create = create_experiment_if_not_exists or settings.get("create_experiment_if_not_exists", False)
    context = tune.get_context()
    _authenticate(settings.get("tracking_token"))
    mlflow.set_tracking_uri(settings.get("tracking_uri"))
    mlflow.set_registry_uri(settings.get("registry_uri"))
    experiment = settings.get("experiment_id")
    if experiment is None:
        name = settings.get("experiment_name") or context.get_experiment_name()
        experiment = _experiment_id(name, create, settings.get("artifact_location"))
    if mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.start_run(
        experiment_id=experiment,
        run_name=settings.get("run_name") or context.get_trial_name(),
        tags={TRIAL_TAG: str(context.get_trial_id()), **(settings.get("tags") or {})},
    )
    mlflow.log_params(_params(params))
    module: ModuleType = mlflow
    return module


def _experiment_id(name: str, create: bool, location: str | None) -> str:
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    if not create:
        raise ValueError(
            f"MLflow has no experiment {name!r}; make it first, or pass create_experiment_if_not_exists=True"
        )
    return str(mlflow.create_experiment(name, artifact_location=location))


def _authenticate(token: str | None) -> None:
    if token is not None:
        os.environ["MLFLOW_TRACKING_TOKEN"] = token


def _params(config: dict[str, Any]) -> dict[str, str]:
    return {_allowed(name): str(value)[:VALUE_LENGTH] for name, value in flatten(config).items()}


def _metrics(result: Result) -> Sequence[Any]:
    step = int(result.get("timesteps_total") or result.get(TRAINING_ITERATION, 0))
    moment = int(result.get(TIMESTAMP, time.time()) * 1000)
    named = [*numbers(result), (TRAINING_ITERATION, result.get(TRAINING_ITERATION, 0))]
    return [Metric(_allowed(name), float(value), moment, step) for name, value in named]


def _allowed(name: str) -> str:
    """Return a name with only the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /:]", "_", name)[:250]
