"""Accuracy and intervals: MASE, sMAPE, and conformal bands from back-test errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.models import SEASON

Array = NDArray[np.float64]

LEVELS = (80, 95)


def seasonal_scale(history: Array) -> float:
    """Return the scale of MASE: the mean absolute error of the seasonal naive forecast *within* ``history``.

    Hyndman and Koehler (2006), as used in M4 with season 12. Raises `ValueError` when the history is no longer than
    one season or repeats itself exactly, because the scale is then undefined or zero.
    """
    if history.size <= SEASON:
        raise ValueError(f"{history.size} months are too few for MASE: it needs more than one season ({SEASON})")
    scale = float(np.abs(history[SEASON:] - history[:-SEASON]).mean())
    if scale == 0.0:
        raise ValueError("MASE is undefined: the history repeats itself exactly from year to year")
    return scale


def mase(actual: Array, forecast: Array, scale: float) -> float:
    """Mean absolute scaled error: below 1 beats an in-sample seasonal naive forecast."""
    return float(np.abs(actual - forecast).mean() / scale)


def smape(actual: Array, forecast: Array) -> float:
    """Symmetric mean absolute percentage error in percent, 0 to 200 (M4's definition)."""
    return float(200.0 * np.mean(np.abs(actual - forecast) / (np.abs(actual) + np.abs(forecast))))


@dataclass(frozen=True)
class Bands:
    """Split-conformal interval half-widths by series: ``level_factor * step_shape * scale``.

    How errors grow with the step ahead is learnt from all series together (a single series has too few origins to
    tell), how wide a series' own band must be from its own errors.
    """

    step_shape: Array
    factors: Mapping[str, Mapping[int, float]]

    def half_width(self, series_id: str, level: int, scale: float) -> Array:
        """Return the half-width of the ``level`` percent interval for each step, in the unit of the series."""
        return self.factors[series_id][level] * scale * self.step_shape


def conformal_bands(errors: Mapping[str, Sequence[Array]]) -> Bands:
    """Learn bands from scaled back-test errors: per series one array of absolute errors (by step) per origin.

    The errors within one origin go together, so a plain quantile of a few dozen of them is too narrow. How much too
    narrow is measured by leaving out one origin at a time and looking at all series together, and made good.
    """
    stacked = {series_id: np.stack(list(rows)) for series_id, rows in errors.items()}
    shape = np.concatenate(list(stacked.values())).mean(axis=0)
    # A flawless back-test would give a shape of zeros; any positive shape then gives intervals of width zero.
    shape = np.maximum.accumulate(np.maximum(shape, 1e-12))
    shape = shape / shape.mean()
    scores = {series_id: rows / shape for series_id, rows in stacked.items()}
    widening = {level: _widening(list(scores.values()), level) for level in LEVELS}
    factors = {
        series_id: {level: _conformal_quantile(rows, level) * widening[level] for level in LEVELS}
        for series_id, rows in scores.items()
    }
    return Bands(shape, factors)


def _widening(scores: Sequence[Array], level: int) -> float:
    """Return by how much (at least 1) bands must widen for ``level`` percent of each left-out origin to fall within."""
    ratios = [
        rows[origin] / max(_conformal_quantile(np.delete(rows, origin, axis=0), level), 1e-12)
        for rows in scores
        for origin in range(len(rows))
        if len(rows) > 1
    ]
    return max(1.0, _conformal_quantile(np.concatenate(ratios), level)) if ratios else 1.0


def _conformal_quantile(scores: Array, level: int) -> float:
    """Return the finite-sample quantile of split conformal prediction (the largest score when there are too few)."""
    ordered = np.sort(scores, axis=None)
    rank = math.ceil((ordered.size + 1) * level / 100)
    return float(ordered[min(rank, ordered.size) - 1])
