"""Numbers of a running Serve, as Prometheus scrapes them: from all processes, and none lost with a process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

import serve
from tests.eventually import eventually
from tests.serve.conftest import url

web = FastAPI()


@serve.deployment
@serve.ingress(web)
class Shop:
    def __init__(self) -> None:
        self.odd = serve.metrics.Counter("shop_odd_numbers", "Odd ones.", tag_keys=("kind", "route"))
        self.sizes = serve.metrics.Histogram("shop_sizes", boundaries=[1, 10])

    @web.get("/items/{number}")
    async def item(self, number: int) -> int:
        if number % 2:
            self.odd.inc(tags={"kind": "item"})
        self.sizes.observe(number)
        return number

    @web.get("/boom")
    async def boom(self) -> None:
        raise ValueError("no luck")


@serve.deployment(max_ongoing_requests=1)
class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def __call__(self) -> str:
        await self.told.wait()
        return "done"


@serve.deployment
class Models:
    @serve.multiplexed(max_num_models_per_replica=1)
    async def model(self, model_id: str) -> str:
        return model_id

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=60)
    async def pair(self, items: list[int]) -> list[int]:
        return items

    async def __call__(self, item: int) -> int:
        return await self.pair(item)

    async def use(self, model_id: str) -> str:
        return await self.model(model_id)


@serve.deployment
class Hanging:
    async def __call__(self, until: str) -> str:
        while not Path(until).exists():  # keeps the replica's event loop from everything else
            time.sleep(0.01)
        return "done"


class Scraper:
    """Reads ``/metrics``."""

    def __init__(self) -> None:
        self.address = serve.status_page(port=0)

    def samples(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the samples of a name that have these labels, by all their labels."""
        answer = httpx.get(f"{self.address}/metrics", timeout=20)
        assert answer.status_code == 200
        return {
            frozenset(sample.labels.items()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def total(self, name: str, **labels: str) -> float:
        """Return their sum."""
        return sum(self.samples(name, **labels).values())

    def reaches(self, value: float, name: str, **labels: str) -> None:
        """Wait until the sum is exactly this; it must never be more."""

        def same() -> bool:
            total = self.total(name, **labels)
            assert total <= value, f"{name} {labels} is {total}"
            return total == value

        eventually(same, timeout=30, what=f"{name} {labels} == {value}")


@pytest.fixture
def scraper(quick_collector: None, apps: None) -> Scraper:
    return Scraper()


def replicas(scraper: Scraper, app: str) -> list[dict[str, Any]]:
    live = httpx.get(f"{scraper.address}/api/serve/live", timeout=20).json()
    found = next(each for each in live["applications"] if each["name"] == app)
    return [replica for deployment in found["deployments"] for replica in deployment["replicas"]]


def test_requests_errors_and_what_user_code_counts(scraper: Scraper, raw: Callable[[bytes], bytes]) -> None:
    serve.run(Shop.bind(), name="counts")
    for number in range(6):
        assert httpx.get(url(f"/items/{number}")).json() == number
    assert httpx.get(url("/boom")).status_code == 500
    assert httpx.get(url("/nowhere")).status_code == 404
    assert raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    of_app = {"application": "counts"}
    scraper.reaches(6, "serve_num_http_requests_total", **of_app, route="/items/{number}", status_code="200")
    scraper.reaches(1, "serve_num_http_error_requests_total", **of_app, route="/boom", error_code="500", method="GET")
    scraper.reaches(1, "serve_num_http_error_requests_total", **of_app, route="/", error_code="404")
    scraper.reaches(8, "serve_http_request_latency_ms_count", **of_app)
    ((labels, count),) = scraper.samples("serve_deployment_request_counter_total", **of_app, route="/boom").items()
    (replica,) = replicas(scraper, "counts")
    assert dict(labels) == {"application": "counts", "deployment": "Shop", "replica": replica["id"], "route": "/boom"}
    assert count == 1
    assert scraper.total("serve_deployment_error_counter_total", **of_app, exception_type="ValueError") == 1
    assert scraper.total("serve_deployment_processing_latency_ms_bucket", **of_app, le="+Inf") == 8
    assert scraper.total("serve_deployment_replica_starts_total", **of_app) == 1
    assert scraper.total("serve_autoscaling_target_replicas", **of_app) == 1
    assert scraper.total("serve_deployment_replica_healthy", **of_app) == 1
    scraper.reaches(1, "serve_num_http_error_requests_total", method="UNKNOWN", error_code="400")
    of_user = {**of_app, "deployment": "Shop", "replica": replica["id"]}
    assert scraper.total("shop_odd_numbers_total", **of_user, kind="item", route="/") == 3
    assert scraper.total("shop_sizes_count", **of_user) == 6
    assert scraper.total("shop_sizes_sum", **of_user) == 15


def test_a_replica_that_is_killed_takes_no_counts_along(scraper: Scraper) -> None:
    serve.run(Shop.bind(), name="killed")
    for number in range(4):
        httpx.get(url(f"/items/{number}"))
    of_app = {"application": "killed"}
    scraper.reaches(4, "serve_num_http_requests_total", **of_app)
    (before,) = replicas(scraper, "killed")
    os.kill(before["pid"], signal.SIGKILL)

    def replaced() -> bool:
        running = [each for each in replicas(scraper, "killed") if each["state"] == "RUNNING"]
        return bool(running) and running[0]["id"] != before["id"]

    eventually(replaced, timeout=30, what="another replica runs")
    assert scraper.total("serve_num_http_requests_total", **of_app) == 4
    assert httpx.get(url("/items/9")).json() == 9
    scraper.reaches(5, "serve_num_http_requests_total", **of_app)
    scraper.reaches(5, "serve_deployment_request_counter_total", **of_app)
    scraper.reaches(1, "serve_deployment_replica_deaths_total", **of_app)


def test_a_replica_that_is_replaced_reports_a_last_time(scraper: Scraper) -> None:
    serve.run(Shop.bind(), name="replaced")
    for number in range(4):
        httpx.get(url(f"/items/{number}"))
    serve.run(Shop.options(ray_actor_options={"runtime_env": {"env_vars": {"NEW": "1"}}}).bind(), name="replaced")
    scraper.reaches(4, "serve_num_http_requests_total", application="replaced")
    scraper.reaches(4, "serve_deployment_request_counter_total", application="replaced")


def test_requests_in_line_and_in_progress(scraper: Scraper) -> None:
    handle = serve.run(Slow.bind(), name="slow", route_prefix=None)
    waiting = [handle.remote() for _ in range(3)]
    of_app = {"application": "slow"}
    eventually(lambda: scraper.total("serve_replica_processing_queries", **of_app) == 1, timeout=30)
    eventually(lambda: scraper.total("serve_deployment_queued_queries", **of_app) == 2, timeout=30)
    text = httpx.get(f"{scraper.address}/metrics", params={"prefix": "ray_"}, timeout=20).text
    assert 'ray_serve_application_status{application="slow"} 6' in text
    assert httpx.get(f"{scraper.address}/metrics", params={"prefix": "a b"}, timeout=20).status_code == 400
    for response in waiting:
        response.cancel()
    eventually(lambda: scraper.total("serve_deployment_queued_queries", **of_app) == 0, timeout=30)
    eventually(lambda: scraper.total("serve_replica_processing_queries", **of_app) == 0, timeout=30)


def test_a_replica_that_hangs_holds_nobody_up(scraper: Scraper, tmp_path: Path) -> None:
    serve.run(Shop.bind(), name="lively", route_prefix=None)
    handle = serve.run(Hanging.bind(), name="hangs", route_prefix=None)
    (tmp_path / "before").touch()
    assert handle.remote(str(tmp_path / "before")).result() == "done"
    scraper.reaches(1, "serve_deployment_request_counter_total", application="hangs")
    hanging = handle.remote(str(tmp_path / "now"))

    def newest() -> float:
        live = httpx.get(f"{scraper.address}/api/serve/live", timeout=20).json()
        app = next(each for each in live["applications"] if each["name"] == "lively")
        return max((point[0] for point in app["deployments"][0]["points"]), default=0.0)

    begin = newest()
    eventually(lambda: newest() > begin + 1, timeout=30, what="points of others go on")
    assert scraper.total("serve_deployment_request_counter_total", application="hangs") == 1
    (tmp_path / "now").touch()
    assert hanging.result() == "done"
    scraper.reaches(2, "serve_deployment_request_counter_total", application="hangs")


def test_batches_and_models(scraper: Scraper) -> None:
    handle = serve.run(Models.bind(), name="models", route_prefix=None)
    assert sorted(response.result() for response in [handle.remote(1), handle.remote(2)]) == [1, 2]
    assert [handle.use.remote(model).result() for model in "aab"] == ["a", "a", "b"]
    of_app = {"application": "models", "deployment": "Models"}
    scraper.reaches(1, "serve_batches_processed_total", **of_app, function_name="pair")
    assert scraper.total("serve_actual_batch_size_sum", **of_app) == 2
    assert scraper.total("serve_batch_execution_time_ms_count", **of_app) == 1
    scraper.reaches(2, "serve_multiplexed_models_load_counter_total", **of_app)
    assert scraper.total("serve_multiplexed_get_model_requests_counter_total", **of_app) == 3
    assert scraper.total("serve_multiplexed_models_unload_counter_total", **of_app) == 1
    assert scraper.total("serve_num_multiplexed_models", **of_app) == 1


def test_proxies_count_for_all_applications(scraper: Scraper) -> None:
    serve.run(Shop.options(num_replicas=2).bind(), name="one", route_prefix="/one")
    serve.run(Shop.bind(), name="two", route_prefix="/two")
    for number in range(5):
        assert httpx.get(url(f"/one/items/{number}")).json() == number
    assert httpx.get(url("/two/items/0")).json() == 0
    assert httpx.get(url("/three")).status_code == 404
    scraper.reaches(5, "serve_num_http_requests_total", application="one", route="/one", method="GET")
    scraper.reaches(1, "serve_num_http_requests_total", application="two", route="/two")
    scraper.reaches(5, "serve_deployment_request_counter_total", application="one", route="/one/items/{number}")
    eventually(lambda: scraper.total("serve_num_http_error_requests_total", application="", error_code="404") >= 1)
    serve.delete("one")
    assert scraper.total("serve_num_http_requests_total", application="one") == 5
