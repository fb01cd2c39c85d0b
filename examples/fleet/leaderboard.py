"""The leaderboard: what every fit scored, and who leads. ``forecast_fleet.py`` runs it as an actor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Fit(NamedTuple):
    """One fit of the back-test: a model trained on a series up to an origin.

    ``origin`` counts from 0, the oldest; the last origin is the hold-out, on which nothing is chosen.
    """

    series: int
    model: str
    origin: int


@dataclass(frozen=True)
class Score:
    """What one fit scored over its horizon; ``seconds`` is the time of fit and forecast in the worker."""

    fit: Fit
    mase: float
    smape: float
    seconds: float


@dataclass(frozen=True)
class Standing:
    """A model's row: means over the fits reported so far (``nan`` where there is none)."""

    model: str
    fits: int
    seconds_per_fit: float
    mase_selection: float
    mase_holdout: float
    smape_holdout: float


class Leaderboard:
    """Keeps scores by fit, so that a fit reported twice (a task that was retried) counts once."""

    def __init__(self, holdout_origin: int) -> None:
        self._holdout = holdout_origin
        self._scores: dict[Fit, Score] = {}

    def report(self, scores: Iterable[Score]) -> int:
        """Add scores; return how many fits are known now."""
        self._scores.update((score.fit, score) for score in scores)
        return len(self._scores)

    def standings(self) -> list[Standing]:
        """Return one row per model, the lowest selection MASE first."""
        by_model: dict[str, list[Score]] = {}
        for score in self._scores.values():
            by_model.setdefault(score.fit.model, []).append(score)
        rows = [self._standing(model, scores) for model, scores in by_model.items()]
        return sorted(rows, key=lambda row: (np.isnan(row.mase_selection), row.mase_selection))

    def winners(self) -> dict[int, str]:
        """Return each series' best model by mean MASE over the selection origins.

        Only models that managed every selection origin and the hold-out are in the running: a model that fails now and
        then would fail in production too. A series without any such model has no entry.
        """
        selection: dict[tuple[int, str], list[float]] = {}
        finished: set[tuple[int, str]] = set()
        for fit, score in self._scores.items():
            if fit.origin == self._holdout:
                finished.add((fit.series, fit.model))
            else:
                selection.setdefault((fit.series, fit.model), []).append(score.mase)
        best: dict[int, tuple[float, str]] = {}
        for (series, model), values in selection.items():
            if len(values) == self._holdout and (series, model) in finished:
                best[series] = min(best.get(series, (np.inf, "")), (float(np.mean(values)), model))
        return {series: model for series, (_, model) in sorted(best.items())}

    def _standing(self, model: str, scores: list[Score]) -> Standing:
        holdout = [score for score in scores if score.fit.origin == self._holdout]
        return Standing(
            model=model,
            fits=len(scores),
            seconds_per_fit=_mean([score.seconds for score in scores]),
            mase_selection=_mean([score.mase for score in scores if score.fit.origin != self._holdout]),
            mase_holdout=_mean([score.mase for score in holdout]),
            smape_holdout=_mean([score.smape for score in holdout]),
        )


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
