"""Forecasts of the fleet, online: the models that ``make demo`` trained, behind HTTP, with a page that draws them.

``python examples/serve_forecasts.py`` serves ``out/forecast_fleet`` at http://127.0.0.1:8000. Each series has a model
of its own; they are multiplexed, so a replica loads a model when it is first asked for and keeps the last used ones,
and requests for one series that come at the same time share one run of its model.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse
from fleet.models import Forecaster
from fleet.panel import read_panel
from pydantic import BaseModel
from serving import program

import serve

HERE = Path(__file__).parent
DATA = HERE / "data" / "us_employment.parquet"
PAGE = HERE / "fleet" / "forecasts.html"
#: months of the past that an answer shows
SHOWN = 60


@serve.deployment(max_ongoing_requests=200)
class Models:
    """Holds the fitted models of many series and forecasts with the one that a request names."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @serve.multiplexed(max_num_models_per_replica=40)
    async def model(self, series_id: str) -> Forecaster:
        """Load a series' model from the disk."""
        import joblib  # with the model's own library: only where models are

        return await asyncio.to_thread(joblib.load, self.folder / f"{series_id}.joblib")

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def batched(self, horizons: list[int]) -> list[list[float]]:
        """Forecast once for all requests of a batch, which are for the same model: the longest holds the others."""
        model = await self.model(serve.get_multiplexed_model_id())
        longest = await asyncio.to_thread(model.forecast, max(horizons))
        return [longest[:months].tolist() for months in horizons]

    @serve.method
    async def forecast(self, months: int) -> list[float]:
        """Return the next months of the series that the request names."""
        return await self.batched(months)


class Point(BaseModel):
    """A month of the past."""

    month: str
    value: float


class Forecast(BaseModel):
    """A month to come, with the bounds of its intervals by level in percent."""

    month: str
    value: float
    lower: dict[str, float]
    upper: dict[str, float]


class Answer(BaseModel):
    """What there is to know of a series."""

    series_id: str
    title: str
    model: str
    history: list[Point]
    forecast: list[Forecast]


api = FastAPI(title="Forecasts of U.S. employment", version="1")


@serve.deployment
@serve.ingress(api)
class Site:
    """The page, the list of series, and their forecasts."""

    def __init__(self, folder: str, models: serve.DeploymentHandle[Models]) -> None:
        self.models = models
        self.index: dict[str, dict[str, Any]] = json.loads((Path(folder) / "index.json").read_text(encoding="utf-8"))
        panel = read_panel(DATA)
        rows = {name: row for row, name in enumerate(panel.ids)}
        self.values = {name: panel.series(rows[name]) for name in self.index}
        self.page = PAGE.read_text(encoding="utf-8")

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show(self) -> str:
        """Return the page."""
        return self.page

    @api.get("/series")
    async def series(self) -> dict[str, str]:
        """Return the titles of the series by their ids."""
        return {name: entry["title"] for name, entry in self.index.items()}

    @api.get("/forecast/{series_id}", responses={404: {"description": "There is no such series."}})
    async def forecast(self, series_id: str, months: int = Query(12, ge=1, le=12)) -> Answer:
        """Return the last five years of a series and its next months, with intervals."""
        entry = self.index.get(series_id)
        if entry is None:
            raise HTTPException(404, f"there is no series {series_id!r}; /series lists them")
        models = serve.typed(self.models.options(multiplexed_model_id=series_id))
        values = np.array(await models.forecast.remote(months))
        first = np.datetime64(entry["first_forecast_month"], "M")
        past = self.values[series_id][-SHOWN:]
        widths = {level: np.array(width[:months]) for level, width in entry["half_widths"].items()}
        return Answer(
            series_id=series_id,
            title=entry["title"],
            model=entry["model"],
            history=[Point(month=str(first - past.size + i), value=value) for i, value in enumerate(past.tolist())],
            forecast=[
                Forecast(
                    month=str(first + i),
                    value=float(value),
                    lower={level: max(0.0, float(value - width[i])) for level, width in widths.items()},
                    upper={level: float(value + width[i]) for level, width in widths.items()},
                )
                for i, value in enumerate(values)
            ],
        )


def build(folder: Path) -> serve.Application[Site]:
    """Return the application that serves the models of a run of the fleet."""
    store = str((folder / "models").resolve())
    return Site.bind(store, Models.bind(store))


async def ask_for_all(address: str) -> None:
    """Ask for every series, several times at once, and check what comes."""
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        names = list((await client.get("/series")).json())
        answers = await asyncio.gather(*(client.get(f"/forecast/{name}") for name in names * 3))
        for answer in answers:
            for month in answer.raise_for_status().json()["forecast"]:
                bounds = [month["lower"]["95"], month["lower"]["80"], month["value"]]
                bounds += [month["upper"]["80"], month["upper"]["95"]]
                assert bounds == sorted(bounds), month
    print(f"{len(answers)} forecasts of {len(names)} series, every interval around its forecast")


def main() -> int:
    """Serve until interrupted, or answer a few requests."""
    options_of = program.parser(__doc__)
    options_of.add_argument("--models", type=Path, default=Path("out/forecast_fleet"), help="folder of a fleet's run")
    options = options_of.parse_args()
    if not (options.models / "models" / "index.json").is_file():
        print(f"error: there are no models in {options.models}; `make demo` trains them", file=sys.stderr)
        return 2
    return program.run(build(options.models), options, ask_for_all)


if __name__ == "__main__":
    sys.exit(main())
