"""What a run of the fleet found, and the files it leaves: forecasts, leaderboard, fitted models."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from fleet.leaderboard import Standing
from fleet.scoring import LEVELS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SeriesForecast:
    """The final forecast of one series by its winner, with the back-test that earned it the place.

    ``half_widths`` and ``holdout_half_widths`` map a level in percent to the half-width of the interval by step;
    the latter were learnt from the selection origins only. ``model`` is the fitted winner as ``joblib`` wrote it.
    """

    series_id: str
    title: str
    model_name: str
    months: NDArray[np.datetime64]
    forecast: Array
    half_widths: Mapping[int, Array]
    holdout_forecast: Array
    holdout_actual: Array
    holdout_half_widths: Mapping[int, Array]
    holdout_mase: float
    holdout_smape: float
    holdout_naive_mase: float
    model: bytes

    def interval(self, level: int) -> tuple[Array, Array]:
        """Return the lower (never below zero: these are counts of people) and upper bounds of the forecast."""
        width = self.half_widths[level]
        return np.maximum(self.forecast - width, 0.0), self.forecast + width

    def holdout_covered(self, level: int) -> NDArray[np.bool_]:
        """Return, step by step, whether the hold-out's interval held the actual value."""
        error = np.abs(self.holdout_actual - self.holdout_forecast)
        return np.asarray(error <= self.holdout_half_widths[level])


@dataclass(frozen=True)
class BestPerSeries:
    """How the choice of one model per series did on the hold-out, over ``series`` series."""

    series: int
    mase: float
    smape: float
    naive_mase: float
    coverage: Mapping[int, float]


def summarise(forecasts: Sequence[SeriesForecast]) -> BestPerSeries:
    """Average the winners' hold-out scores and the coverage of their intervals (a share, by level in percent)."""
    return BestPerSeries(
        series=len(forecasts),
        mase=float(np.mean([item.holdout_mase for item in forecasts])),
        smape=float(np.mean([item.holdout_smape for item in forecasts])),
        naive_mase=float(np.mean([item.holdout_naive_mase for item in forecasts])),
        coverage={
            level: float(np.mean(np.concatenate([item.holdout_covered(level) for item in forecasts])))
            for level in LEVELS
        },
    )


def write_forecasts(forecasts: Sequence[SeriesForecast], folder: Path) -> None:
    """Write ``forecasts.parquet`` and ``forecasts.csv``: one row per series and month, two intervals."""
    steps = [item.forecast.size for item in forecasts]
    columns: dict[str, object] = {
        "series_id": np.repeat([item.series_id for item in forecasts], steps),
        "title": np.repeat([item.title for item in forecasts], steps),
        "month": np.concatenate([item.months for item in forecasts]).astype("datetime64[D]"),
        "model": np.repeat([item.model_name for item in forecasts], steps),
        "forecast": np.concatenate([item.forecast for item in forecasts]),
    }
    for level in LEVELS:
        for side, name in enumerate((f"lower_{level}", f"upper_{level}")):
            columns[name] = np.concatenate([item.interval(level)[side] for item in forecasts])
    table = pa.table(columns)
    pyarrow.parquet.write_table(table, folder / "forecasts.parquet", compression="zstd")
    pyarrow.csv.write_csv(table, folder / "forecasts.csv")


def write_leaderboard(standings: Sequence[Standing], wins: Mapping[str, int], folder: Path) -> None:
    """Write ``leaderboard.csv``: a row per model, in the order of ``standings``."""
    with (folder / "leaderboard.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [{**asdict(row), "series_won": wins.get(row.model, 0)} for row in standings]
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_models(forecasts: Sequence[SeriesForecast], folder: Path) -> None:
    """Write the fitted winners, a file per series, and ``index.json`` that says what each is.

    ``joblib.load`` needs ``fleet`` importable and, like every pickle, must only be given files one trusts.
    """
    store = folder / "models"
    store.mkdir(exist_ok=True)
    for stale in store.glob("*.joblib"):
        stale.unlink()
    index = {}
    for item in forecasts:
        (store / f"{item.series_id}.joblib").write_bytes(item.model)
        index[item.series_id] = {
            "file": f"{item.series_id}.joblib",
            "model": item.model_name,
            "title": item.title,
            "first_forecast_month": str(item.months[0]),
            "half_widths": {str(level): item.half_widths[level].tolist() for level in LEVELS},
        }
    (store / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
