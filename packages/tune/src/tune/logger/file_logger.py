"""What the loggers that write a file per trial share: results wait in memory and are written in batches.

Why batches. Opening, appending to and closing a file costs as much as encoding dozens of results, and keeping files
open costs a descriptor per trial. So results are collected as they come, and every half second (or every few thousand
results, or at the end of the sweep) each trial that has new ones gets one ``open``, one ``write``, one ``close``. No
file stays open in between, whether there are ten trials or ten thousand. A thread does it: making a file takes 30
microseconds on an idle disk, and milliseconds on a busy or a remote one.

What a crash costs. Nothing: the journal, not these files, is the record. A file has one line (row, record) for every
result that the journal has of its trial. A driver that was killed leaves files that are behind the journal, perhaps
torn in the middle of a line; in the first round of a resumed sweep what is torn is cut and what is missing is added.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tune.logger.base import LoggerCallback
from tune.logger.encoding import completed
from tune.logger.writer import Writer
from tune.trial import Config, Result, Trial

#: seconds that a result may wait in memory
FLUSH_INTERVAL = 0.5
#: results that may wait in memory, over all trials
FLUSH_COUNT = 5_000

#: Tells the results that the journal has of a trial, as callbacks were shown them, oldest first.
Recorded = Callable[[str], Sequence[Result]]


class TrialFile(ABC):
    """One trial's file in one format. It keeps no descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def append(self, results: Sequence[Result], config: Config) -> None:
        """Write results to the end of the file; the file is made with the first ones.

        Args:
            results: complete but for the configuration.
            config: what they were reported under; a scheduler may give a trial another one between two attempts.
        """

    @abstractmethod
    def keep(self, limit: int) -> int:
        """Cut what is torn, and all results after the first `limit`; return how many are left."""


class FileLogger(LoggerCallback, ABC):
    """Base of the loggers that write a file per trial.

    Args:
        flush_interval: seconds that a result may wait in memory before it is written.
    """

    complete_results = False

    def __init__(self, *, flush_interval: float = FLUSH_INTERVAL) -> None:
        self._flush_interval = flush_interval
        #: results not handed over yet, by trial: the trial, its configuration, the results
        self._waiting: dict[str, tuple[Trial, Config, list[Result]]] = {}
        self._count = 0
        #: results handed over since the writer was last known to be idle
        self._in_flight = 0
        self._flushed_at = time.monotonic()
        #: ended trials whose files are still remembered
        self._ended: set[str] = set()
        #: whether files of an earlier run may be there
        self.resumed: bool = False
        self._unrepaired = False
        self._recorded: Recorded | None = None
        self._writer = Writer(f"skate-tune-{type(self).__name__}")
        #: the writer's own: files it has written to
        self._files: dict[str, TrialFile] = {}

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
        self.resumed = self._unrepaired = bool(info.get("resumed"))
        self._recorded = info.get("recorded")

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """In the first round of a resumed sweep, make each file hold what the journal has: no more, no less."""
        if self._unrepaired:
            self._unrepaired = False
            for trial in trials:
                if trial.attempts:
                    self._repair(trial)

    def log_trial_start(self, trial: Trial) -> None:
        """Write what waits under the configuration it came from; the trial may have a new one."""
        self._hand_over(trial.trial_id)
        self._ended.discard(trial.trial_id)

    def log_trial_result(self, iteration: int, trial: Trial, result: Result) -> None:
        """Take one result; it is written within `flush_interval` seconds of the next round's end."""
        waiting = self._waiting.get(trial.trial_id)
        if waiting is None:
            self._waiting[trial.trial_id] = (trial, trial.config, [result])
        else:
            waiting[2].append(result)
        self._count += 1

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Remember that nothing more will come, so that the trial can be forgotten once it is written."""
        self._ended.add(trial.trial_id)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Write what waits, if it has waited long enough or is much."""
        now = time.monotonic()
        if self._count >= FLUSH_COUNT or now - self._flushed_at >= self._flush_interval:
            self._hand_over_all()
            self._flushed_at = now
            if self._in_flight >= 4 * FLUSH_COUNT:
                self.flush()  # results come faster than the disk takes them: wait, or memory fills up

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Write everything."""
        self._hand_over_all()
        self._writer.close()

    def flush(self) -> None:
        """Write everything that waits, and return when it is written.

        Raises:
            OSError: it could not be written.
        """
        self._hand_over_all()
        self._writer.wait()
        self._in_flight = 0

    def do(self, what: Callable[[], None]) -> None:
        """Have the writer do something, after everything before."""
        self._writer.put(what)

    def _repair(self, trial: Trial) -> None:
        file = self.open_file(trial)
        there = file.keep(trial.iteration)
        if there < trial.iteration and self._recorded is not None:
            missing = self._recorded(trial.trial_id)[there : trial.iteration]
            if missing:
                file.append(completed(missing, trial), trial.config)

    def _hand_over_all(self) -> None:
        for trial_id in list(self._waiting):
            self._hand_over(trial_id)
        if self._ended:
            ended, self._ended = self._ended, set()
            self._writer.put(partial(self._forget, ended))

    def _hand_over(self, trial_id: str) -> None:
        waiting = self._waiting.pop(trial_id, None)
        if waiting is not None:
            trial, config, results = waiting
            self._count -= len(results)
            self._in_flight += len(results)
            self._writer.put(partial(self._write, trial, config, completed(results, trial)))

    # in the writer's thread

    def _write(self, trial: Trial, config: Config, results: list[Result]) -> None:
        file = self._files.get(trial.trial_id)
        if file is None:
            file = self._files[trial.trial_id] = self.open_file(trial)
        file.append(results, config)

    def _forget(self, ended: set[str]) -> None:
        for trial_id in ended:
            self._files.pop(trial_id, None)
