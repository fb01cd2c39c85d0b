"""TensorBoard's event file in each trial's directory: scalars and hyperparameters."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from tune.logger.encoding import flatten, plain
from tune.logger.event_format import ScalarLayout, hparams_value, record, record_ends, summary_event, version_event
from tune.logger.file_logger import FLUSH_INTERVAL, FileLogger, TrialFile
from tune.result import CONFIG, PID, TIME_TOTAL_S, TIMESTAMP, TRAINING_ITERATION
from tune.trial import Config, Result, Trial

#: Ray's, so that runs of both lie side by side in one TensorBoard
TAG_PREFIX = "ray/tune/"
#: not measured by the user, and plotted by step and time anyway
LEFT_OUT = frozenset({CONFIG, PID, TIMESTAMP, TIME_TOTAL_S, TRAINING_ITERATION, "timesteps_total"})
#: tells this file from those that user code writes into the same directory
SUFFIX = ".tune"
#: records before the first result: the format's version and the hyperparameters
PREAMBLE = 2


class TBXLoggerCallback(FileLogger):
    """Logs each trial's numbers and hyperparameters to an event file: ``tensorboard --logdir <experiment>`` shows them.

    Tags are Ray's (``ray/tune/loss``), the step is ``timesteps_total`` if reported, else ``training_iteration``. Values
    that are not numbers are left out. No other package is needed to write the files; TensorBoard itself reads
    them (``pip install "skate-tune[tensorboard]"``).

    Args:
        flush_interval: seconds that a result may wait in memory before it is written.
    """

    def __init__(self, *, flush_interval: float = FLUSH_INTERVAL) -> None:
        super().__init__(flush_interval=flush_interval)

    def open_file(self, trial: Trial) -> TrialFile:
        """Return the trial's event file: the one that is there, or one named as TensorBoard expects."""
        directory = self.trial_path(trial)
        there = (
            next(iter(directory.glob(f"events.out.tfevents.*{SUFFIX}")), None)
            if self.resumed or trial.attempts > 1
            else None
        )
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}{SUFFIX}"
        return EventFile(there or directory / name)


class EventFile(TrialFile):
    """A trial's event file."""

    def append(self, results: Sequence[Result], config: Config) -> None:
        """Write a record for each result."""
        written = bytearray()
        for names, rows in itertools.groupby(map(_scalars, results), key=lambda row: row[2]):
            times, steps, _, values = zip(*rows, strict=True)
            written += _layout(names).records(times, steps, values)
        with self.path.open("ab", buffering=0) as file:
            file.write(_preamble(results[0], config) + written if file.tell() == 0 else written)

    def keep(self, limit: int) -> int:
        """Cut a torn last record, and records after the first `limit` results."""
        if not self.path.exists():
            return 0
        ends = record_ends(self.path.read_bytes())
        records = min(len(ends), PREAMBLE + limit)
        if records < PREAMBLE:
            os.truncate(self.path, 0)
            return 0
        os.truncate(self.path, ends[records - 1])
        return records - PREAMBLE


@lru_cache(maxsize=64)
def _layout(names: tuple[str, ...]) -> ScalarLayout:
    """Return the layout of events with these names; trials of a sweep mostly share one."""
    return ScalarLayout([TAG_PREFIX + name for name in names])


def _scalars(result: Result) -> tuple[float, int, tuple[str, ...], tuple[float, ...]]:
    """Return wall time, step, names and values of what TensorBoard plots."""
    step = result.get("timesteps_total")
    if step is None:
        step = result.get(TRAINING_ITERATION, 0)
    named = list(numbers(result))
    return _wall_time(result), max(0, int(step)), tuple(name for name, _ in named), tuple(value for _, value in named)


def numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield names and values of the numbers worth plotting, nested ones as ``a/b``."""
    for name, value in values.items():
        if prefix or name not in LEFT_OUT:
            if isinstance(value, int | float):  # numpy's float64 is one, and bool
                yield f"{prefix}{name}", value
            elif isinstance(value, dict):
                yield from numbers(value, f"{prefix}{name}/")
            elif hasattr(value, "item") and getattr(value, "size", 0) == 1:  # other scalars of numpy
                yield f"{prefix}{name}", float(value.item())


def _preamble(first: Result, config: Config) -> bytes:
    now = _wall_time(first)
    return record(version_event(now)) + record(summary_event(now, [hparams_value(_hparams(config), now)]))


def _hparams(config: Config) -> dict[str, Any]:
    return {name: plain(value) if hasattr(value, "tolist") else value for name, value in flatten(config).items()}


def _wall_time(result: Result) -> float:
    timestamp = result.get(TIMESTAMP)
    return float(timestamp) if isinstance(timestamp, int | float) else time.time()
