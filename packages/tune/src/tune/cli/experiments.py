"""Experiments as the commands find them: by path, by URL, or by name in the default place."""

from __future__ import annotations

import os
from pathlib import Path

from tune.api.location import is_experiment
from tune.api.results.analysis import ExperimentAnalysis
from tune.errors import ExperimentNotFoundError
from tune.storage import default_storage_path


def find(experiment: str) -> str:
    """Return the directory or URL of an experiment.

    Args:
        experiment: that, or its name in the default storage path.

    Raises:
        ExperimentNotFoundError: there is none.
    """
    if "://" in experiment:
        return experiment
    for candidate in (Path(experiment).expanduser(), default_storage_path() / experiment):
        if candidate.is_dir() and is_experiment(candidate):
            return str(candidate.absolute())
    known = [path.name for path in all_in(default_storage_path())]
    listed = f" In {default_storage_path()} there are: {', '.join(known[:10])}." if known else ""
    raise ExperimentNotFoundError(f"{experiment!r} is not the directory or the name of an experiment.{listed}")


def all_in(directory: Path) -> list[Path]:
    """Return the directories of the experiments in a directory, newest first."""
    if not directory.is_dir():
        return []
    found = [Path(entry) for entry in os.scandir(directory) if entry.is_dir() and is_experiment(Path(entry))]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)


def analyse(experiment: str) -> ExperimentAnalysis:
    """Return what came out of an experiment."""
    return ExperimentAnalysis(find(experiment))
