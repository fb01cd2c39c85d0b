"""How many replicas a deployment should have: the load it has, what is to be one replica's share, and patience.

The load of a deployment is what its replicas work on and what waits in line for them, averaged over a while. The number
that brings each replica to its share is *desired*. It is acted upon only when it lasts: the number goes up to the
lowest that was desired at any time within `upscale_delay_s`, and down to the highest within `downscale_delay_s`. A
spike shorter than the first starts nothing, a lull shorter than the second stops nothing, and a load that swings
between two numbers settles at the higher one (the stabilisation windows of Kubernetes' autoscaler; Ray Serve counts
consecutive decisions instead, which one outlier among them resets).

From zero nobody waits: the first request brings a replica at once. The last replica goes when there has been no request
at all for `downscale_to_zero_delay_s`, whatever the average says.

Pure: measurements and time come from the caller. The policy of a user takes the place of the desired number alone; the
bounds, factors and delays hold for it too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.config import AutoscalingConfig

#: of a replica, by which a desired number may exceed a whole one without asking for the next: rounding errors
_SLACK = 1e-6


@dataclass(frozen=True)
class Load:
    """One measurement of a deployment."""

    #: requests that its replicas work on
    ongoing: float = 0.0
    #: requests that wait in line for a replica
    queued: float = 0.0
    #: requests its replicas have been given since they started; tells of those that came and went between measurements
    total: float = 0.0

    @property
    def requests(self) -> float:
        """All that want an answer now."""
        return self.ongoing + self.queued


@dataclass
class Autoscaler:
    """The machine of one deployment's number of replicas.

    Args:
        config: the options.
        wanted: the number to start from.
    """

    config: AutoscalingConfig
    wanted: int
    #: replaces what the load asks for: given the averaged load, returns the desired number
    desire: Callable[[float], float] | None = None
    #: time and requests of the measurements within the look-back period, and the last one before it
    _samples: deque[tuple[float, float]] = field(default_factory=deque)
    #: time and number of what was desired within the longer delay, and the last one before it
    _desired: deque[tuple[float, int]] = field(default_factory=deque)
    _total: float = 0.0
    #: when the last request was seen
    _busy: float | None = None

    def change(self, config: AutoscalingConfig) -> None:
        """Go on with other options; what was measured stays."""
        if config != self.config:
            self.config = config
            self.wanted = self._bounded(self.wanted)
            self._desired.clear()

    def measured(self, load: Load, now: float) -> None:
        """Take a measurement in."""
        if self._busy is None or load.requests > 0 or load.total > self._total:
            self._busy = now
        self._total = load.total
        self._samples.append((now, load.requests))
        _keep_since(self._samples, now - self.config.look_back_period_s)

    def average(self, now: float) -> float:
        """Return the requests of the look-back period as one number, by the ``aggregation_function``."""
        if not self._samples:
            return 0.0
        begin = now - self.config.look_back_period_s
        values = [value for _, value in self._samples]
        if self.config.aggregation_function != "mean":
            within = [value for time, value in self._samples if time >= begin] or values[-1:]
            return (max if self.config.aggregation_function == "max" else min)(within)
        times = [max(time, begin) for time, _ in self._samples]
        spans = [after - before for before, after in zip(times, [*times[1:], now], strict=True)]
        whole = sum(spans)
        return sum(map(float.__mul__, map(float, values), spans)) / whole if whole > 0 else float(values[-1])

    def decide(self, now: float) -> int:
        """Return the number of replicas that there should be from now on; it is `wanted` until the next decision."""
        if self.wanted == 0 and self._samples and self._samples[-1][1] > 0 and self.config.max_replicas > 0:
            self.wanted = max(1, self.config.min_replicas)
            self._desired.clear()
            return self.wanted
        desired = self._rounded(self._wish(now))
        self._desired.append((now, desired))
        _keep_since(self._desired, now - max(self.config.upscale_delay_s, self.config.downscale_delay_s))
        up = self._lasting(now, self.config.upscale_delay_s, min)
        down = self._lasting(now, self.config.downscale_delay_s, max)
        if up is not None and up > self.wanted:
            self.wanted = up
        elif down is not None and down < self.wanted:
            self.wanted = max(1, down, self.config.min_replicas)
        if self.wanted == 1 and self._may_rest(desired, now):
            self.wanted = 0
        return self.wanted

    def _wish(self, now: float) -> float:
        average = self.average(now)
        if self.desire is not None:
            return self.desire(average)
        return average / self.config.target_ongoing_requests

    def _rounded(self, wish: float) -> int:
        """Make a whole number of replicas of a wish: with the factors, and within the bounds."""
        whole = math.ceil(max(0.0, wish) - _SLACK)
        if self.wanted in {0, whole}:
            return self._bounded(whole)
        factor = self.config.upscaling_factor if whole > self.wanted else self.config.downscaling_factor
        stepped = math.ceil(self.wanted + factor * (max(0.0, wish) - self.wanted) - _SLACK)
        if stepped == self.wanted:  # a small factor may not hold a change back for ever
            stepped += 1 if whole > self.wanted else -1
        return self._bounded(stepped)

    def _bounded(self, number: int) -> int:
        return min(max(number, self.config.min_replicas), self.config.max_replicas)

    def _lasting(self, now: float, delay: float, pick: Callable[[list[int]], int]) -> int | None:
        """Return the lowest (or highest) number desired within a delay; None while less time than that is known."""
        begin = now - delay
        earlier = [number for time, number in self._desired if time <= begin + _SLACK]
        if not earlier:
            return None
        return pick([earlier[-1], *(number for time, number in self._desired if time > begin + _SLACK)])

    def _may_rest(self, desired: int, now: float) -> bool:
        delay = self.config.downscale_to_zero_delay_s
        delay = self.config.downscale_delay_s if delay is None else delay
        idle = 0.0 if self._busy is None else now - self._busy
        if self.config.min_replicas > 0 or idle <= 0 or idle < delay - _SLACK:
            return False
        return self.desire is None or desired == 0


def _keep_since(series: deque[tuple[float, int]] | deque[tuple[float, float]], begin: float) -> None:
    """Drop what is older, but for the last of it: it holds until the next."""
    while len(series) > 1 and series[1][0] <= begin:
        series.popleft()
