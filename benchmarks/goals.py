"""What Skate promises, row by row, so that the report can say which promises hold."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.model import Row


@dataclass(frozen=True)
class Goal:
    """A promise about a row: a ratio to another system (how many times better, at least), or a bound of the value."""

    kind: Literal["vs ray", "vs floor", "at most", "at least"]
    bound: float

    def __str__(self) -> str:
        if self.kind.startswith("vs"):
            return f">= {self.bound:g}x {self.kind[3:]}"
        return f"{'<=' if self.kind == 'at most' else '>='} {self.bound:g}"

    def met(self, row: Row, values: Mapping[str, float]) -> bool | None:
        """Say whether Skate's value keeps the promise; None when there is nothing to compare."""
        ours = values.get("skate")
        if ours is None:
            return None
        if self.kind == "at most":
            return ours <= self.bound
        if self.kind == "at least":
            return ours >= self.bound
        theirs = ratio(row, values, self.kind[3:])
        return None if theirs is None else theirs >= self.bound


def ratio(row: Row, values: Mapping[str, float], other: str, system: str = "skate") -> float | None:
    """Return how many times better ``system`` is than ``other``; None when either is missing or zero."""
    ours, theirs = values.get(system), values.get(other)
    if not ours or not theirs:
        return None
    return ours / theirs if row.better == "higher" else theirs / ours


def _vs_ray(bound: float) -> Goal:
    return Goal("vs ray", bound)


#: Promises by row name (patterns allowed); a row has those of every pattern it matches.
GOALS: tuple[tuple[str, tuple[Goal, ...]], ...] = (
    ("single client tasks sync", (_vs_ray(15), Goal("vs floor", 0.5))),
    ("single client tasks async", (_vs_ray(20),)),
    ("single client tasks and get batch", (_vs_ray(20),)),
    ("multi client tasks async", (_vs_ray(15),)),
    ("1:1 actor calls sync", (_vs_ray(8),)),
    ("1:1 actor calls async", (_vs_ray(15),)),
    ("1:1 actor calls concurrent", (_vs_ray(1),)),
    ("1:n actor calls async", (_vs_ray(1),)),
    ("n:n actor calls async", (_vs_ray(12),)),
    ("n:n actor calls with arg async", (_vs_ray(12),)),
    ("1:1 async-actor calls sync", (_vs_ray(8),)),
    ("1:1 async-actor calls async", (_vs_ray(15),)),
    ("1:1 async-actor calls with args async", (_vs_ray(1),)),
    ("?:n async-actor calls async", (_vs_ray(1),)),
    ("placement group create/removal", (_vs_ray(1),)),
    ("single client put calls", (_vs_ray(100),)),
    ("single client get calls", (_vs_ray(50),)),
    ("multi client put calls", (_vs_ray(1),)),
    ("single client put gigabytes", (_vs_ray(1), Goal("vs floor", 0.8))),
    ("multi client put gigabytes", (_vs_ray(1),)),
    ("put 1 MB", (_vs_ray(1),)),
    ("put 100 MB", (_vs_ray(1), Goal("vs floor", 0.8))),
    ("put 1 GB", (_vs_ray(1), Goal("vs floor", 0.8))),
    ("single client get object containing 10k refs", (_vs_ray(5),)),
    ("single client wait 1k refs", (_vs_ray(15),)),
    ("chain of 1,000 tasks", (_vs_ray(8),)),
    ("actor creation", (_vs_ray(20), Goal("at least", 1000 / 30))),
    ("actor memory (PSS)", (Goal("at most", 15),)),
    ("tasks of 1 ms", (Goal("at least", 0.85),)),
    ("1,000 tiny tasks beside one of 2 s", (Goal("at most", 0.5),)),
    ("1,000,000 queued tasks: driver memory", (Goal("at most", 1000),)),
    ("four tasks of 1 s, cold", (Goal("at most", 1.3),)),
    ("four tasks of 1 s, warm", (Goal("at most", 1.05),)),
    ("the article's 100,000 tiny tasks", (Goal("at most", 10),)),
    ("import", (Goal("at most", 0.15),)),
    ("init", (_vs_ray(20), Goal("at most", 0.25))),
    ("idle memory (PSS)", (_vs_ray(8),)),
    ("TCP listeners", (Goal("at most", 0),)),
    ("processes left 1 s after shutdown", (Goal("at most", 0),)),
    ("shutdown", (_vs_ray(10),)),
)


def goals_of(row: Row) -> Iterable[Goal]:
    """Return the promises about a row."""
    return [goal for pattern, goals in GOALS if fnmatch.fnmatchcase(row.name, pattern) for goal in goals]
