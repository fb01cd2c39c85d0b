"""What the loggers that write a file per trial share: results wait in memory and are written in batches.

Why batches. Opening, appending to and closing a file costs as much as encoding dozens of results, and keeping files
open costs a descriptor per trial. So results are collected as they come, and every half second (or every few thousand
results, or at the end of the sweep) each trial that has new ones gets one ``open``, one ``write``, one ``close``. No
file stays open in between, whether there are ten trials or ten thousand.

What a crash costs. Nothing: the journal, not these files, is the record. A file has one line (row, record) for every
result that the journal has of its trial. A driver that was killed leaves files that are behind the journal, perhaps
torn in the middle of a line; in the first round of a resumed sweep what is torn is cut and what is missing is added.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tune.logger.base import LoggerCallback
from tune.trial import Result, Trial

#: seconds that a result may wait in memory
FLUSH_INTERVAL = 0.5
#: results that may wait in memory, over all trials
FLUSH_COUNT = 5_000

#: Tells the results that the journal has of a trial, as callbacks were shown them, oldest first.
Recorded = Callable[[str], Sequence[Result]]


class TrialFile(ABC):
    """One trial's file in one format. It keeps no descriptor."""

    def __init__(self, path: Path, trial: Trial) -> None:
        self.path = path
        self.trial = trial
        #: what the results to come are logged with; a scheduler may give the trial another one between two attempts
        self.config = trial.config

    @abstractmethod
    def append(self, results: Sequence[Result]) -> None:
        """Write results to the end of the file; the file is made with the first ones."""

    @abstractmethod
    def keep(self, limit: int) -> int:
        """Cut what is torn, and all results after the first `limit`; return how many are left."""


class FileLogger(LoggerCallback, ABC):
    """Base of the loggers that write a file per trial.

    Args:
        flush_interval: seconds that a result may wait in memory before it is written.
    """

    def __init__(self, *, flush_interval: float = FLUSH_INTERVAL) -> None:
        self._flush_interval = flush_interval
        self._files: dict[str, TrialFile] = {}
        #: results not written yet, by trial
        self._waiting: dict[str, list[Result]] = {}
        self._count = 0
        self._flushed_at = time.monotonic()
        #: ended trials whose results are not written yet
        self._ended: set[str] = set()
        self._unrepaired = False
        self._recorded: Recorded | None = None

    @abstractmethod
    def open_file(self, trial: Trial) -> TrialFile:
        """Return the file of a trial, there or not; nothing is read or written yet."""

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Learn where the experiment lies, and whether files of an earlier run are there to be continued.

        ``info["recorded"]`` is a function from a trial's id to the results that the journal has of it.
        """
        super().setup(stop, num_samples, total_num_samples, **info)
        self._unrepaired = bool(info.get("resumed"))
        self._recorded = info.get("recorded")

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """In the first round of a resumed sweep, make each file hold what the journal has: no more, no less."""
        if self._unrepaired:
            self._unrepaired = False
            for trial in trials:
                if trial.attempts:
                    self._repair(trial)

    def _repair(self, trial: Trial) -> None:
        file = self.open_file(trial)
        there = file.keep(trial.iteration)
        if there < trial.iteration and self._recorded is not None:
            missing = self._recorded(trial.trial_id)[there : trial.iteration]
            if missing:
                file.append(missing)

    def log_trial_start(self, trial: Trial) -> None:
        """Write what waits under the configuration it came from; the trial may have a new one."""
        self._write(trial.trial_id)
        self._ended.discard(trial.trial_id)
        self._files.pop(trial.trial_id, None)

    def log_trial_result(self, iteration: int, trial: Trial, result: Result) -> None:
        """Take one result; it is written within `flush_interval` seconds of the next round's end."""
        waiting = self._waiting.get(trial.trial_id)
        if waiting is None:
            if trial.trial_id not in self._files:
                self._files[trial.trial_id] = self.open_file(trial)
            waiting = self._waiting[trial.trial_id] = []
        waiting.append(result)
        self._count += 1

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Remember that nothing more will come, so that the trial can be forgotten once it is written."""
        self._ended.add(trial.trial_id)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Write what waits, if it has waited long enough or is much."""
        now = time.monotonic()
        if self._count >= FLUSH_COUNT or now - self._flushed_at >= self._flush_interval:
            self.flush()
            self._flushed_at = now

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Write everything."""
        self.flush()

    def flush(self) -> None:
        """Write everything that waits."""
        for trial_id in list(self._waiting):
            self._write(trial_id)
        for trial_id in self._ended:
            self._files.pop(trial_id, None)
        self._ended.clear()

    def _write(self, trial_id: str) -> None:
        waiting = self._waiting.pop(trial_id, None)
        if waiting:
            self._count -= len(waiting)
            self._files[trial_id].append(waiting)
