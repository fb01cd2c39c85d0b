"""Weights & Biases: a logger for sweeps, and a session inside a trial. Needs wandb. Ray's names.

::

    tune.run(train, callbacks=[WandbLoggerCallback(project="digits")])
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

try:
    import wandb
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("tune.integration.wandb needs W&B; install it with: pip install wandb") from error

import tune
from tune.logger import LoggerCallback
from tune.logger.encoding import flatten, plain
from tune.logger.writer import Writer
from tune.result import CONFIG, CONSTANT, TIMESTAMP, TRAINING_ITERATION
from tune.trial import Result, Trial

logger = logging.getLogger("tune")

#: Ray's names of environment variables
PROJECT_VARIABLE, GROUP_VARIABLE = "WANDB_PROJECT_NAME", "WANDB_GROUP_NAME"
#: seconds to wait for W&B to send what it has, at the end of the sweep
UPLOAD_TIMEOUT = 1_800.0
_LEFT_OUT = frozenset({*CONSTANT, TIMESTAMP})


class WandbLoggerCallback(LoggerCallback):
    """Logs each trial as a run of W&B.

    One thread of the driver talks to W&B (beginning a run takes it a tenth of a second or more), so the sweep does not
    wait for it but at the end. A trial that goes on, also in a resumed sweep, goes on in the same run.

    Args:
        project: W&B's project; default: the environment's ``WANDB_PROJECT_NAME``.
        group: W&B's group; default: the environment's ``WANDB_GROUP_NAME``, else the sweep's name.
        api_key_file: a file that holds the API key.
        api_key: the API key; default: what ``wandb login`` stored, or the environment's ``WANDB_API_KEY``.
        excludes: results and parameters that are not logged, by name.
        log_config: log the configuration with every result too, for schedulers that change it.
        upload_checkpoints: upload checkpoints as artifacts.
        save_checkpoints: Ray's older name of `upload_checkpoints`.
        upload_timeout: seconds to wait for W&B at the end of the sweep.
        **kwargs: passed to ``wandb.init``, as ``mode="offline"``.

    Raises:
        ValueError: no project is given, or both `api_key` and `api_key_file` are.
    """

    complete_results = False

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | None = None,
        api_key: str | None = None,
        excludes: Sequence[str] | None = None,
        log_config: bool = False,
        upload_checkpoints: bool = False,
        save_checkpoints: bool = False,
        upload_timeout: float = UPLOAD_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        self._project = project or os.environ.get(PROJECT_VARIABLE)
        if not self._project:
            raise ValueError(f"W&B needs a project: pass project=..., or set {PROJECT_VARIABLE} in the environment")
        self._group = group or os.environ.get(GROUP_VARIABLE)
        self._api_key = _api_key(api_key, api_key_file)
        self._excludes = frozenset(excludes or ())
        self._log_config = log_config
        self._upload_checkpoints = upload_checkpoints or save_checkpoints
        self._timeout = upload_timeout
        self._kwargs = kwargs
        self._desk: _Desk | None = None

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Take the sweep's name as the group, unless one was given."""
        super().setup(stop, num_samples, total_num_samples, **info)
        self._group = self._group or info.get("experiment_name")

    def log_trial_start(self, trial: Trial) -> None:
        """Begin the trial's run, or go on with it."""
        config = {
            name: value for name, value in {**trial.config, "trial_id": trial.trial_id}.items() if self._wanted(name)
        }
        options = {
            "project": self._project,
            "group": self._group,
            "id": trial.trial_id,
            "name": str(trial),
            "resume": "allow",
            "dir": str(self.trial_path(trial)),
            "config": _clean(config),
            "allow_val_change": True,
            "reinit": "create_new",
            "settings": wandb.Settings(silent=True, console="off", api_key=self._api_key),
            **self._kwargs,
        }
        self._work().begin(trial.trial_id, options)

    def log_trial_result(self, iteration: int, trial: Trial, result: Result) -> None:
        """Hand over one result."""
        values = {name: value for name, value in result.items() if name not in _LEFT_OUT and self._wanted(name)}
        if self._log_config:
            values[CONFIG] = trial.config
        step = result.get(TRAINING_ITERATION)
        self._work().log(trial.trial_id, flatten(_clean(values)), step)

    def log_trial_save(self, trial: Trial) -> None:
        """Upload the trial's newest checkpoint, if that is wanted and it is on this machine."""
        if self._upload_checkpoints and trial.checkpoint is not None:
            path = self.trial_path(trial) / trial.checkpoint.name
            if path.is_dir():
                self._work().upload(trial.trial_id, path)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """End the trial's run."""
        self._work().end(trial.trial_id, 1 if failed else 0)

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Wait until W&B has everything, or `upload_timeout` is over."""
        desk, self._desk = self._desk, None
        if desk is not None:
            desk.close(self._timeout)

    def _wanted(self, name: str) -> bool:
        return name not in self._excludes

    def _work(self) -> _Desk:
        if self._desk is None:
            self._desk = _Desk()
        return self._desk


class _Desk:
    """Talks to W&B in a thread of its own."""

    def __init__(self) -> None:
        self._writer = Writer("skate-tune-wandb")
        self._runs: dict[str, Any] = {}

    def begin(self, trial_id: str, options: dict[str, Any]) -> None:
        """Begin a run, or change the configuration of one that goes on."""
        self._writer.put(partial(self._begin, trial_id, options))

    def log(self, trial_id: str, values: dict[str, Any], step: int | None) -> None:
        """Log values to a run."""
        self._writer.put(lambda: self._runs[trial_id].log(values, step=step))

    def upload(self, trial_id: str, path: Path) -> None:
        """Upload a directory as an artifact of a run."""
        self._writer.put(partial(self._upload, trial_id, path))

    def end(self, trial_id: str, code: int) -> None:
        """End a run."""
        self._writer.put(lambda: self._runs.pop(trial_id).finish(exit_code=code))

    def close(self, timeout: float) -> None:
        """Have everything done and all runs ended.

        Raises:
            Exception: what W&B raised.
        """
        try:
            if not self._writer.close(timeout):
                logger.warning("W&B was not done after %g s; the rest is lost (upload_timeout)", timeout)
                return
        finally:
            for run in self._runs.values():
                run.finish(exit_code=1)
            wandb.teardown()

    def _begin(self, trial_id: str, options: dict[str, Any]) -> None:
        if trial_id in self._runs:
            self._runs[trial_id].config.update(options["config"], allow_val_change=True)
        else:
            self._runs[trial_id] = wandb.init(**options)

    def _upload(self, trial_id: str, path: Path) -> None:
        artifact = wandb.Artifact(name=f"checkpoint_{trial_id}", type="model")
        artifact.add_dir(str(path))
        self._runs[trial_id].log_artifact(artifact)


def setup_wandb(
    config: dict[str, Any] | None = None,
    api_key: str | None = None,
    api_key_file: str | None = None,
    rank_zero_only: bool = True,
    **kwargs: Any,
) -> Any:
    """Begin a run of W&B inside a trial and return it, ready for ``run.log``.

    Id, name and group are the trial's id, the trial's name and the sweep's name. Call ``run.finish()`` at the end of
    the trial: a process may run many.

    Args:
        config: the trial's configuration, logged as the run's; its entry ``"wandb"`` may hold arguments of
            ``wandb.init``.
        api_key: the API key; default: what ``wandb login`` stored.
        api_key_file: a file that holds the API key.
        rank_zero_only: for distributed training; a trial has no ranks, so it changes nothing here.
        **kwargs: arguments of ``wandb.init``; they go before those in `config`.

    Raises:
        ValueError: both `api_key` and `api_key_file` are given.
    """
    settings = dict(config or {})
    given = {**settings.pop("wandb", {}), **kwargs}
    key = _api_key(given.pop("api_key", api_key), given.pop("api_key_file", api_key_file))
    context = tune.get_context()
    options = {
        "project": os.environ.get(PROJECT_VARIABLE),
        "group": os.environ.get(GROUP_VARIABLE) or context.get_experiment_name(),
        "id": context.get_trial_id(),
        "name": context.get_trial_name(),
        "resume": "allow",
        "config": _clean(settings),
        "allow_val_change": True,
        "reinit": "finish_previous",
        "settings": wandb.Settings(api_key=key),
        **given,
    }
    return wandb.init(**options)


def _api_key(key: str | None, file: str | None) -> str | None:
    if key is not None and file is not None:
        raise ValueError("pass api_key or api_key_file, not both")
    return Path(file).expanduser().read_text().strip() if file is not None else key


def _clean(values: dict[str, Any]) -> dict[str, Any]:
    """Return values that W&B takes: its own types and plain ones as they are, others as lists or text."""
    cleaned: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            cleaned[name] = _clean(value)
        elif isinstance(value, str | int | float | list | tuple | None) or type(value).__module__.startswith("wandb"):
            cleaned[name] = value
        else:
            cleaned[name] = plain(value)
    return cleaned
