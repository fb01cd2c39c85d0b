"""A controller that is killed while two revisions share the requests, and while a deployment sleeps."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

import core
import serve
from serve import session
from serve.specs import CONTROLLER_NAME, NAMESPACE
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.load import Load

PATIENCE = 60


@pytest.fixture(scope="module", autouse=True)
def _detached() -> Iterator[None]:
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(http_options={"port": 0}, detached=True)
    try:
        yield
    finally:
        serve.shutdown()
        core.shutdown()


def app(number: int, **options: object) -> serve.Application:
    @serve.deployment(name="app", **options)
    class App:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self) -> str:
            return f"{self.number}"

    return App.bind(number)


def kill_controller() -> None:
    def pid() -> int:
        actor = core.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
        found: int = core.get(actor.ready.remote(), timeout=PATIENCE)
        return found

    before = pid()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid() != before, PATIENCE)


def test_a_canary_goes_on_and_can_be_promoted_by_the_next_controller() -> None:
    serve.run(app(1))
    serve.run(app(2), canary=0.5)
    with Load(url(), clients=2) as load:
        eventually(lambda: load.texts["1"] > 20 and load.texts["2"] > 20, PATIENCE)
        kill_controller()
        assert [(each.revision, each.weight) for each in serve.status().applications["default"].traffic] == [
            (1, 0.5),
            (2, 0.5),
        ]
        before = dict(load.texts)
        eventually(lambda: all(load.texts[text] > before[text] + 20 for text in "12"), PATIENCE)
        assert serve.promote("default") == 2
        kill_controller()
        assert serve.rollback("default") == 3
        before = dict(load.texts)
        eventually(lambda: load.texts["1"] > before["1"] + 20, PATIENCE)
        states = {"RUNNING": 1}
        eventually(lambda: serve.status().applications["default"].deployments["app"].replica_states == states, PATIENCE)
    assert set(load.answers) == {"200"}
    serve.delete("default")


def test_what_sleeps_is_woken_by_the_next_controller() -> None:
    scaling = {"min_replicas": 0, "metrics_interval_s": 0.1, "downscale_to_zero_delay_s": 0.3}
    serve.run(app(1, autoscaling_config=scaling))
    assert httpx.get(url(), timeout=PATIENCE).text == "1"
    eventually(lambda: serve.status().applications["default"].deployments["app"].replica_states == {}, PATIENCE)
    kill_controller()
    assert serve.status().applications["default"].deployments["app"].replica_states == {}
    assert httpx.get(url(), timeout=PATIENCE).text == "1"
    eventually(lambda: serve.status().applications["default"].deployments["app"].replica_states == {}, PATIENCE)
