"""What a sweep shows while it runs: a live table on a terminal, a line now and then elsewhere. Ray's names."""

from __future__ import annotations

from tune.progress.callback import ProgressCallback
from tune.progress.cli_reporter import CLIReporter
from tune.progress.jupyter_reporter import JupyterNotebookReporter
from tune.progress.reporter import ProgressReporter, TuneReporterBase

__all__ = ["CLIReporter", "JupyterNotebookReporter", "ProgressCallback", "ProgressReporter", "TuneReporterBase"]
