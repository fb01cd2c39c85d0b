"""Where an experiment is: found for a new one, or opened by its directory or URL."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.api import saved_settings
from tune.api.configs import SyncConfig
from tune.api.directory_names import experiment_name
from tune.api.settings import Settings
from tune.controller.lock import ExperimentLock
from tune.errors import ExperimentNotFoundError
from tune.storage import ExperimentStorage, Storage

logger: logging.Logger = logging.getLogger("tune")


@dataclass(frozen=True)
class Location:
    """Where an experiment is."""

    name: str
    storage: ExperimentStorage

    @property
    def directory(self) -> Path:
        """The local directory: the experiment itself, or where a remote one is staged."""
        return self.storage.directory


def locate(settings: Settings) -> Location:
    """Return where a sweep goes; its local directory exists, with what a remote storage has of it.

    An experiment of that name that is not resumed is moved aside, not overwritten.

    Raises:
        TypeError: ``storage_path`` is no path.
        ValueError: a URL that nothing installed knows, or one with credentials in it; `resume` without a name.
    """
    run = settings.run
    if run.name is None and settings.resume is not None:
        raise ValueError(f"{settings.caller} cannot resume an experiment without its name: pass name=.")
    name = run.name or experiment_name(settings.trainable)
    location = Location(name, _storage(run.storage_path, name, run.storage_filesystem, run.sync_config))
    if settings.resume is None:
        _move_aside(location)
    location.storage.prepare()
    return location


def open_location(path: str | Path, filesystem: Any = None, sync: SyncConfig | None = None) -> Location:
    """Return where an experiment is that exists.

    Args:
        path: its directory or URL.
        filesystem: the fsspec filesystem of the path, if its URL does not say enough.
        sync: how a remote storage is kept up to date.

    Raises:
        ExperimentNotFoundError: there is none.
    """
    place = Storage(path, filesystem)
    root, _, name = place.url.rstrip("/").rpartition("/")
    if not name or not place.exists():
        raise ExperimentNotFoundError(f"there is no experiment at {path}.")
    location = Location(name, _storage(root or "/", name, filesystem, sync or SyncConfig()))
    location.storage.prepare()
    return location


def _storage(path: Any, name: str, filesystem: Any, sync: SyncConfig) -> ExperimentStorage:
    return ExperimentStorage(
        path,
        name,
        filesystem,
        interval_s=sync.sync_period,
        timeout_s=sync.sync_timeout,
        artifacts=sync.sync_artifacts,
    )


def is_experiment(directory: Path) -> bool:
    """Tell whether a directory holds an experiment."""
    return (directory / "journal").is_dir() or saved_settings.exists(directory)


def _move_aside(location: Location) -> None:
    """Give an earlier experiment of the same name another one, with a number."""
    place = location.storage.storage
    if not place.is_local:
        if place.exists():
            raise FileExistsError(
                f"there is an experiment {location.name!r} at {place.url} already: go on with it by resume=True, "
                "choose another name, or delete it."
            )
        if is_experiment(location.directory):  # staged for one that is gone
            ExperimentLock(location.directory).release()
            shutil.rmtree(location.directory)
        return
    directory = location.directory
    if not is_experiment(directory):
        return
    ExperimentLock(directory).release()  # raises if another process is running it
    number = 1
    while (aside := directory.with_name(f"{directory.name}.{number}")).exists():
        number += 1
    directory.rename(aside)
    logger.warning("the earlier experiment %r was moved to %s; resume=True would go on with it.", location.name, aside)
