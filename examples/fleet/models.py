"""The forecasting models: four of statsforecast's and two of scikit-learn's behind one small interface.

The libraries are imported when a model is built, not with this module: statsforecast alone takes more than a second to
import, and the driver, which builds no model, should not pay it. Workers pay it once each, with their first fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SEASON = 12
#: What a model sees of a history at most: 20 years. Older months say little about next year and cost time.
HISTORY_MONTHS = 240

Series = NDArray[np.float64]


class Forecaster(Protocol):
    """What the fleet asks of a model. Instances are pickled into the model store once fitted."""

    def fit(self, history: Series) -> None:
        """Learn from ``history`` (oldest first, monthly)."""

    def forecast(self, horizon: int) -> Series:
        """Return the next ``horizon`` months after the history."""


@dataclass
class StatsForecastModel:
    """A univariate model of ``statsforecast.models``, named by its class."""

    class_name: str
    model: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import statsforecast.models  # heavy, see the module's docstring

        self.model = getattr(statsforecast.models, self.class_name)(season_length=SEASON)

    def fit(self, history: Series) -> None:
        self.model.fit(history)

    def forecast(self, horizon: int) -> Series:
        return np.asarray(self.model.predict(horizon)["mean"], dtype=np.float64)


@dataclass
class LagRegression:
    """A scikit-learn regressor on the lags of the yearly growth rate, rolled forward month by month.

    The target is ``log y[t] - log y[t - 12]``, which takes out season and level; the features are its last ``lags``
    values. Raises `ValueError` for histories that are not positive or too short to give ``2 * lags`` rows.
    """

    regressor: Any
    lags: int = SEASON + 1
    log_tail: Series = field(default_factory=lambda: np.empty(0), repr=False)
    growth_tail: Series = field(default_factory=lambda: np.empty(0), repr=False)

    def fit(self, history: Series) -> None:
        if not (history > 0).all():
            raise ValueError("a growth rate needs positive observations")
        log = np.log(history)
        growth = log[SEASON:] - log[:-SEASON]
        rows = growth.size - self.lags
        if rows < 2 * self.lags:
            raise ValueError(f"{history.size} months are too few: {self.lags} lags need {SEASON + 3 * self.lags}")
        windows = np.lib.stride_tricks.sliding_window_view(growth, self.lags)[:-1]
        self.regressor.fit(windows, growth[self.lags :])
        self.log_tail, self.growth_tail = log[-SEASON:], growth[-self.lags :]

    def forecast(self, horizon: int) -> Series:
        growth = list(self.growth_tail)
        log = list(self.log_tail)
        for _ in range(horizon):
            step = float(self.regressor.predict(np.array([growth[-self.lags :]]))[0])
            growth.append(step)
            log.append(log[-SEASON] + step)
        return np.exp(log[SEASON:])


def _ridge() -> Any:
    from sklearn.linear_model import Ridge  # heavy, see the module's docstring
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=1.0))


def _gradient_boosting() -> Any:
    from sklearn.ensemble import GradientBoostingRegressor  # heavy, see the module's docstring

    return GradientBoostingRegressor(n_estimators=60, max_depth=2, subsample=0.7, random_state=0)


#: Name -> how to build it, the baseline first. AutoETS searches all of its 15 candidate models and is by far the
#: dearest (about 0.12 s a fit; Theta, CES and Ridge take 3 to 5 ms).
MODELS: dict[str, Callable[[], Forecaster]] = {
    "SeasonalNaive": lambda: StatsForecastModel("SeasonalNaive"),
    "DynamicOptimizedTheta": lambda: StatsForecastModel("DynamicOptimizedTheta"),
    "AutoCES": lambda: StatsForecastModel("AutoCES"),
    "AutoETS": lambda: StatsForecastModel("AutoETS"),
    "Ridge": lambda: LagRegression(_ridge()),
    "GradientBoosting": lambda: LagRegression(_gradient_boosting()),
}
BASELINE = "SeasonalNaive"


class ForecastError(ValueError):
    """A model was fitted but its forecast is not finite."""


def fit_and_forecast(model: Forecaster, history: Series, horizon: int) -> Series:
    """Fit ``model`` to the last `HISTORY_MONTHS` of ``history`` and return its forecast.

    Raises whatever the model raises, and `ForecastError` when the forecast is not finite.
    """
    # A copy: the history may be a read-only view of shared memory, which compiled models refuse.
    model.fit(np.array(history[-HISTORY_MONTHS:]))
    forecast = model.forecast(horizon)
    if not np.isfinite(forecast).all():
        raise ForecastError(f"the forecast of {model} is not finite")
    return forecast
