"""Learning curves of a sweep in bounded memory: each thinned as it grows, and of ended trials not all kept. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Collection

from tune.html_report.sweep import Curve

#: points of a curve at most; a full one loses every second point and takes only every second from then on
POINTS = 128
#: curves of ended trials: the best so many, and the first so many for comparison
BEST_CURVES, OTHER_CURVES = 50, 150


class CurveStore:
    """Collects learning curves.

    Args:
        sign: 1 if smaller values are better, else -1.
    """

    def __init__(self, sign: float = 1.0) -> None:
        self._sign = sign
        self._curves: dict[str, _Thinned] = {}
        self._others: set[str] = set()
        #: last values of ended trials among the best, by id
        self._best: dict[str, float] = {}

    def add(self, trial_id: str, iteration: float, value: float) -> None:
        """Take one point."""
        curve = self._curves.get(trial_id)
        if curve is None:
            curve = self._curves[trial_id] = _Thinned()
        curve.add(iteration, value)

    def end(self, trial_id: str) -> None:
        """Learn that a trial ended: its curve is kept if it is among the best, or one of the first."""
        curve = self._curves.get(trial_id)
        if curve is None:
            return
        self._best[trial_id] = self._sign * curve.last[1]
        if len(self._best) > BEST_CURVES:
            worst = max(self._best, key=self._best.__getitem__)
            del self._best[worst]
            if len(self._others) < OTHER_CURVES:
                self._others.add(worst)
            elif worst not in self._others:
                del self._curves[worst]

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._curves

    def curves(self, of: Collection[str] | None = None) -> dict[str, Curve]:
        """Return all curves there are, or those of these trials."""
        return {name: curve.points() for name, curve in self._curves.items() if of is None or name in of}


class _Thinned:
    """A curve of at most `POINTS` points, evenly thinned, that always ends with the newest."""

    def __init__(self) -> None:
        self._x = array("d")
        self._y = array("d")
        self._stride = 1
        self._skipped = 0
        self.last = (0.0, 0.0)

    def add(self, x: float, y: float) -> None:
        self.last = (x, y)
        self._skipped += 1
        if self._x and self._skipped < self._stride:
            return
        self._skipped = 0
        self._x.append(x)
        self._y.append(y)
        if len(self._x) >= POINTS:
            self._x, self._y = self._x[::2], self._y[::2]
            self._skipped = self._stride  # the newest point is not among those kept: their number was even
            self._stride *= 2

    def points(self) -> Curve:
        x, y = self._x.tolist(), self._y.tolist()
        if x and x[-1] != self.last[0]:
            x.append(self.last[0])
            y.append(self.last[1])
        return x, y
