"""Windows for one model over all series: the past of a month, and what came after it.

Every window is expressed relative to its last known value and to the series' usual seasonal change, so that series of
any size can share one model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fleet.panel import Panel
from numpy.typing import NDArray

SEASON = 12
HORIZON = 12


@dataclass(frozen=True)
class Windows:
    """Training windows of all series, and the last window of each series with the year that follows it.

    Arrays of float32: inputs ``(windows, lookback)``, targets ``(windows, HORIZON)``; the last year alike, one row per
    series. `months` is the last known month of each window, counted from 1970. `levels` and `scales` turn a prediction
    of the last year back into values: ``exp(level + prediction)``, and the mean absolute seasonal change that MASE
    divides by.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    months: NDArray[np.int64]
    last_inputs: NDArray[np.float32]
    last_values: NDArray[np.float32]
    levels: NDArray[np.float32]
    scales: NDArray[np.float32]

    def mase(self, predicted: NDArray[np.float32]) -> float:
        """Return the mean over the series of the mean absolute scaled error of predicted last years."""
        errors = np.abs(np.exp(self.levels[:, None] + predicted) - self.last_values).mean(axis=1)
        return float((errors / self.scales).mean())


def cut(panel: Panel, lookback: int, step: int = 3) -> Windows:
    """Cut windows of `lookback` months from all series; the last `HORIZON` months of each are kept for validation."""
    inputs, targets, months, last_inputs, last_values, levels, scales = [], [], [], [], [], [], []
    for index in range(len(panel)):
        values = panel.series(index)
        logs = np.log(values)
        first = int(panel.first_months[index].astype("datetime64[M]").astype(int))
        known = len(values) - HORIZON
        for end in range(lookback, known - HORIZON + 1, step):
            inputs.append(logs[end - lookback : end] - logs[end - 1])
            targets.append(logs[end : end + HORIZON] - logs[end - 1])
            months.append(first + end - 1)
        last_inputs.append(logs[known - lookback : known] - logs[known - 1])
        last_values.append(values[known:])
        levels.append(logs[known - 1])
        scales.append(np.abs(values[SEASON:known] - values[: known - SEASON]).mean())
    late = (np.asarray(part, dtype=np.float32) for part in (last_inputs, last_values, levels, scales))
    return Windows(np.asarray(inputs, np.float32), np.asarray(targets, np.float32), np.asarray(months), *late)


def seasonal_naive(panel: Panel, windows: Windows) -> float:
    """Return the MASE of repeating the last known year."""
    repeated = [panel.series(i)[-2 * SEASON : -SEASON] for i in range(len(panel))]
    return windows.mase(np.log(np.asarray(repeated, dtype=np.float32)) - windows.levels[:, None])
