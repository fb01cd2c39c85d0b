"""How large a batch may be and how long it waits for more, learnt under a target for the latency. A pure machine.

Theory. The time of a batch is taken for a line, ``T(n) = a + b * n``: a fixed part that batching shares out, and a part
for each item. The line is fitted to the batches seen, the older ones fading (recursive least squares with forgetting),
and a margin follows the 95th percentile of measured over predicted time (stochastic approximation, Robbins and Monro).

* **Size.** Who comes just after a batch has left waits for that batch and then for his own. So a batch may take half of
  the target: the largest ``n`` with ``margin * T(n) <= target / 2``. What has never been seen is approached by
  doubling, and once in a while a batch may be one larger, or else a function that became faster would never be found
  out. A target that even single items miss gives batches of one.
* **Window.** A place is free and ``n`` items are there: leave now, or wait for one more? One more in this batch saves
  the fixed part of a batch of its own; waiting costs each of the ``n`` items the time until it comes. So waiting pays
  while ``n * gap < a``, the gap between arrivals being measured too. With few requests that is never: each leaves at
  once. Nobody is kept waiting beyond what the target leaves him.

BentoML's dispatcher weighs the same two sides; Triton's and Ray's take both numbers from the user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: weight that a batch keeps when the next one has been seen: about the last 30 count
FADING = 0.97
#: share of batches that the margin covers
QUANTILE = 0.95
#: step by which the margin moves
STEP = 0.04
#: batches at the limit after which one may be larger
PROBE_EVERY = 40
#: weight of the newest gap between arrivals
GAP_WEIGHT = 0.1


@dataclass
class _Line:
    """Weighted least squares of time over size."""

    weight: float = 0.0
    size: float = 0.0
    seconds: float = 0.0
    size_variance: float = 0.0
    covariance: float = 0.0
    #: seconds for each item
    slope: float = 0.0

    def add(self, size: float, seconds: float) -> None:
        """Take in one batch."""
        old = self.weight * FADING
        self.weight = old + 1
        share = 1 / self.weight
        size_step, seconds_step = size - self.size, seconds - self.seconds
        self.size += share * size_step
        self.seconds += share * seconds_step
        keep = old / self.weight
        self.size_variance = keep * (self.size_variance + share * size_step * size_step)
        self.covariance = keep * (self.covariance + share * size_step * seconds_step)
        # batches of one size say nothing of the slope: there, what was known before counts
        ridge = 0.01 * self.size * self.size
        slope = (self.covariance + ridge * self.slope) / (self.size_variance + ridge)
        self.slope = min(max(slope, 0.0), self.seconds / self.size)

    def at(self, size: float) -> float:
        return self.seconds + self.slope * (size - self.size)

    @property
    def fixed(self) -> float:
        return max(0.0, self.at(0))

    def largest_within(self, seconds: float) -> float:
        if self.slope <= 0:
            return math.inf if self.seconds <= seconds else 0.0
        return self.size + (seconds - self.seconds) / self.slope


class Pace:
    """See the module's docstring. Times are seconds on any clock that only goes forward.

    Args:
        target_s: seconds from an item's arrival to its result that 95 % should not exceed.
        max_size: no batch is larger.
        max_wait_s: no item waits longer for others.
    """

    def __init__(self, target_s: float, max_size: float, max_wait_s: float = math.inf) -> None:
        self.target_s = target_s
        self.max_size = max_size
        self.max_wait_s = max_wait_s
        self._line = _Line()
        self._margin = 1.2
        self._largest_seen = 0.0
        self._at_limit = 0
        self._gap = math.inf
        self._last_arrival = -math.inf

    @property
    def known(self) -> bool:
        """Whether any batch was seen."""
        return self._line.weight > 0

    def predict(self, size: float) -> float:
        """Return the seconds that 95 % of batches of this size do not exceed, as far as is known."""
        return self._margin * max(0.0, self._line.at(size)) if self.known else 0.0

    @property
    def limit(self) -> float:
        """The size that the next batch may have."""
        return min(self._wanted(), self.max_size)

    def _wanted(self) -> float:
        if not self.known:
            return 1.0
        largest = self._line.largest_within(self.target_s / 2 / self._margin)
        fitting = max(1, math.floor(min(largest, self.max_size)))
        if self._at_limit >= PROBE_EVERY:
            fitting = max(fitting + 1, math.floor(fitting * 1.1))
        return min(fitting, max(1.0, 2 * self._largest_seen))

    def arrived(self, now: float) -> None:
        """An item came."""
        gap = now - self._last_arrival
        self._last_arrival = now
        if math.isinf(gap):
            return
        self._gap = gap if math.isinf(self._gap) else self._gap + GAP_WEIGHT * (gap - self._gap)

    def due(self, now: float, oldest: float, waiting: int) -> float:
        """Return when a batch that is not full has to leave; `now` (or earlier) for at once.

        Args:
            now: the time.
            oldest: when its oldest item came.
            waiting: how many items it has.
        """
        if not self.known:
            return now
        gap = max(self._gap, (now - self._last_arrival) if waiting else 0.0)
        if waiting * gap >= self._line.fixed:
            return now
        latest = oldest + min(self.max_wait_s, self.target_s - self.predict(waiting + 1))
        patience = self._last_arrival + self._line.fixed / waiting  # if nobody comes until then, it was in vain
        return max(now, min(latest, patience))

    def finished(self, size: float, seconds: float) -> None:
        """A batch was worked on.

        Args:
            size: its size.
            seconds: how long that took.
        """
        predicted = self._line.at(size) if self.known else seconds
        if predicted > 0:
            beyond = seconds > self._margin * predicted
            self._margin += STEP * (QUANTILE if beyond else QUANTILE - 1)
            self._margin = min(max(self._margin, 1.0), 4.0)
        if self._at_limit >= PROBE_EVERY:
            self._at_limit = 0
        elif size >= self.limit:
            self._at_limit += 1
        self._line.add(size, seconds)
        self._largest_seen = max(size, self._largest_seen)
