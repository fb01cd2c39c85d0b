"""The reporter of notebooks: a table in the cell's output that is replaced as the sweep goes on."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from tune.progress import wording
from tune.progress.reporter import TuneReporterBase
from tune.progress.tables import Table
from tune.trial import Trial


class JupyterNotebookReporter(TuneReporterBase):
    """Shows the progress as HTML in a notebook.

    Args:
        overwrite: replace what this cell shows; False adds to it.
        **options: those of `TuneReporterBase`.

    Raises:
        ImportError: IPython is not installed; use `CLIReporter`.
    """

    def __init__(self, overwrite: bool = True, **options: Any) -> None:
        super().__init__(**{"print_intermediate_tables": True, **options})
        try:
            from IPython.display import display  # noqa: PLC0415 - only notebooks have it
        except ImportError as error:
            raise ImportError("JupyterNotebookReporter needs IPython, which notebooks have; use CLIReporter") from error
        self._display = display
        self._overwrite = overwrite
        self._handle: Any = None

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        """Show the progress in place of what was shown before."""
        shown = _Html(self.as_html(trials, done, *sys_info))
        if self._handle is None or not self._overwrite:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def as_html(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> str:
        """Return what is shown; all that users named is escaped."""
        summary = self.summary(trials)
        parts = [f"<p><b>tune</b> {html.escape(wording.one_line(summary, self._metric))}</p>"]
        parts += [f"<p>{html.escape(line)}</p>" for line in sys_info if line]
        if done or self._print_tables:
            tables = [self.trial_table(trials), self.error_table(trials)]
            parts += [_html_table(table) for table in tables if table is not None and table.rows]
        return "\n".join(parts)


class _Html:
    """What IPython shows as HTML."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in table.titles)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in row) + "</tr>" for row in table.rows)
    note = f"<p>{html.escape(table.note)}</p>" if table.note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"
