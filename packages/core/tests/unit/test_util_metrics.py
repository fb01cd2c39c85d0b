"""``core.util.metrics``: Ray's checks, and the Prometheus text."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from core.util.metrics import Counter, Gauge, Histogram, expose


def lines(name: str) -> list[str]:
    return [line for line in expose().splitlines() if name in line]


def test_counter() -> None:
    counter = Counter("requests", "Requests served.", ("route",))
    counter.inc(tags={"route": "/a"})
    counter.inc(2.5, {"route": "/a"})
    counter.inc(tags={"route": 'quo"te\n'})
    assert lines("requests") == [
        "# HELP requests_total Requests served.",
        "# TYPE requests_total counter",
        'requests_total{route="/a"} 3.5',
        'requests_total{route="quo\\"te\\n"} 1.0',
    ]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=">0"):
            counter.inc(wrong, {"route": "/a"})
    with pytest.raises(TypeError, match="int or float"):
        counter.inc("1", {"route": "/a"})  # type: ignore[arg-type]


def test_gauge() -> None:
    gauge = Gauge("temperature")
    gauge.set(3)
    gauge.set(-2)
    gauge.set(None)
    assert lines("temperature")[-1] == "temperature -2.0"
    gauge.set(float("inf"))
    assert lines("temperature")[-1] == "temperature +Inf"
    with pytest.raises(TypeError, match="int or float"):
        gauge.set("hot")  # type: ignore[arg-type]


def test_histogram() -> None:
    histogram = Histogram("latency", boundaries=[0.1, 1.0])
    for value in (0.05, 0.1, 0.5, 7):
        histogram.observe(value)
    assert lines("latency")[2:] == [
        'latency_bucket{le="0.1"} 2',
        'latency_bucket{le="1.0"} 3',
        'latency_bucket{le="+Inf"} 4',
        "latency_sum 7.65",
        "latency_count 4",
    ]
    assert histogram.info["boundaries"] == [0.1, 1.0]
    for wrong in (None, [], [0.0, 1.0], [-1.0]):
        with pytest.raises(ValueError, match="boundaries"):
            Histogram("other_latency", boundaries=wrong)


def test_tags() -> None:
    counter = Counter("tagged", tag_keys=("a", "b"))
    assert counter.set_default_tags({"a": "1"}) is counter
    counter.inc(tags={"b": "2"})
    counter.inc(tags={"a": "3", "b": "2"})
    assert lines("tagged")[2:] == ['tagged_total{a="1",b="2"} 1.0', 'tagged_total{a="3",b="2"} 1.0']
    with pytest.raises(ValueError, match="Missing value for tag key"):
        counter.inc()
    with pytest.raises(ValueError, match="Unrecognized tag key"):
        counter.set_default_tags({"c": "1"})
    with pytest.raises(TypeError, match="must be str"):
        counter.set_default_tags({"a": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="must be str"):
        counter.inc(tags={"b": 2})  # type: ignore[dict-item]
    assert counter.info == {"name": "tagged", "description": "", "tag_keys": ("a", "b"), "default_tags": {"a": "1"}}


@pytest.mark.parametrize("tag_keys", [["a"], "a", (1,)])
def test_tag_keys_are_a_tuple_of_strings(tag_keys: Any) -> None:
    with pytest.raises(TypeError, match=r"[Tt]ag"):
        Counter("never", tag_keys=tag_keys)


def test_names() -> None:
    with pytest.raises(ValueError, match="Empty name"):
        Counter("")
    with pytest.warns(UserWarning, match="Invalid metric name"):
        discarded = Counter("not a name")
    discarded.inc()
    assert lines("not a name") == []
    Counter("taken")
    with pytest.raises(ValueError, match="already"):
        Gauge("taken")


def test_metrics_of_one_name_share_their_numbers() -> None:
    Counter("shared").inc()
    copy = pickle.loads(pickle.dumps(Counter("shared")))
    copy.inc()
    assert lines("shared")[-1] == "shared_total 2.0"
    histogram = pickle.loads(pickle.dumps(Histogram("sizes", boundaries=[1, 2], tag_keys=("t",))))
    histogram.observe(1, {"t": "x"})
    assert 'sizes_count{t="x"} 1' in expose()


def test_threads_lose_nothing() -> None:
    counter = Counter("threaded")

    def count() -> None:
        for _ in range(2000):
            counter.inc()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines("threaded")[-1] == "threaded_total 8000.0"
