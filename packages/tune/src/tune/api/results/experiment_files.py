"""An experiment read from its directory, while it runs or afterwards, without its code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tune.controller.history import Experiment, ResultReader, read_experiment
from tune.controller.lock import running_pid
from tune.errors import ExperimentNotFoundError
from tune.storage import ExperimentStorage, Storage
from tune.trial import Result, Trial


class SavedExperiment:
    """The trials of an experiment, and the results they have had.

    Args:
        storage: the experiment's place; its local side must be there.
        trials: the trials, if they are at hand; None reads them from the journal.
    """

    def __init__(self, storage: ExperimentStorage, trials: Sequence[Trial] | None) -> None:
        self._storage = storage
        self._given = trials
        self._reader = ResultReader(storage.directory)

    @cached_property
    def _read(self) -> Experiment:
        return read_experiment(self._storage.directory)

    @property
    def storage(self) -> str:
        """Directory or URL of the experiment."""
        return self._storage.url

    @property
    def directory(self) -> Path:
        """The local directory: the experiment itself, or where a remote one is staged."""
        return self._storage.directory

    @property
    def name(self) -> str:
        """Name of the experiment: that of its directory."""
        return self._storage.directory.name

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials, in order of creation."""
        return self._read.trials if self._given is None else self._given

    @property
    def metric(self) -> str | list[str] | None:
        """What the sweep optimizes; a list for several objectives."""
        return _single(self._read.rules.metrics)

    @property
    def mode(self) -> str | list[str] | None:
        """``"min"`` or ``"max"``; a list for several objectives."""
        return _single(self._read.rules.modes)

    @property
    def state(self) -> str:
        """``running``, why it ended, as ``complete``, or ``interrupted``, also if its driver died."""
        if running_pid(self._storage.directory) is not None:
            return "running"
        return str(self._read.ended or "interrupted")

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem of a remote one; None if it is local."""
        return self._storage.storage.filesystem

    def place(self, trial: Trial) -> Storage:
        """Return the place of a trial in the storage."""
        return self._storage.storage.child(trial.dirname)

    def history(self, trial: Trial) -> list[Result]:
        """Return all results of a trial, oldest first."""
        return list(self._reader.results(trial))


def _single(names: tuple[str, ...]) -> str | list[str] | None:
    if len(names) > 1:
        return list(names)
    return names[0] if names else None


def open_experiment(path: str | Path, filesystem: Any = None, trials: Sequence[Trial] | None = None) -> SavedExperiment:
    """Return the experiment at a path.

    Args:
        path: its directory or URL.
        filesystem: the fsspec filesystem of the path, if its URL does not say enough.
        trials: the trials, if they are at hand.

    Raises:
        ExperimentNotFoundError: there is none.
    """
    place = Storage(path, filesystem)
    root, _, name = place.url.rstrip("/").rpartition("/")
    if not name or not place.exists():
        raise ExperimentNotFoundError(f"there is no experiment at {path}.")
    storage = ExperimentStorage(root or "/", name, filesystem)
    storage.prepare()
    return SavedExperiment(storage, trials)
