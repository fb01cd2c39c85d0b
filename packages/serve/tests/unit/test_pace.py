"""The machine of adaptive batching, in simulated time: arrivals, a server with noise, and what each item waits."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.batching.pace import Pace


@dataclass
class Outcome:
    """What a simulation saw."""

    latencies: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies[len(self.latencies) // 4 :])  # the first quarter is learning
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def simulate(
    pace: Pace, time_of: Callable[[int], float], rate: float, items: int, *, seed: int = 1, noise: float = 0.1
) -> Outcome:
    """Send items at random times (Poisson) through one server that works on one batch at a time."""
    draw = random.Random(seed)
    now, arrivals = 0.0, []
    for _ in range(items):
        now += draw.expovariate(rate)
        arrivals.append((now, 0, "arrival"))
    events: list[tuple[float, int, str]] = list(arrivals)
    heapq.heapify(events)
    waiting: list[float] = []
    working: list[float] = []
    began = 0.0
    outcome = Outcome()
    ticket = 0
    while events:
        now, _, kind = heapq.heappop(events)
        if kind == "arrival":
            waiting.append(now)
            pace.arrived(now)
        elif kind == "done":
            outcome.latencies += [now - came for came in working]
            pace.finished(len(working), now - began)
            working = []
        if working or not waiting:
            continue
        size = min(len(waiting), int(pace.limit))
        due = now if size >= pace.limit else pace.due(now, waiting[0], size)
        ticket += 1
        if due > now:
            heapq.heappush(events, (due, ticket, "look"))
            continue
        working, waiting = waiting[:size], waiting[size:]
        began = now
        outcome.sizes.append(size)
        heapq.heappush(events, (now + time_of(size) * draw.lognormvariate(0, noise), ticket, "done"))
    assert len(outcome.latencies) == items
    return outcome


@pytest.mark.parametrize("seed", range(5))
def test_under_load_95_percent_stay_within_the_target(seed: int) -> None:
    """5 ms and 0.5 ms for each item; 100 ms allow batches of about 80; 800/s need batches of at least 7."""
    outcome = simulate(Pace(0.1, 256), lambda n: 0.005 + 0.0005 * n, rate=800, items=8000, seed=seed)
    assert outcome.percentile(0.95) <= 0.1
    assert sum(outcome.sizes) / len(outcome.sizes) > 4


@pytest.mark.parametrize("seed", range(5))
def test_at_full_load_batches_grow_to_what_the_target_allows(seed: int) -> None:
    """1,800 of at most 2,000 a second: only large batches keep up; they converge on what half of the target holds."""
    pace = Pace(0.3, 1024)
    outcome = simulate(pace, lambda n: 0.005 + 0.0005 * n, rate=1800, items=30000, seed=seed, noise=0.05)
    assert outcome.percentile(0.95) <= 0.3
    allowed = (0.3 / 2 - 0.005) / 0.0005
    assert 0.6 * allowed <= pace.limit <= allowed


def test_few_requests_are_not_kept_waiting() -> None:
    outcome = simulate(Pace(1.0, 256), lambda n: 0.005 + 0.0005 * n, rate=2, items=500, noise=0.0)
    assert outcome.percentile(0.5) <= 0.0056
    assert max(outcome.sizes) <= 3


def test_waiting_for_others_saves_work_where_the_fixed_part_is_large() -> None:
    """20 ms for any batch, a request each 4 ms: without a window batches are of 5, with one they are larger."""
    eager = Pace(1.0, 256, max_wait_s=0.0)
    patient = Pace(1.0, 256)
    batches = {
        pace: len(simulate(pace, lambda n: 0.02 + 0.0001 * n, rate=250, items=4000, noise=0.05).sizes)
        for pace in (eager, patient)
    }
    assert batches[patient] < 0.95 * batches[eager]


def test_a_function_that_becomes_faster_is_found_out() -> None:
    pace = Pace(0.1, 256)
    simulate(pace, lambda n: 0.03 + 0.019 * n, rate=60, items=500)
    assert pace.limit <= 2
    simulate(pace, lambda n: 0.003 + 0.0005 * n, rate=600, items=4000)
    assert pace.limit >= 40


def test_a_function_that_becomes_slower_gets_smaller_batches() -> None:
    pace = Pace(0.1, 256)
    simulate(pace, lambda n: 0.002 + 0.0002 * n, rate=3000, items=6000)
    assert pace.limit > 30
    simulate(pace, lambda n: 0.002 + 0.005 * n, rate=100, items=2000)
    assert pace.limit <= 10


def test_a_target_that_nothing_meets_gives_single_items() -> None:
    pace = Pace(0.001, 256)
    outcome = simulate(pace, lambda n: 0.01 * n, rate=50, items=300)
    # one may be larger now and then: whether the function became faster shows only so
    assert pace.limit <= 2
    assert sum(size > 1 for size in outcome.sizes) <= len(outcome.sizes) / 20


def test_the_unknown_is_approached_by_doubling() -> None:
    pace = Pace(1.0, 100)
    limits = []
    for _ in range(9):
        limits.append(pace.limit)
        pace.finished(pace.limit, 0.01)
    assert limits == [1, 2, 4, 8, 16, 32, 64, 100, 100]


@settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["arrived", "finished", "due"]), st.floats(0, 10), st.integers(1, 300)), max_size=200
    ),
    st.floats(0.001, 10),
    st.integers(1, 256),
)
def test_whatever_it_sees_it_stays_sane(steps: list[tuple[str, float, int]], target: float, max_size: int) -> None:
    pace = Pace(target, max_size, max_wait_s=5.0)
    now = 0.0
    for kind, seconds, size in steps:
        if kind == "finished":
            pace.finished(size, seconds)
        else:
            now += seconds
            pace.arrived(now)
        assert 1 <= pace.limit <= max_size
        due = pace.due(now, now - 0.5, min(size, max_size))
        assert now <= due <= max(now, now + 5.0)
        assert math.isfinite(pace.predict(size))
