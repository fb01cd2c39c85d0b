"""One fit of the back-test, the plan of all fits, and the same work in one process for comparison."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.leaderboard import Fit, Score
from fleet.models import MODELS, fit_and_forecast
from fleet.panel import Panel
from fleet.scoring import Bands, conformal_bands, mase, seasonal_scale, smape

#: Series on which the one-process time is measured unless all are asked for, and the seed that draws them.
BASELINE_SAMPLE, SAMPLE_SEED = 10, 0


@dataclass(frozen=True)
class Plan:
    """What the back-test covers: ``origins`` rolling origins, ``horizon`` months apart, the last of them held out."""

    models: tuple[str, ...]
    origins: int
    horizon: int

    @property
    def holdout(self) -> int:
        """The origin on which nothing is chosen."""
        return self.origins - 1

    def fits(self, panel: Panel) -> list[Fit]:
        """Return every fit, a series' fits next to each other."""
        return [
            Fit(series, model, origin)
            for series in range(len(panel))
            for origin in range(self.origins)
            for model in self.models
        ]


@dataclass(frozen=True)
class Outcome:
    """A fit's score with its forecast, the scale of its errors, and how many warnings the model gave."""

    score: Score
    scale: float
    forecast: NDArray[np.float64]
    actual: NDArray[np.float64]
    warnings: int


@dataclass(frozen=True)
class Backtest:
    """All outcomes of the back-test by fit, what was said by the fits that failed, and the times of the run."""

    outcomes: dict[Fit, Outcome]
    failures: dict[Fit, str]
    seconds: float
    first_result_after: float


def run_fit(panel: Panel, fit: Fit, plan: Plan) -> Outcome:
    """Train one model on a series up to its origin and score the months that follow.

    Raises `ValueError` when the series is too short for the origin, and whatever the model raises.
    """
    values = panel.series(fit.series)
    end = values.size - plan.horizon * (plan.origins - fit.origin)
    history, actual = values[: max(end, 0)], values[end : end + plan.horizon]
    scale = seasonal_scale(history)
    model = MODELS[fit.model]()  # before the clock starts: a worker's first model imports its library
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forecast = fit_and_forecast(model, history, plan.horizon)
    seconds = time.perf_counter() - started
    score = Score(fit, mase(actual, forecast, scale), smape(actual, forecast), seconds)
    # A copy of the view, lest the small result drag the whole panel along.
    return Outcome(score, scale, forecast, actual.copy(), len(caught))


def learn_bands(
    panel: Panel, winners: Mapping[int, str], outcomes: Mapping[Fit, Outcome], origins: Sequence[int]
) -> Bands:
    """Learn interval widths from the winners' scaled errors at the given origins."""
    errors = {}
    for series, model in winners.items():
        picked = [outcomes[Fit(series, model, origin)] for origin in origins]
        errors[panel.ids[series]] = [np.abs(item.actual - item.forecast) / item.scale for item in picked]
    return conformal_bands(errors)


@dataclass(frozen=True)
class OneProcess:
    """The time of the whole back-test in one process and on how many fits it was measured (all: nothing estimated)."""

    seconds: float
    measured: int
    total: int


def time_one_process(panel: Panel, plan: Plan, *, full: bool) -> OneProcess:
    """Run the fits of some series (or all) in this process with one thread, and scale up to all fits.

    Whole series are drawn, so that every model and origin has its share. Imports are paid before the clock starts,
    while the parallel run's clock includes them.
    """
    from threadpoolctl import threadpool_limits  # comes with scikit-learn and is needed here only

    chosen = np.arange(len(panel))
    if not full and len(panel) > BASELINE_SAMPLE:
        chosen = np.random.default_rng(SAMPLE_SEED).choice(len(panel), BASELINE_SAMPLE, replace=False)
    fits = plan.fits(panel)
    sample = [fit for fit in fits if fit.series in chosen]
    with threadpool_limits(limits=1):
        for fit in sample[: len(plan.models)]:
            _run_for_time(panel, fit, plan)
        started = time.perf_counter()
        for fit in sample:
            _run_for_time(panel, fit, plan)
        seconds = time.perf_counter() - started
    return OneProcess(seconds * len(fits) / len(sample), len(sample), len(fits))


def _run_for_time(panel: Panel, fit: Fit, plan: Plan) -> None:
    try:
        run_fit(panel, fit, plan)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return  # reported already, when it failed as a task
