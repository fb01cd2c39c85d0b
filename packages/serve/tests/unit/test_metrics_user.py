"""``serve.metrics``: tags that fill themselves in."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

import serve
from core.util import metrics as core_metrics
from serve.context import (
    ReplicaContext,
    RequestContext,
    reset_request_context,
    set_replica_context,
    set_request_context,
)
from serve.metrics.process import report
from serve.metrics.report import Family
from serve.specs import DeploymentID


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that is a replica, with no metrics yet."""
    registry = core_metrics.Registry()
    monkeypatch.setattr(core_metrics, "REGISTRY", registry)
    monkeypatch.setattr("serve.metrics.process.REGISTRY", registry)
    set_replica_context(ReplicaContext(DeploymentID("Model", "shop"), "shop#Model#1"))
    yield
    set_replica_context(None)


def reported() -> dict[str, Family]:
    return {family.name: family for family in report(ongoing=0, queued={}, families=[]).families}


TAGS = {"application": "shop", "deployment": "Model", "replica": "shop#Model#1"}


def test_a_counter_says_whose_it_is(replica: None) -> None:
    counter = serve.metrics.Counter("odd", "Odd ones.", tag_keys=("model",))
    counter.inc(tags={"model": "a"})
    counter.inc(2, tags={"model": "a"})
    ((labels, value),) = reported()["odd"].values.items()
    assert (dict(labels), value) == ({**TAGS, "model": "a"}, 3.0)


def test_the_route_is_the_requests(replica: None) -> None:
    histogram = serve.metrics.Histogram("size", boundaries=[1, 2], tag_keys=("route",))
    token = set_request_context(RequestContext("id", "/shop", "shop"))
    histogram.observe(1.5)
    reset_request_context(token)
    histogram.observe(1.5, tags={"route": "mine"})
    family = reported()["size"]
    assert {dict(labels)["route"] for labels in family.distributions} == {"/shop", "mine"}
    assert [distribution.counts for distribution in family.distributions.values()] == [[0, 1, 0], [0, 1, 0]]


def test_a_gauge_and_default_tags(replica: None) -> None:
    gauge = serve.metrics.Gauge("free", tag_keys=("device",)).set_default_tags({"device": "cpu"})
    gauge.set(4)
    gauge.set(3)
    assert {dict(labels)["device"]: value for labels, value in reported()["free"].values.items()} == {"cpu": 3.0}


def test_metrics_of_core_are_told_apart_by_replica(replica: None) -> None:
    core_metrics.Counter("plain", tag_keys=("x",)).inc(tags={"x": "1"})
    ((labels, _),) = reported()["plain"].values.items()
    assert dict(labels) == {**TAGS, "x": "1"}


def test_a_metric_pickles(replica: None) -> None:
    counter = pickle.loads(pickle.dumps(serve.metrics.Counter("odd", tag_keys=("m",))))
    counter.inc(tags={"m": "1"})
    assert list(reported()["odd"].values.values()) == [1.0]


@pytest.mark.parametrize("tag", ["application", "deployment", "replica"])
def test_tags_that_fill_themselves_in_are_not_the_users(tag: str) -> None:
    with pytest.raises(ValueError, match=f"'{tag}' tag is reserved"):
        serve.metrics.Gauge("free", tag_keys=(tag,))


def test_outside_of_replicas_there_are_no_such_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = core_metrics.Registry()
    monkeypatch.setattr(core_metrics, "REGISTRY", registry)
    serve.metrics.Counter("odd").inc()
    assert [series.values for series in registry.collect()] == [{(): 1.0}]
