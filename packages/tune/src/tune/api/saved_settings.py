"""``tuner.pkl``: the settings of a sweep in its directory, so that it can be gone on with by its directory alone.

Each part is pickled for itself. A part that does not pickle (a callback with an open connection, say) is left out, and
whoever restores the sweep is told to pass it again; it must not keep the sweep from running.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

from tune.api.configs import RunConfig, TuneConfig
from tune.api.settings import Settings
from tune.errors import ExperimentNotFoundError, TuneError

FILE_NAME = "tuner.pkl"
_FORMAT = 1
logger: logging.Logger = logging.getLogger("tune")

#: fields of the configuration records that are parts of their own
_LIVE_TUNE = ("search_alg", "scheduler", "constraints", "trial_name_creator", "trial_dirname_creator")
_LIVE_RUN = ("stop", "callbacks", "progress_reporter", "storage_filesystem")

#: part, how it is read off the settings
_PARTS: dict[str, Callable[[Settings], Any]] = {
    "trainable": lambda settings: settings.trainable,
    "param_space": lambda settings: settings.space,
    "search_alg": lambda settings: settings.tune.search_alg,
    "scheduler": lambda settings: settings.tune.scheduler,
    "stop": lambda settings: settings.run.stop,
    "callbacks": lambda settings: settings.run.callbacks,
    "progress_reporter": lambda settings: settings.run.progress_reporter,
    # Never saved: it holds credentials. Whoever restores passes it again, or has it in the environment.
    "storage_filesystem": lambda _settings: None,
    "backend": lambda settings: settings.backend,
    "constraints": lambda settings: settings.tune.constraints,
    "trial_name_creator": lambda settings: settings.tune.trial_name_creator,
    "trial_dirname_creator": lambda settings: settings.tune.trial_dirname_creator,
    "rest": lambda settings: (
        _without(settings.tune, _LIVE_TUNE),
        _without(settings.run, _LIVE_RUN),
        settings.resources,
        settings.export_formats,
        settings.restore,
    ),
}


def _without(record: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in names}


def pack(settings: Settings) -> bytes:
    """Return the settings as bytes."""
    parts: dict[str, bytes] = {}
    for part, read in _PARTS.items():
        try:
            parts[part] = cloudpickle.dumps(read(settings))
        except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything
            logger.info("tuner.pkl leaves out %s, which does not pickle: %s", part, error)
    return pickle.dumps((_FORMAT, parts))


def write(settings: Settings, directory: Path) -> None:
    """Write the settings into an experiment's directory, in one piece or not at all."""
    write_packed(pack(settings), directory)


def write_packed(packed: bytes, directory: Path) -> None:
    """Write what `pack` returned."""
    temporary = directory / f"{FILE_NAME}.new"
    temporary.write_bytes(packed)
    os.replace(temporary, directory / FILE_NAME)  # noqa: PTH105 - the function with the guarantee


def exists(directory: Path) -> bool:
    """Tell whether an experiment's directory has settings."""
    return (directory / FILE_NAME).is_file()


def read(directory: Path, caller: str, **given: Any) -> Settings:
    """Return the settings of the experiment in a directory.

    Args:
        directory: the experiment's, local.
        caller: the call, for messages.
        **given: parts that replace the saved ones; None for "not given".

    Raises:
        ExperimentNotFoundError: the directory has none.
        TuneError: a part is needed that could not be saved, or cannot be read back, and is not given.
    """
    if not exists(directory):
        raise ExperimentNotFoundError(f"{directory} has no {FILE_NAME}: it is not the directory of a tune experiment.")
    parts = _unpack(directory)
    found = {part: _part(part, parts, given) for part in _PARTS}
    tune, run, resources, export_formats, restore = found.pop("rest")
    return Settings(
        found["trainable"],
        space=found["param_space"],
        tune=TuneConfig(**tune, **{name: found[name] for name in _LIVE_TUNE}),
        run=RunConfig(**run, **{name: found[name] for name in _LIVE_RUN}),
        resources=resources,
        export_formats=export_formats,
        restore=restore,
        backend=found["backend"],
        caller=caller,
    )


def packed_part(directory: Path, part: str) -> bytes | None:
    """Return a part of an experiment's settings as it was pickled; None if there is none."""
    return _unpack(directory).get(part) if exists(directory) else None


def _unpack(directory: Path) -> dict[str, bytes]:
    path = directory / FILE_NAME
    try:
        version, parts = pickle.loads(path.read_bytes())
    except (pickle.UnpicklingError, ValueError, EOFError) as error:
        raise TuneError(f"{path} cannot be read: {error}") from error
    if version != _FORMAT:
        raise TuneError(f"{path} was written by another version of tune (format {version}).")
    found: dict[str, bytes] = parts
    return found


def _part(part: str, parts: dict[str, bytes], given: dict[str, Any]) -> Any:
    if given.get(part) is not None:
        return given[part]
    if part not in parts:
        if part in ("callbacks", "progress_reporter"):
            logger.warning("%s could not be saved with the sweep; it goes on without.", part)
            return None
        raise TuneError(f"{part} could not be saved with the sweep, so it must be passed again.")
    try:
        return pickle.loads(parts[part])
    except Exception as error:
        raise TuneError(
            f"{part} of the saved sweep cannot be read back here ({type(error).__name__}: {error}). Make the modules "
            f"it comes from importable, or pass it again."
        ) from error
