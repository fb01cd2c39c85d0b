"""The last minutes of each deployment and application: rates, latencies, errors. Pure: time is the caller's.

A point sums what all processes counted between two looks. What a process had counted before it was first looked at is
no event of that moment, so it is left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: looks that are remembered; with one a second, five minutes
POINTS = 300


@dataclass
class Counted:
    """What a process had counted in all for one thing (a deployment, an application) when it was looked at."""

    requests: float = 0.0
    errors: float = 0.0
    #: of latencies, by bucket
    counts: tuple[int, ...] = ()

    def since(self, earlier: Counted) -> Counted:
        """Return what came after an earlier look."""
        before = earlier.counts or (0,) * len(self.counts)
        return Counted(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            tuple(a - b for a, b in zip(self.counts, before, strict=True)),
        )

    def plus(self, other: Counted) -> Counted:
        """Return the sum of both."""
        counts = self.counts or (0,) * len(other.counts)
        added = other.counts or (0,) * len(counts)
        return Counted(
            self.requests + other.requests,
            self.errors + other.errors,
            tuple(a + b for a, b in zip(counts, added, strict=True)),
        )


@dataclass(frozen=True)
class Point:
    """One thing between two looks."""

    #: seconds since the epoch
    time: float
    #: a second
    requests: float
    #: a second
    errors: float
    #: milliseconds; None if nothing was answered
    p50: float | None
    p99: float | None
    #: requests being worked on, and in line, at the end
    ongoing: int
    queued: int


@dataclass
class History:
    """The last `POINTS` points of everything.

    Args:
        boundaries: of the latencies' buckets, milliseconds.
    """

    boundaries: Sequence[float]
    points: dict[str, deque[Point]] = field(default_factory=dict)
    #: what each process had counted when it was last looked at, by thing
    _last: dict[str, dict[str, Counted]] = field(default_factory=dict)
    _came: dict[str, Counted] = field(default_factory=dict)

    def saw(self, process: str, counted: dict[str, Counted]) -> None:
        """Note what a process has counted in all, by thing."""
        last = self._last.get(process)
        self._last[process] = counted
        if last is None:
            return
        for thing, now in counted.items():
            came = now.since(last.get(thing, Counted()))
            self._came[thing] = self._came.get(thing, Counted()).plus(came)

    def forget(self, process: str) -> None:
        """Note that a process is gone."""
        self._last.pop(process, None)

    def tick(self, time: float, seconds: float, now: dict[str, tuple[int, int]]) -> None:
        """Make a point of all that came since the last call.

        Args:
            time: seconds since the epoch.
            seconds: since the last call.
            now: for each thing there is, how many requests it works on and how many are in line.
        """
        for gone in self.points.keys() - now.keys():
            del self.points[gone]
        for thing, (ongoing, queued) in now.items():
            came = self._came.get(thing, Counted())
            point = Point(
                time,
                max(0.0, came.requests) / seconds,
                max(0.0, came.errors) / seconds,
                quantile(self.boundaries, came.counts, 0.5),
                quantile(self.boundaries, came.counts, 0.99),
                ongoing,
                queued,
            )
            self.points.setdefault(thing, deque(maxlen=POINTS)).append(point)
        self._came.clear()


def quantile(boundaries: Sequence[float], counts: Iterable[int], share: float) -> float | None:
    """Return about the value that a share of all observations lie below; None if there are none.

    Within a bucket observations are taken to be spread evenly, as Prometheus does; above the last boundary, that is it.
    """
    below: list[int] = []
    for count in counts:
        below.append(count + (below[-1] if below else 0))
    if not below or not below[-1]:
        return None
    rank = share * below[-1]
    index = bisect_left(below, rank)
    if index >= len(boundaries):
        return float(boundaries[-1])
    under = below[index - 1] if index else 0
    low = boundaries[index - 1] if index else 0.0
    part = (rank - under) / (below[index] - under)
    return float(low + part * (boundaries[index] - low))
