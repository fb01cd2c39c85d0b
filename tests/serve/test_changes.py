"""Changes and deaths under load: what clients see of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import httpx
import pytest

import serve
from serve.handle import DeploymentHandle
from tests.serve.conftest import url
from tests.serve.load import Load

pytestmark = pytest.mark.usefixtures("apps")


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def version(number: int, replicas: int = 1) -> serve.Application:
    @serve.deployment(name="app", num_replicas=replicas)
    class App:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self) -> str:
            return f"{self.number}"

        async def pid(self) -> int:
            return os.getpid()

    return App.bind(number)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_rolling_update_fails_no_request(replicas: int) -> None:
    serve.run(version(1, replicas))
    with Load(url()) as load:
        until(lambda: load.texts["1"] > 50, "the old version did not answer")
        serve.run(version(2, replicas))
        until(lambda: load.texts["2"] > 50, "the new version did not answer")
        until(lambda: _replica_states() == {"RUNNING": replicas}, "the old replicas did not stop")
    assert set(load.answers) == {"200"}


def test_a_broken_update_fails_no_request() -> None:
    @serve.deployment(name="app")
    class Broken:
        def __init__(self) -> None:
            raise OSError("disk on fire")

    serve.run(version(1))
    with Load(url()) as load:
        until(lambda: load.texts["1"] > 50, "the old version did not answer")
        with pytest.raises(RuntimeError, match="disk on fire"):
            serve.run(Broken.bind())
        seen = load.texts["1"]
        until(lambda: load.texts["1"] > seen + 50, "the old version did not go on")
    assert set(load.answers) == {"200"}


def test_a_killed_replica_is_replaced_while_clients_wait() -> None:
    handle = serve.run(version(1))
    pid = handle.pid.remote().result()
    with Load(url()) as load:
        until(lambda: load.texts["1"] > 50, "no answers")
        os.kill(pid, signal.SIGKILL)
        seen = load.texts["1"]
        until(lambda: load.texts["1"] > seen + 100, "no answers after the death")
    # at most the requests that it had, and connections that it held: none hangs
    assert sum(count for answer, count in load.answers.items() if answer != "200") <= 2 * 4
    assert handle.pid.remote().result() != pid


def test_with_two_replicas_no_request_fails_when_one_is_killed() -> None:
    handle = serve.run(version(1, 2))
    pid = handle.pid.remote().result()
    with Load(url()) as load:
        until(lambda: load.texts["1"] > 50, "no answers")
        os.kill(pid, signal.SIGKILL)
        seen = load.texts["1"]
        until(lambda: load.texts["1"] > seen + 100, "no answers after the death")
        until(lambda: _replica_states() == {"RUNNING": 2}, "no new replica")
    assert set(load.answers) == {"200"}


def test_a_call_that_a_replica_took_to_its_grave_fails_with_a_name() -> None:
    @serve.deployment
    class Doomed:
        async def die(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        async def fine(self) -> str:
            return "fine"

    handle = serve.run(Doomed.bind(), route_prefix=None)
    with pytest.raises(serve.errors.ReplicaUnavailableError):
        handle.die.remote().result()
    assert handle.fine.remote().result(timeout_s=30) == "fine"


def test_an_unhealthy_replica_is_replaced() -> None:
    @serve.deployment(health_check_period_s=0.1, health_check_timeout_s=5)
    class Moody:
        def __init__(self) -> None:
            self.healthy = True

        def check_health(self) -> None:
            if not self.healthy:
                raise RuntimeError("not today")

        def spoil(self) -> int:
            self.healthy = False
            return os.getpid()

        def pid(self) -> int:
            return os.getpid()

    handle = serve.run(Moody.bind(), route_prefix=None)
    spoilt = handle.spoil.remote().result()

    def replaced() -> bool:
        try:
            return bool(handle.pid.remote().result(timeout_s=30) != spoilt)
        except serve.errors.ReplicaUnavailableError:
            return False

    until(replaced, "the unhealthy replica stayed")


def test_the_lifecycle_of_a_detail_deployment_follows_its_application() -> None:
    @serve.deployment
    class Detail:
        def __call__(self) -> int:
            return 1

    @serve.deployment
    class Whole:
        def __init__(self, detail: DeploymentHandle[object] | None = None) -> None:
            self.detail = detail

        async def __call__(self) -> int:
            return 0 if self.detail is None else await self.detail.remote()

    serve.run(Whole.bind(Detail.bind()))
    assert httpx.get(url()).json() == 1
    serve.run(Whole.bind())
    assert httpx.get(url()).json() == 0
    until(lambda: set(serve.status().applications["default"].deployments) == {"Whole"}, "Detail stayed")


def _replica_states() -> dict[str, int]:
    (application,) = serve.status().applications.values()
    (deployment,) = application.deployments.values()
    return deployment.replica_states
