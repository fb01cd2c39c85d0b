"""Runs one trial after another in a process: from a `Launch` to the event that ends it.

Whatever user code does short of killing the process ends as an event, and the process goes on to the next trial.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tune.messages import Action, Launch, TrialFailed, TrialPaused, TrialReturned, TrialStarted
from tune.storage import ExperimentStorage, Storage
from tune.trainable import Trainable
from tune.trial_process import session as session_module
from tune.trial_process.class_runner import ClassRunner
from tune.trial_process.failures import failure_of
from tune.trial_process.function_runner import run_function
from tune.trial_process.isolation import ORIGINAL_DIRECTORY, Isolation
from tune.trial_process.outbox import Outbox
from tune.trial_process.output import redirected
from tune.trial_process.seeds import Seeder
from tune.trial_process.session import TrialSession, TrialStopped
from tune.trial_process.wire import ProcessSpoiled, SlotEvent


class ProcessSettings(msgspec.Struct, frozen=True):
    """What all trials of a sweep have in common in their processes."""

    #: where the experiment is kept; None: trials' directories are local paths
    storage: ExperimentStorage | None = None
    #: names of files in the trial's directory for standard output and error; None leaves them to the console
    log_files: tuple[str, str] | None = None
    #: run trials in their own directories (Ray's default)
    chdir: bool = True
    #: for class trainables that end well: passed to `Trainable.export_model`
    export_formats: tuple[str, ...] = ()


class TrialRunner:
    """See the module's docstring.

    Args:
        load: returns the trainable, a function of the configuration or a `Trainable` class; called for each trial.
        settings: what all trials have in common.
        outbox: takes the events.
    """

    def __init__(self, load: Callable[[], Any], settings: ProcessSettings, outbox: Outbox) -> None:
        self._load = load
        self._settings = settings
        self._outbox = outbox
        self._classes = ClassRunner(settings.export_formats)
        self._seeder = Seeder()

    def run(self, launch: Launch) -> None:
        """Run a trial; its events, the last one included, go to the outbox. Never raises."""
        outbox = self._outbox
        trial_id, attempt = launch.trial_id, launch.attempt
        outbox.begin(trial_id, attempt)
        started = TrialStarted(trial_id, attempt, os.getpid(), socket.gethostname())
        if launch.time_limit_s is None and launch.memory_limit is None:
            outbox.post(started)
        else:
            # The driver's clock must run before code does that may never let another thread of this process run.
            outbox.post_and_confirm(started)
        isolation = Isolation()
        try:
            last = self._run(launch)
        except BaseException as error:  # noqa: BLE001 - the outermost shell of the trial
            last = TrialFailed(trial_id, attempt, failure_of(error))
        finally:
            session_module.set_current(None)
            self._seeder.end()
        reason = isolation.restore()
        if reason:
            outbox.post(ProcessSpoiled(reason))
        outbox.post(last, urgent=True)

    def close(self) -> None:
        """Clean up what is kept between trials."""
        self._classes.close()

    def _run(self, launch: Launch) -> SlotEvent:
        storage, directory = self._places(launch)
        with self._surroundings(directory):
            session = TrialSession(launch, storage, str(directory), self._outbox)
            session_module.set_current(session)
            self._seeder.begin(launch.seed)
            try:
                self._run_trainable(self._load(), launch, session)
            except BaseException as error:
                if session.ending is None or not _comes_from_stopping(error):
                    raise
        if session.ending is Action.PAUSE:
            return TrialPaused(launch.trial_id, launch.attempt)
        return TrialReturned(launch.trial_id, launch.attempt, stopped=session.ending is not None and not session.done)

    def _run_trainable(self, trainable: Any, launch: Launch, session: TrialSession) -> None:
        if not isinstance(trainable, type):
            run_function(trainable, launch.config)
        elif issubclass(trainable, Trainable):
            self._classes.run(trainable, launch, session, self._outbox)
        else:
            raise TypeError(f"the class {trainable.__name__} must inherit from tune.Trainable to be a trial")

    def _places(self, launch: Launch) -> tuple[Storage, Path]:
        """Return the trial's place in the storage and its directory on this machine."""
        if self._settings.storage is not None:
            return self._settings.storage.trial(launch.trial_dir)
        return Storage(launch.trial_dir), Path(launch.trial_dir)

    @contextlib.contextmanager
    def _surroundings(self, directory: Path) -> Iterator[None]:
        os.environ.setdefault(ORIGINAL_DIRECTORY, str(Path.cwd()))
        if self._settings.chdir:
            directory.mkdir(parents=True, exist_ok=True)
            os.chdir(directory)
        with redirected(directory, self._settings.log_files):
            yield


def _comes_from_stopping(error: BaseException | None) -> bool:
    """Tell whether an exception is `TrialStopped`, or was raised while that was on its way."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TrialStopped):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
