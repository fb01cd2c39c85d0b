"""``progress.csv`` in each trial's directory."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tune.logger.encoding import flatten
from tune.logger.file_logger import FLUSH_INTERVAL, FileLogger, TrialFile
from tune.result import CONFIG
from tune.trial import Config, Result, Trial

PROGRESS_FILE = "progress.csv"


class CSVLoggerCallback(FileLogger):
    """Logs each trial's results to ``progress.csv``.

    Nested values get columns like ``a/b``, the configuration's are called ``config/a``. A value that comes later than
    the first result gets a column too: the header grows, earlier rows stay as they are and are read as empty there (Ray
    drops such values).

    Args:
        flush_interval: seconds that a result may wait in memory before it is written.
    """

    def __init__(self, *, flush_interval: float = FLUSH_INTERVAL) -> None:
        super().__init__(flush_interval=flush_interval)

    def open_file(self, trial: Trial) -> TrialFile:
        """Return the trial's ``progress.csv``."""
        return CsvFile(self.trial_path(trial) / PROGRESS_FILE)


class CsvFile(TrialFile):
    """A trial's ``progress.csv``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        #: None: not known yet, the file may have one
        self._columns: list[str] | None = None

    def append(self, results: Sequence[Result], config: Config) -> None:
        """Write a row for each result, and a longer header first if they bring new names."""
        columns = self._read_header() if self._columns is None else self._columns
        flat_config = flatten({CONFIG: config})
        rows = [_flat(result) | flat_config for result in results]
        new = dict.fromkeys(name for row in rows for name in row)
        missing = [name for name in new if name not in columns] if new.keys() - columns else []
        if missing and columns:
            self._grow(columns + missing)
        is_new = not columns
        self._columns = columns = columns + missing
        table = [[row.get(name) for name in columns] for row in rows]
        with self.path.open("ab", buffering=0) as file:
            file.write(_text([columns, *table] if is_new else table))

    def keep(self, limit: int) -> int:
        """Cut a torn last row, and rows after the first `limit`."""
        self._columns = None
        if not self.path.exists():
            return 0
        ends = _row_ends(self.path.read_bytes())
        rows = min(limit, max(0, len(ends) - 1))
        os.truncate(self.path, ends[rows] if ends else 0)
        return rows

    def _read_header(self) -> list[str]:
        try:
            with self.path.open(newline="") as file:
                return next(csv.reader(file), [])
        except FileNotFoundError:
            return []

    def _grow(self, columns: list[str]) -> None:
        """Replace the header: all at once, so that a reader or a crash never sees half of it."""
        old = self.path.read_bytes()
        beside = self.path.with_suffix(".csv.new")
        beside.write_bytes(_text([columns]) + old[_row_ends(old)[0] :])
        beside.replace(self.path)


def _flat(result: Result) -> Result:
    return flatten(result) if any(isinstance(value, dict) for value in result.values()) else result


def _text(rows: list[list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _row_ends(data: bytes) -> list[int]:
    """Return where each complete row ends; a newline between quotes ends none."""
    ends = []
    quoted = False
    position = 0
    for line in data.splitlines(keepends=True):
        position += len(line)
        quoted ^= line.count(b'"') % 2 == 1
        if line.endswith(b"\n") and not quoted:
            ends.append(position)
    return ends
