"""The report of a sweep as one self-contained HTML page, refreshed while the sweep runs.

`HtmlReportCallback` keeps ``report.html`` in the experiment's directory; `write_report` makes a page of trials that are
there already.
"""

from __future__ import annotations

from tune.html_report.callback import HtmlReportCallback
from tune.html_report.page import write_report
from tune.html_report.sweep import Sweep

__all__ = ["HtmlReportCallback", "Sweep", "write_report"]
