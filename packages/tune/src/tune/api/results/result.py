"""One trial's outcome: `Result`."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.api.results.experiment_files import open_experiment
from tune.api.results.frames import frame
from tune.api.results.scores import as_number
from tune.argument_checks import one_of
from tune.checkpoint import Checkpoint
from tune.errors import ExperimentNotFoundError, TrialFailedError
from tune.result import complete, lookup, metrics_only
from tune.storage import Storage
from tune.trial import CheckpointRecord, Config, Trial, TrialFailure
from tune.trial import Result as Metrics

if TYPE_CHECKING:
    import pandas as pd

_MODES = ("min", "max")


class Result:
    """What became of one trial.

    Made by ``ResultGrid`` and `from_path`, not by hand.
    """

    def __init__(self, trial: Trial, place: Storage, history: Callable[[], list[Metrics]]) -> None:
        self._trial = trial
        self._place = place
        self._history = history

    @classmethod
    def from_path(cls, path: str | Path, storage_filesystem: Any = None) -> Result:
        """Return the outcome of the trial in this directory (or under this URL) of an experiment.

        Args:
            path: the trial's directory, within that of its experiment.
            storage_filesystem: the fsspec filesystem of the path, if its URL does not say enough.

        Raises:
            ExperimentNotFoundError: there is no such trial.
        """
        text = str(path).rstrip("/")
        parent, _, dirname = text.rpartition("/")
        experiment = open_experiment(parent or ".", storage_filesystem)
        trial = next((trial for trial in experiment.trials if trial.dirname == dirname), None)
        if trial is None:
            raise ExperimentNotFoundError(f"no trial of the experiment {parent!r} has the directory {dirname!r}.")
        return cls(trial, experiment.place(trial), lambda: experiment.history(trial))

    @property
    def path(self) -> str:
        """Directory or URL of the trial in the storage."""
        return self._place.url

    @property
    def metrics(self) -> Metrics:
        """The last result with the automatic metrics; empty if there is none."""
        if not self._trial.last_result:
            return {}
        return complete(self._trial, self._trial.last_result, done=self._trial.status.finished)

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._trial.config

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self._trial.trial_id

    @property
    def status(self) -> str:
        """``TERMINATED``, ``ERROR``, ``TIMEOUT``, ``OUT_OF_MEMORY``, or what an interrupted sweep left."""
        return str(self._trial.status)

    @cached_property
    def error(self) -> Exception | None:
        """Why the trial failed: its own exception, a `TrialFailedError` if that does not pickle; None if it did not."""
        failure = self._trial.error
        return None if failure is None else failure_exception(self._trial, failure)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        record = self._trial.checkpoint
        return None if record is None else self._checkpoint(record)

    @property
    def best_checkpoints(self) -> list[tuple[Checkpoint, dict[str, float]]]:
        """All checkpoints that were kept, oldest first, each with the numbers it was reported with."""
        return [(self._checkpoint(record), dict(record.metrics)) for record in self._trial.checkpoints]

    def _checkpoint(self, record: CheckpointRecord) -> Checkpoint:
        place = self._place.child(record.name)
        return Checkpoint(place.path, place.filesystem)

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """Return the kept checkpoint that was reported with the best value of a metric; None if there is none.

        Args:
            metric: the metric's name.
            mode: ``"min"`` or ``"max"``.

        Raises:
            ValueError: an unknown mode, or no checkpoint came with this metric.
        """
        one_of("mode", mode, _MODES)
        return best_checkpoint(self.best_checkpoints, metric, mode)

    @cached_property
    def metrics_history(self) -> list[Metrics]:
        """All results, oldest first, read when first asked for."""
        return self._history()

    @property
    def metrics_dataframe(self) -> pd.DataFrame:
        """All results as a table, one row each.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame((complete(self._trial, row) for row in self.metrics_history), "Result.metrics_dataframe")

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem of `path`."""
        return Checkpoint(self._place.path, self._place.filesystem).filesystem

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"metrics": metrics_only(self.metrics), "path": self.path}
        if self.error is not None:
            shown = {"error": type(self.error).__name__, **shown}
        if self.checkpoint is not None:
            shown["checkpoint"] = self.checkpoint
        return f"Result({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def best_checkpoint(
    checkpoints: list[tuple[Checkpoint, dict[str, float]]], metric: str, mode: str
) -> Checkpoint | None:
    """Return the checkpoint with the best value; None if there are none at all.

    Raises:
        ValueError: none of them came with this metric.
    """
    if not checkpoints:
        return None
    scored = [(as_number(lookup(metrics, metric)), checkpoint) for checkpoint, metrics in checkpoints]
    comparable = [(value, checkpoint) for value, checkpoint in scored if value is not None and not math.isnan(value)]
    if not comparable:
        known = sorted({name for _, metrics in checkpoints for name in metrics})
        raise ValueError(f"no checkpoint was reported with a number {metric!r}; there are: {', '.join(known)}.")
    pick = min if mode == "min" else max
    return pick(comparable, key=lambda pair: pair[0])[1]


def failure_exception(trial: Trial, failure: TrialFailure) -> Exception:
    """Return a failure as an exception that can be raised."""
    if failure.pickled is not None:
        try:
            error = pickle.loads(failure.pickled)
        except Exception:  # noqa: BLE001 - unpickling runs the user's code, which may raise anything
            error = None
        if isinstance(error, Exception):
            return error
    lines = [f"trial {trial} failed: {failure.error_type}: {failure.message}".removesuffix(": ")]
    return TrialFailedError("\n".join([*lines, failure.traceback]).rstrip(), (trial.trial_id,))


def trial_metrics(trials: list[Trial]) -> Mapping[str, Metrics]:
    """Return the last result of each trial, completed, by id."""
    return {
        trial.trial_id: complete(trial, trial.last_result, done=trial.status.finished) if trial.last_result else {}
        for trial in trials
    }
