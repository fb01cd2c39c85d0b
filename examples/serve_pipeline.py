"""A pipeline of deployments: one cleans a series, two models forecast it at the same time, one puts both together.

``python examples/serve_pipeline.py`` serves it at http://127.0.0.1:8000: ``POST /forecast`` with
``{"values": [3, null, 5, ...], "months": 6}``. Each deployment has replicas of its own; what one returns goes straight
to the next.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import httpx
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from serving import program

import serve

SEASON = 12
Series = NDArray[np.float64]
#: large enough for people and money, small enough for sums of squares
Value = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]


class History(BaseModel):
    """A monthly series, oldest first, and how far to look ahead. Unknown months are null."""

    values: list[Value | None] = Field(min_length=2 * SEASON, max_length=1_200)
    months: int = Field(12, ge=1, le=120)


class Outlook(BaseModel):
    """The next months: both models' and their mean."""

    trend: list[float]
    seasonal: list[float]
    combined: list[float]


@serve.deployment
class Clean:
    """Fills unknown months."""

    @serve.method
    def fill(self, values: list[float | None]) -> Series:
        """Return the series with straight lines through its gaps."""
        series = np.array([np.nan if value is None else value for value in values])
        known = np.flatnonzero(~np.isnan(series))
        if not known.size:
            return np.zeros(series.size)
        return np.interp(np.arange(series.size), known, series[known])


@serve.deployment
class Trend:
    """Continues the straight line through the last years."""

    def __init__(self, years: int) -> None:
        self.months = years * SEASON

    @serve.method
    def forecast(self, series: Series, months: int) -> Series:
        """Return the next months."""
        last = series[-self.months :]
        slope, level = np.polyfit(np.arange(last.size), last, 1)
        return level + slope * np.arange(last.size, last.size + months)


@serve.deployment
class Seasonal:
    """Repeats the last year, shifted by the change from the year before."""

    @serve.method
    def forecast(self, series: Series, months: int) -> Series:
        """Return the next months."""
        year, before = series[-SEASON:], series[-2 * SEASON : -SEASON]
        ahead = np.arange(months)
        return year[ahead % SEASON] + (year.mean() - before.mean()) * (ahead // SEASON + 1)


api = FastAPI(title="Pipeline", version="1")


@serve.deployment
@serve.ingress(api)
class Combine:
    """Takes the requests, and puts the models' answers together."""

    def __init__(
        self,
        clean: serve.DeploymentHandle[Clean],
        trend: serve.DeploymentHandle[Trend],
        seasonal: serve.DeploymentHandle[Seasonal],
    ) -> None:
        self.clean, self.trend, self.seasonal = serve.typed(clean), serve.typed(trend), serve.typed(seasonal)

    @api.post("/forecast")
    async def forecast(self, history: History) -> Outlook:
        """Forecast a series."""
        series = self.clean.fill.remote(history.values)  # not waited for: its value goes to both models
        trend, seasonal = await asyncio.gather(
            self.trend.forecast.remote(series, history.months), self.seasonal.forecast.remote(series, history.months)
        )
        combined = (trend + seasonal) / 2
        return Outlook(trend=trend.tolist(), seasonal=seasonal.tolist(), combined=combined.tolist())


def build(years: int = 3) -> serve.Application[Combine]:
    """Return the pipeline."""
    return Combine.bind(Clean.bind(), Trend.bind(years), Seasonal.bind())


async def ask(address: str) -> None:
    """Ask for forecasts of a series whose future is known, some of its months missing."""
    months = np.arange(72)
    series = 100 + 0.5 * months + 10 * np.sin(2 * np.pi * months / SEASON)
    values: list[float | None] = series[:60].tolist()
    values[7] = values[8] = None
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post("/forecast", json={"values": values, "months": 12}) for _ in range(20))
        )
        refused = await client.post("/forecast", json={"values": [1, 2]})
    outlook = answers[0].raise_for_status().json()
    errors = {name: float(np.abs(np.array(outlook[name]) - series[60:]).mean()) for name in outlook}
    print("mean error: " + ", ".join(f"{name} {error:.2f}" for name, error in errors.items()))
    assert errors["seasonal"] < errors["combined"] < errors["trend"] < 10
    assert all(answer.json() == outlook for answer in answers)
    assert refused.status_code == 422


def main() -> int:
    """Serve until interrupted, or answer a few requests."""
    options = program.parser(__doc__).parse_args()
    return program.run(build(), options, ask)


if __name__ == "__main__":
    sys.exit(main())
