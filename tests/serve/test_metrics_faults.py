"""Numbers and the status page outlive the controller that collected them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

import core
import serve
from core.util.state import list_actors
from serve import session
from serve.specs import CONTROLLER_NAME, NAMESPACE
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.test_metrics import Scraper, Shop

PATIENCE = 60


@pytest.fixture
def detached() -> Iterator[None]:
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(http_options={"port": 0}, detached=True)
    try:
        yield
    finally:
        serve.shutdown()
        core.shutdown()


def controller() -> int:
    """Wait until a controller acts, and return its process id."""
    pid: int = core.get(core.get_actor(CONTROLLER_NAME, namespace=NAMESPACE).ready.remote(), timeout=PATIENCE)
    return pid


def living_replicas() -> int:
    """Return the number of replicas that have not ended yet."""
    return sum(actor.state == "ALIVE" and actor.class_name == "Replica" for actor in list_actors())


def test_a_controller_that_is_killed_takes_no_counts_along(detached: None) -> None:
    serve.run(Shop.bind(), name="kept")
    scraper = Scraper()
    for number in range(4):
        assert httpx.get(url(f"/items/{number}")).json() == number
    serve.run(Shop.options(ray_actor_options={"runtime_env": {"env_vars": {"NEW": "1"}}}).bind(), name="kept")
    scraper.reaches(4, "serve_num_http_requests_total", application="kept")  # of a replica that has ended
    eventually(lambda: scraper.total("serve_deployment_replica_healthy", application="kept") == 1, timeout=PATIENCE)
    eventually(lambda: living_replicas() == 1, timeout=PATIENCE)
    before = controller()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: controller() != before, timeout=PATIENCE)
    assert httpx.get(url("/items/5")).json() == 5

    def counted() -> bool:
        try:
            total = scraper.total("serve_num_http_requests_total", application="kept")
        except httpx.HTTPError:
            return False  # the new controller does not listen yet
        assert 4 <= total <= 5
        return total == 5

    eventually(counted, timeout=PATIENCE, what="the count goes on")
    assert scraper.total("serve_deployment_replica_starts_total", application="kept") == 2
