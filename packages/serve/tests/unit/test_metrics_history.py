"""Rates and percentiles of the last minutes."""

from __future__ import annotations

import pytest

from serve.metrics.history import POINTS, Counted, History, quantile

BOUNDARIES = (1.0, 10.0, 100.0)


def counted(requests: int, errors: int = 0) -> dict[str, Counted]:
    return {"shop#Model": Counted(requests, errors, (0, requests, 0, 0))}


def test_rates_are_what_came_between_two_looks() -> None:
    history = History(BOUNDARIES)
    history.saw("p1", counted(100))
    history.tick(0.0, 1.0, {"shop#Model": (0, 0)})
    history.saw("p1", counted(104, 1))
    history.saw("p2", counted(7))
    history.tick(2.0, 2.0, {"shop#Model": (3, 2)})
    history.saw("p2", counted(13))
    history.tick(3.0, 1.0, {"shop#Model": (0, 0)})
    first, second, third = history.points["shop#Model"]
    assert (first.requests, first.p50) == (0.0, None)
    assert (second.requests, second.errors, second.ongoing, second.queued) == (2.0, 0.5, 3, 2)
    assert third.requests == 6.0


def test_a_thing_that_a_known_process_begins_counts_from_its_first_request() -> None:
    history = History(BOUNDARIES)
    history.saw("p1", {})
    history.saw("p1", counted(3))
    history.tick(0.0, 1.0, {"shop#Model": (0, 0)})
    assert history.points["shop#Model"][-1].requests == 3.0


def test_the_end_of_a_process_is_no_negative_rate() -> None:
    history = History(BOUNDARIES)
    history.saw("p1", counted(100))
    history.tick(0.0, 1.0, {"shop#Model": (0, 0)})
    history.forget("p1")
    history.saw("p1", counted(2))  # another one under its name
    history.tick(1.0, 1.0, {"shop#Model": (0, 0)})
    assert history.points["shop#Model"][-1].requests == 0.0


def test_points_of_what_is_gone_go_and_others_are_limited() -> None:
    history = History(BOUNDARIES)
    history.tick(-1.0, 1.0, {"gone": (0, 0)})
    for second in range(POINTS + 5):
        history.tick(float(second), 1.0, {"stays": (0, 0)})
    assert list(history.points) == ["stays"]
    assert len(history.points["stays"]) == POINTS


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((), 0.5, None),
        ((4, 0, 0, 0), 0.5, 0.5),
        ((0, 10, 0, 0), 0.5, 5.5),
        ((1, 1, 0, 0), 0.5, 1.0),
        ((99, 0, 1, 0), 0.99, 1.0),
        ((0, 0, 0, 3), 0.5, 100.0),
    ],
)
def test_quantiles(counts: tuple[int, ...], share: float, value: float | None) -> None:
    assert quantile(BOUNDARIES, counts, share) == (None if value is None else pytest.approx(value))
