"""``result.json``, ``params.json`` and ``params.pkl`` in each trial's directory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cloudpickle

from tune.logger.encoding import json_lines, plain
from tune.logger.file_logger import FLUSH_INTERVAL, FileLogger, TrialFile
from tune.trial import Config, Result, Trial

RESULT_FILE = "result.json"
PARAMS_FILE = "params.json"
PICKLED_PARAMS_FILE = "params.pkl"


class JsonLoggerCallback(FileLogger):
    """Logs each trial's results to ``result.json``, an object a line, and its configuration to ``params.json``.

    ``params.pkl`` holds the configuration too, pickled. Values that JSON has no word for are written as lists (arrays)
    or as their text; ``NaN`` and infinities as Python's `json` reads them.

    Args:
        flush_interval: seconds that a result may wait in memory before it is written.
    """

    def __init__(self, *, flush_interval: float = FLUSH_INTERVAL) -> None:
        super().__init__(flush_interval=flush_interval)

    def open_file(self, trial: Trial) -> TrialFile:
        """Return the trial's ``result.json``."""
        return JsonFile(self.trial_path(trial) / RESULT_FILE)

    def log_trial_start(self, trial: Trial) -> None:
        """Write the configuration; a trial that goes on may have a new one."""
        super().log_trial_start(trial)
        self.do(partial(self._write_params, trial, trial.config))

    def _write_params(self, trial: Trial, config: Config) -> None:
        write_params(self.trial_path(trial), config)


class JsonFile(TrialFile):
    """A trial's ``result.json``."""

    def append(self, results: Sequence[Result], config: Config) -> None:
        """Write a line for each result."""
        with self.path.open("ab", buffering=0) as file:
            file.write(json_lines(results, config))

    def keep(self, limit: int) -> int:
        """Cut a torn last line, and lines after the first `limit`."""
        if not self.path.exists():
            return 0
        lines = self.path.read_bytes().split(b"\n")
        kept = lines[: min(limit, len(lines) - 1)]
        os.truncate(self.path, sum(len(line) + 1 for line in kept))
        return len(kept)


def write_params(directory: Path, config: Config) -> None:
    """Write ``params.json``, for people, and ``params.pkl``, for programs."""
    (directory / PARAMS_FILE).write_text(json.dumps(config, default=plain, skipkeys=True, indent=2))
    (directory / PICKLED_PARAMS_FILE).write_bytes(cloudpickle.dumps(config))
