"""Numbers of replicas that follow the load, down to none and up again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import serve
from serve.config import AutoscalingContext
from serve.handle import DeploymentHandle
from tests.eventually import eventually
from tests.serve.conftest import url

pytestmark = pytest.mark.usefixtures("apps")

#: seconds that a test waits for what has to come about
PATIENCE = 60

QUICK = {
    "metrics_interval_s": 0.1,
    "look_back_period_s": 0.5,
    "upscale_delay_s": 0.3,
    "downscale_delay_s": 0.5,
    "target_ongoing_requests": 1,
}


def waiting(folder: Path, **scaling: object) -> serve.Application:
    """An application whose requests last until a file is there."""

    @serve.deployment(name="app", autoscaling_config={**QUICK, **scaling}, graceful_shutdown_wait_loop_s=0.1)
    class Waiting:
        async def __call__(self) -> str:
            while not (folder / "go").exists():
                await asyncio.sleep(0.02)
            return str(os.getpid())

    return Waiting.bind()


def states() -> dict[str, int]:
    (application,) = serve.status().applications.values()
    (deployment,) = application.deployments.values()
    return deployment.replica_states


@contextlib.contextmanager
def clients(count: int) -> Iterator[list[str]]:
    """So many clients that ask once each, and what they were answered once the block ends."""
    answers: list[str] = []

    def ask() -> None:
        response = httpx.get(url(), timeout=60)
        answers.append(str(response.status_code))

    with ThreadPoolExecutor(count) as threads:
        for _ in range(count):
            threads.submit(ask)
        yield answers


def test_from_one_replica_to_three_and_back(tmp_path: Path) -> None:
    serve.run(waiting(tmp_path, max_replicas=3))
    assert states() == {"RUNNING": 1}
    with clients(5) as answers:
        eventually(lambda: states() == {"RUNNING": 3}, PATIENCE, "no more replicas for more requests")
        (tmp_path / "go").touch()
    assert answers == ["200"] * 5
    eventually(lambda: states() == {"RUNNING": 1}, PATIENCE, "as many replicas without requests")
    assert httpx.get(url(), timeout=60).status_code == 200


def test_from_none_to_one_and_back_without_a_failed_request(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    handle = serve.run(waiting(tmp_path, min_replicas=0, downscale_to_zero_delay_s=0.5))
    assert states() == {}
    assert httpx.get(url(), timeout=60).status_code == 200
    eventually(lambda: states() == {}, PATIENCE, "the last replica stayed")
    assert handle.remote().result(timeout_s=60)
    eventually(lambda: states() == {}, PATIENCE, "the last replica stayed")
    with clients(20) as answers:
        pass
    assert answers == ["200"] * 20


def test_a_call_between_deployments_wakes_the_one_behind(tmp_path: Path) -> None:
    (tmp_path / "go").touch()

    @serve.deployment
    class Front:
        def __init__(self, behind: DeploymentHandle[object]) -> None:
            self.behind = behind

        async def __call__(self) -> str:
            return await self.behind.remote()

    serve.run(Front.bind(waiting(tmp_path, min_replicas=0)))
    assert serve.status().applications["default"].deployments["app"].replica_states == {}
    assert httpx.get(url(), timeout=60).status_code == 200


def test_a_new_version_of_what_sleeps_shows_that_it_can_start(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    serve.run(waiting(tmp_path, min_replicas=0))

    @serve.deployment(name="app", autoscaling_config={**QUICK, "min_replicas": 0})
    class Broken:
        def __init__(self) -> None:
            raise OSError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        serve.run(Broken.bind())
    assert httpx.get(url(), timeout=60).status_code == 200


def test_a_policy_of_the_users_decides_within_the_bounds(tmp_path: Path) -> None:
    wish = tmp_path / "wish"
    wish.write_text("3")

    def policy(context: AutoscalingContext) -> tuple[float, dict[str, object]]:
        assert context.deployment_name == "app"
        assert context.policy_state.get("calls", 0) == context.policy_state.get("same", 0)
        calls = int(context.policy_state.get("calls", 0)) + 1
        return float(wish.read_text()), {"calls": calls, "same": calls}

    serve.run(waiting(tmp_path, max_replicas=2, policy=policy), route_prefix=None)
    eventually(lambda: states() == {"RUNNING": 2}, PATIENCE, "the policy was not heard, or not bounded")
    wish.write_text("not a number")
    eventually(
        lambda: "not a number" in serve.status().applications["default"].message, PATIENCE, "nobody heard of the error"
    )
    assert states() == {"RUNNING": 2}
    wish.write_text("1")
    eventually(lambda: states() == {"RUNNING": 1}, PATIENCE, "the policy was not heard again")
    assert serve.status().applications["default"].message == ""


def test_a_policy_knows_the_numbers_that_the_users_class_names(tmp_path: Path) -> None:
    def policy(context: AutoscalingContext) -> float:
        depths = context.aggregated_metrics.get("depth", {})
        assert set(depths) <= set(context.running_replicas)
        gauge = context.aggregated_metrics.get("temperature", {})
        return 2 if 7.0 in depths.values() and 21.5 in gauge.values() else 1

    scaling = {**QUICK, "max_replicas": 2, "downscale_delay_s": 600, "policy": policy}

    @serve.deployment(name="app", autoscaling_config=scaling)
    class Deep:
        def __init__(self) -> None:
            self.gauge = serve.metrics.Gauge("temperature", "Of the room.")

        async def __call__(self) -> None:
            self.gauge.set(21.5)
            (tmp_path / "deep").touch()

        def record_autoscaling_stats(self) -> dict[str, float]:
            return {"depth": 7.0 if (tmp_path / "deep").exists() else 0.0}

    handle = serve.run(Deep.bind(), route_prefix=None)
    handle.remote().result(timeout_s=PATIENCE)
    eventually(lambda: states() == {"RUNNING": 2}, PATIENCE, "the policy does not know the numbers")


def test_a_deploy_keeps_the_number_that_the_load_has_made(tmp_path: Path) -> None:
    serve.run(waiting(tmp_path, max_replicas=3, downscale_delay_s=600))
    with clients(5):
        eventually(lambda: states() == {"RUNNING": 3}, PATIENCE, "no more replicas")
        (tmp_path / "go").touch()
    serve.run(waiting(tmp_path, max_replicas=3, downscale_delay_s=500))
    assert states()["RUNNING"] == 3
    serve.run(waiting(tmp_path, max_replicas=2, downscale_delay_s=500))
    eventually(lambda: states() == {"RUNNING": 2}, PATIENCE, "more than max_replicas")


def test_what_cannot_start_when_it_is_woken_is_an_answer_and_not_a_hang() -> None:
    @serve.deployment(name="app", autoscaling_config={**QUICK, "min_replicas": 0})
    class Broken:
        def __init__(self) -> None:
            raise OSError("disk on fire")

    handle = serve.run(Broken.bind())
    answer = httpx.get(url(), timeout=60)
    assert answer.status_code == 503
    assert "cannot start" in answer.text
    with pytest.raises(serve.errors.DeploymentUnavailableError, match="cannot start"):
        handle.remote().result(timeout_s=60)
    (application,) = serve.status().applications.values()
    assert application.status == "DEPLOY_FAILED"
    assert "disk on fire" in application.message
