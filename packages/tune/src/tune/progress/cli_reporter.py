"""The reporter of terminals and logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from tune.progress import wording
from tune.progress.plain_text import as_text
from tune.progress.reporter import TuneReporterBase
from tune.trial import Trial

if TYPE_CHECKING:
    from tune.progress.live_table import LiveTable

#: seconds between two pictures of the live table
LIVE_INTERVAL = 0.25
#: where output is lines: the pause between two grows to this part of the time passed, up to so many seconds
LINE_PART, LONGEST_PAUSE = 0.1, 60.0
#: reporting takes at most this part of the driver's time
COST_PART = 0.02


class CLIReporter(TuneReporterBase):
    """Shows a live table on a terminal, and elsewhere a line now and then and tables at the end.

    Args:
        file: where to write; default: ``sys.stdout``.
        **options: those of `TuneReporterBase`.
    """

    def __init__(self, *, file: TextIO | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._file = file
        self._live: LiveTable | None = None
        self._cost = 0.0

    def should_report(self, trials: Sequence[Trial], done: bool = False) -> bool:
        """Tell whether enough time has passed, in view of where the output goes and what it costs."""
        now = time.time()
        if self._is_terminal():
            pause = LIVE_INTERVAL
        else:
            pause = max(self._interval, min(LONGEST_PAUSE, LINE_PART * (now - self._start)))
        since = now - (self._reported_at or (self._start if not self._is_terminal() else 0.0))
        if not done and since < max(pause, self._cost / COST_PART):
            return False
        self._reported_at = now
        return True

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        """Draw the table anew, or write a line; at the end the tables, to stay."""
        began = time.perf_counter()
        if self._is_terminal():
            self._draw(trials, done, sys_info)
        else:
            self._write(trials, done, sys_info)
        self._cost = time.perf_counter() - began

    def close(self) -> None:
        """Give back the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Write a line; above the live table if there is one."""
        if self._live is not None:
            self._live.say(text)
        else:
            self._out(text)

    def _is_terminal(self) -> bool:
        return (self._file or sys.stdout).isatty()

    def _draw(self, trials: Sequence[Trial], done: bool, sys_info: tuple[str, ...]) -> None:
        if self._live is None:
            from tune.progress.live_table import LiveTable  # noqa: PLC0415 - rich, only on terminals

            self._live = LiveTable(self._file or sys.stdout)
        summary = self.summary(trials)
        self._live.show(summary, self._metric, sys_info, self.trial_table(trials), self.error_table(trials), done)
        if done:
            self.close()

    def _write(self, trials: Sequence[Trial], done: bool, sys_info: tuple[str, ...]) -> None:
        summary = self.summary(trials)
        self._out(f"tune: {wording.one_line(summary, self._metric)}")
        if done or self._print_tables:
            tables = [self.trial_table(trials), self.error_table(trials)]
            for table in tables:
                if table is not None and table.rows:
                    self._out(as_text(table))

    def _out(self, text: str) -> None:
        file = self._file or sys.stdout
        try:
            file.write(f"{text}\n")
        except UnicodeEncodeError:  # a terminal or log that is not UTF-8
            encoding = file.encoding or "ascii"
            file.write(f"{text.encode(encoding, 'replace').decode(encoding)}\n")
        file.flush()
