"""Counting requests, and what Prometheus is shown of the counts."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from serve.metrics.exposition import expose
from serve.metrics.observer import Observer
from serve.metrics.report import Distribution, Family
from serve.metrics.requests import LATENCIES_MS, Requests, of_clients, of_replica

TAGS = (("application", "shop"), ("deployment", "Model"), ("replica", "shop#Model#1"))


def samples(families: list[Family]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a scraper reads."""
    text, _ = expose(families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_an_entrance_shows_rays_families() -> None:
    requests = Requests()
    requests.ended(("shop", "/x/{n}", "GET", 200, ""), 0.0015)
    requests.ended(("shop", "/x/{n}", "GET", 200, ""), 0.004)
    requests.ended(("shop", "/x/{n}", "POST", 503, ""), 0.7)
    found = samples(of_clients(requests))
    served = {"application": "shop", "route": "/x/{n}", "method": "GET", "status_code": "200"}
    assert found[key("serve_num_http_requests_total", **served)] == 2
    assert found[key("serve_http_request_latency_ms_count", **served)] == 2
    assert found[key("serve_http_request_latency_ms_sum", **served)] == 5.5
    assert found[key("serve_http_request_latency_ms_bucket", **served, le="1.0")] == 0
    assert found[key("serve_http_request_latency_ms_bucket", **served, le="2.0")] == 1
    assert found[key("serve_http_request_latency_ms_bucket", **served, le="+Inf")] == 2
    failed = {**served, "method": "POST", "status_code": "503", "error_code": "503"}
    assert found[key("serve_num_http_error_requests_total", **failed)] == 1
    assert key("serve_num_http_error_requests_total", **served, error_code="200") not in found


def test_a_replica_shows_rays_families_of_all_ways_in() -> None:
    direct, called = Requests(), Requests()
    direct.ended(("shop", "/x", "GET", 200, ""), 0.001)
    direct.ended(("shop", "/x", "GET", 500, "ValueError"), 0.001)
    called.ended(("shop", "/x", "", 0, ""), 0.001)
    called.ended(("shop", "/x", "", 0, "KeyError"), 0.001)
    found = samples(of_replica(TAGS, direct, called))
    tags = {**dict(TAGS), "route": "/x"}
    assert found[key("serve_deployment_request_counter_total", **tags)] == 4
    assert found[key("serve_deployment_processing_latency_ms_count", **tags)] == 4
    assert found[key("serve_deployment_error_counter_total", **tags, exception_type="ValueError")] == 1
    assert found[key("serve_deployment_error_counter_total", **tags, exception_type="KeyError")] == 1


def test_calls_through_handles_are_no_http_requests() -> None:
    requests = Requests()
    requests.ended(("shop", "", "", 0, ""), 0.001)
    assert samples(of_clients(requests)) == {}


def test_a_very_slow_request_is_in_the_last_bucket() -> None:
    requests = Requests()
    requests.ended(("shop", "/", "GET", 200, ""), 10_000)
    (distribution,) = of_clients(requests)[2].distributions.values()
    assert distribution.counts == [*[0] * len(LATENCIES_MS), 1]


def test_failures_are_told_once_and_only_the_last() -> None:
    requests = Requests()
    for number in range(30):
        try:
            raise ValueError(f"number {number}")
        except ValueError as error:
            requests.failed(f"id-{number}", "/x", error)
    failures = requests.take_failures()
    assert [failure.request_id for failure in failures] == [f"id-{number}" for number in range(10, 30)]
    assert "ValueError: number 29" in failures[-1].text
    assert "test_failures_are_told_once" in failures[-1].text
    assert requests.take_failures() == []


class Noted:
    """An access log that remembers."""

    def __init__(self) -> None:
        self.written: list[tuple[Any, ...]] = []

    def write(self, *details: Any) -> None:
        self.written.append(details)

    def refused(self, *details: Any) -> None:
        self.written.append(details)


def test_an_observer_counts_what_no_application_got_apart() -> None:
    log = Noted()
    observer = Observer(log)
    scope = {"method": "GET", "raw_path": b"/"}
    observer.answered(scope, "shop", "/", "id", 200, 5, 0.001, None, "shop#Model#1")
    observer.turned_away(scope, "", "", "id", 404, 9)
    observer.refused(("127.0.0.1", 1), 400, "no Host")
    assert [kind.status for kind, _ in observer.requests.cells()] == [200]
    assert sorted(kind.status for kind, _ in observer.refusals.cells()) == [400, 404]
    assert [written[-1] for written in log.written] == ["shop#Model#1", 0.0, "no Host"]


def test_websockets_are_told_by_their_method() -> None:
    observer = Observer()
    observer.answered({"type": "websocket"}, "shop", "/", "", 101, 0, 1.0)
    assert [kind.method for kind, _ in observer.requests.cells()] == ["WEBSOCKET"]


def test_labels_are_escaped() -> None:
    family = Family("gauge", "odd", 'a "description"\nof two lines', (), {(("tag", 'a"b\\c\nd'),): 1.0})
    assert samples([family]) == {key("odd", tag='a"b\\c\nd'): 1.0}


def test_names_get_a_prefix_and_counters_one_suffix() -> None:
    families = [Family("counter", "a_total", "", (), {(): 1.0}), Family("counter", "b", "", (), {(): 2.0})]
    text, content_type = expose(families, prefix="ray_")
    assert b"\nray_a_total 1.0\n" in text
    assert b"\nray_b_total 2.0\n" in text
    assert content_type.startswith("text/plain")


def test_openmetrics_is_spoken_to_whoever_asks_for_it() -> None:
    distribution = Distribution([1, 0], 0.5)
    text, content_type = expose(
        [Family("histogram", "h", "", (1.0,), {}, {(): distribution})], "application/openmetrics-text; version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
