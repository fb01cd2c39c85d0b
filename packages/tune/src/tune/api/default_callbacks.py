"""The callbacks that a sweep has besides the user's: loggers, progress, the page, the study file, its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tune.api import environment, saved_settings
from tune.api.settings import Settings
from tune.callback import Callback
from tune.storage import ExperimentStorage
from tune.trial import CheckpointRecord, Trial

#: what ``verbose=None`` means
DEFAULT_VERBOSITY = 2


def all_callbacks(settings: Settings, storage: ExperimentStorage) -> list[Callback]:
    """Return the user's callbacks; loggers, study file and page unless among them; and the progress.

    The user's come first, so that what they raise is raised before anything is written.
    """
    run = settings.run
    callbacks = list(run.callbacks or ())
    if not environment.loggers_disabled():
        callbacks += [
            made for made in _loggers(settings) if not any(isinstance(given, type(made)) for given in callbacks)
        ]
    if run.sync_config.sync_artifacts_on_checkpoint and not storage.storage.is_local:
        callbacks.append(UploadAtCheckpoint(storage))
    verbose = DEFAULT_VERBOSITY if run.verbose is None else run.verbose
    if verbose or run.progress_reporter is not None:
        from tune.progress import ProgressCallback  # noqa: PLC0415 - rich, for those who want to see something

        callbacks.append(ProgressCallback(run.progress_reporter, verbose=max(verbose, 1)))
    return callbacks


def _loggers(settings: Settings) -> list[Callback]:
    # here: loggers bring numpy and protobuf, which `import tune` does without
    from tune.html_report import HtmlReportCallback  # noqa: PLC0415
    from tune.logger import DEFAULT_LOGGERS  # noqa: PLC0415
    from tune.search.study_file import StudyFileCallback  # noqa: PLC0415

    own = getattr(settings.tune.search_alg, "search_space", None)
    space = own() if callable(own) else None
    study = StudyFileCallback(settings.space if space is None else space, constraints=settings.tune.constraints)
    return [*(kind() for kind in DEFAULT_LOGGERS), study, HtmlReportCallback()]


class SettingsFile(Callback):
    """Writes ``tuner.pkl`` of a resumed sweep once the controller has taken up what changed.

    Not before: a driver killed in between would leave settings that the journal knows nothing of.
    """

    def __init__(self, packed: bytes, directory: Path) -> None:
        self._packed = packed
        self._directory = directory

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Write the file."""
        saved_settings.write_packed(self._packed, self._directory)


class UploadAtCheckpoint(Callback):
    """Brings a remote storage up to date whenever a trial has saved a checkpoint."""

    def __init__(self, storage: ExperimentStorage) -> None:
        self._storage = storage

    def on_checkpoint(
        self, iteration: int, trials: Any, trial: Trial, checkpoint: CheckpointRecord, **info: Any
    ) -> None:
        """Hurry."""
        self._storage.hurry()
