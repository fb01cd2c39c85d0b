"""A panel of monthly series in three arrays, so that one ``put`` shares it with every task without copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

COLUMNS = ("series_id", "title", "month", "value")


class PanelError(ValueError):
    """The file is not a panel of gapless monthly series; the message says which column or series is at fault."""


@dataclass(frozen=True)
class Panel:
    """Monthly series laid end to end.

    ``values[offsets[i]:offsets[i + 1]]`` is series ``i``, whose first observation is ``first_months[i]``.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    values: NDArray[np.float64]
    offsets: NDArray[np.int64]
    first_months: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.ids)

    def series(self, index: int) -> NDArray[np.float64]:
        """Return the observations of one series (a view, no copy)."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def months(self, index: int, *, start: int, count: int) -> NDArray[np.datetime64]:
        """Return ``count`` months of the series' calendar from position ``start`` on (which may lie past its end)."""
        months: NDArray[np.datetime64] = self.first_months[index] + np.arange(start, start + count)
        return months

    def evenly_spaced(self, count: int) -> Panel:
        """Return a smaller panel: ``count`` series picked at equal distances, or all when there are no more."""
        if count >= len(self):
            return self
        picked = np.linspace(0, len(self) - 1, count).round().astype(int)
        parts = [self.series(int(index)) for index in picked]
        return Panel(
            ids=tuple(self.ids[index] for index in picked),
            titles=tuple(self.titles[index] for index in picked),
            values=np.concatenate(parts),
            offsets=np.concatenate([[0], np.cumsum([part.size for part in parts])]),
            first_months=self.first_months[picked],
        )


def read_panel(path: Path) -> Panel:
    """Read the long form (``series_id, title, month, value``) from a Parquet file.

    Raises `PanelError` when a column is missing or a series has a gap or a repeated month.
    """
    table = pyarrow.parquet.read_table(path)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise PanelError(f"{path}: column {missing[0]!r} is missing; a panel has the columns {', '.join(COLUMNS)}")
    if not table.num_rows:
        raise PanelError(f"{path}: the file holds no rows")
    table = table.sort_by([("series_id", "ascending"), ("month", "ascending")])
    ids = table["series_id"].to_numpy()
    months = table["month"].to_numpy().astype("datetime64[M]")
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    steps = np.diff(months.astype(np.int64))
    steps[starts[1:] - 1] = 1  # the step from one series into the next is no gap
    if (steps != 1).any():
        at = int(np.flatnonzero(steps != 1)[0])
        raise PanelError(f"{path}: series {ids[at]} goes from {months[at]} to {months[at + 1]}; months must be gapless")
    return Panel(
        ids=tuple(ids[starts].tolist()),
        titles=tuple(table["title"].to_numpy()[starts].tolist()),
        values=table["value"].to_numpy().astype(np.float64),
        offsets=np.append(starts, len(ids)).astype(np.int64),
        first_months=months[starts],
    )
