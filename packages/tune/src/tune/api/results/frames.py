"""Results as pandas' tables. The only module of tune's core that knows pandas, and it imports it when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tune.api.results.nested import delimiter, flatten

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[Mapping[str, Any]], what: str, index: str | None = None) -> pd.DataFrame:
    """Return a table, one row for each result, nested entries in columns of their flat names.

    Args:
        rows: the results.
        what: what the user asked for, for the error.
        index: the column that becomes the index.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - an optional dependency, and half a second of import
    except ImportError as missing:
        raise ImportError(
            f"{what} is a pandas table, and pandas is not installed: run `pip install 'skate-tune[pandas]'`. "
            "Results are there without it: ResultGrid[i].metrics, Result.metrics_history, ExperimentAnalysis.results."
        ) from missing
    table = pd.DataFrame([flatten(row, delimiter()) for row in rows])
    return table.set_index(index) if index is not None and index in table else table
