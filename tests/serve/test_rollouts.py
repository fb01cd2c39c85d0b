"""Two revisions of an application under load: canaries, tests, shadows, promotions and ways back fail no request."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import httpx
import pytest

import serve
from serve.handle import DeploymentHandle
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.load import Load

pytestmark = pytest.mark.usefixtures("apps")

#: seconds that a test waits for what has to come about
PATIENCE = 60


def app(number: int, **options: object) -> serve.Application:
    @serve.deployment(name="app", **options)
    class App:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self) -> str:
            return f"{self.number}"

        async def which(self) -> int:
            return self.number

        async def who(self) -> tuple[int, int]:
            return self.number, os.getpid()

    return App.bind(number)


def chain(number: int) -> serve.Application:
    """An application whose ingress stays the same while the model behind it changes."""

    @serve.deployment(name="model")
    class Model:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self) -> int:
            return self.number

    @serve.deployment(name="front")
    class Front:
        def __init__(self, model: DeploymentHandle[object]) -> None:
            self.model = model

        async def __call__(self) -> str:
            return f"{await self.model.remote()} {await self.model.remote()}"

    return Front.bind(Model.bind(number))


def traffic() -> list[tuple[int, float]]:
    (application,) = serve.status().applications.values()
    return [(each.revision, each.weight) for each in application.traffic]


def replica_states() -> dict[str, int]:
    (application,) = serve.status().applications.values()
    (deployment,) = application.deployments.values()
    return deployment.replica_states


def test_canary_promotion_and_rollback_fail_no_request_with_one_replica() -> None:
    serve.run(app(1))
    with Load(url(), clients=2) as load:
        eventually(lambda: load.texts["1"] > 50, PATIENCE, "the first revision did not answer")
        handle = serve.run(app(2), canary=0.25)
        eventually(lambda: load.texts["2"] > 20, PATIENCE, "the canary did not answer")
        assert traffic() == [(1, 0.75), (2, 0.25)]
        before = load.texts["1"]
        eventually(
            lambda: load.texts["1"] > before + 50, PATIENCE, "the first revision does not answer beside the canary"
        )
        assert serve.promote("default") == 2
        eventually(lambda: replica_states() == {"RUNNING": 1}, PATIENCE, "the first revision did not stop")
        assert {handle.which.remote().result() for _ in range(10)} == {2}
        assert serve.rollback("default") == 3
        assert {handle.which.remote().result() for _ in range(10)} == {1}
        before = load.texts["1"]
        eventually(lambda: load.texts["1"] > before + 50, PATIENCE, "what was rolled back to did not answer")
    assert set(load.answers) == {"200"}
    assert serve.status().applications["default"].revision == 3


def test_weights_and_sessions_and_revisions_by_name_through_handles() -> None:
    handle = serve.run(app(1), route_prefix=None)
    serve.run(app(2), route_prefix=None, canary=0.5)
    assert {handle.which.remote().result() for _ in range(60)} == {1, 2}
    sticky = [handle.options(session_id=f"s{number}") for number in range(30)]
    first = [each.which.remote().result() for each in sticky]
    assert [each.which.remote().result() for each in sticky] == first
    assert set(first) == {1, 2}
    assert {handle.options(revision=2).which.remote().result() for _ in range(10)} == {2}
    serve.set_traffic("default", {1: 0, 2: 1})
    assert {handle.which.remote().result() for _ in range(30)} == {2}
    serve.set_traffic("default", {1: 1})
    assert {handle.which.remote().result() for _ in range(30)} == {1}
    assert traffic() == []


def test_a_header_leads_to_the_canary_and_calls_inside_stay_in_their_revision() -> None:
    serve.run(chain(1))
    serve.run(chain(2), canary=0.0, canary_header=("X-Beta", "1"))
    (application,) = serve.status().applications.values()
    assert set(application.traffic[1].deployments) == {"model"}, "what both have in common runs once"
    with httpx.Client() as client:
        for _ in range(20):
            assert client.get(url()).text == "1 1"
            assert client.get(url(), headers={"x-beta": "1"}).text == "2 2"
            assert client.get(url(), headers={"x-beta": "2"}).text == "1 1"
    serve.promote("default")
    assert httpx.get(url()).text == "2 2"


def test_a_shadow_sees_the_requests_and_harms_nobody(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.touch()

    @serve.deployment(name="app", max_ongoing_requests=2)
    class Shadow:
        async def __call__(self, request: object) -> str:
            with seen.open("a") as file:
                file.write(f"{(await request.body()).decode()}\n")  # type: ignore[attr-defined]
            raise RuntimeError("never to be seen")

    serve.run(app(1))
    serve.run(Shadow.bind(), shadow=True)
    numbers = itertools.cycle(range(20))

    def has_seen_enough() -> bool:
        assert client.post(url(), content=f"{next(numbers)}").text == "1"
        return len(seen.read_text().split()) > 5

    with httpx.Client() as client:
        eventually(has_seen_enough, PATIENCE, "the shadow got nothing")  # it gets what comes while it is free, no more
    assert set(seen.read_text().split()) <= {str(number) for number in range(20)}
    with pytest.raises(ValueError, match="give it no weight"):
        serve.set_traffic("default", {2: 0.5}, shadow=2)


def test_a_shadow_that_hangs_slows_nobody() -> None:
    @serve.deployment(name="app", max_ongoing_requests=1, graceful_shutdown_timeout_s=0)
    class Hanging:
        async def __call__(self) -> None:
            import asyncio

            await asyncio.Event().wait()

        async def which(self) -> None:
            await self()

    handle = serve.run(app(1))
    serve.run(Hanging.bind(), shadow=True)
    with httpx.Client(timeout=20) as client:
        assert {client.get(url()).text for _ in range(50)} == {"1"}
    assert {handle.which.remote().result(timeout_s=20) for _ in range(50)} == {1}
    assert serve.rollback("default") == 1


def test_a_canary_that_cannot_start_is_taken_out_with_its_traceback() -> None:
    @serve.deployment(name="app", max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise OSError("no weights on disk")

    serve.run(app(1))
    with Load(url(), clients=2) as load:
        eventually(lambda: load.texts["1"] > 20, PATIENCE, "no answers")
        with pytest.raises(RuntimeError, match="no weights on disk"):
            serve.run(Broken.bind(), canary=0.5)
        before = load.texts["1"]
        eventually(lambda: load.texts["1"] > before + 20, PATIENCE, "no answers after the canary")
    assert set(load.answers) == {"200"}
    (application,) = serve.status().applications.values()
    assert application.status == "RUNNING"
    assert "revision 2 was rolled back to 1" in application.message
    assert "in __init__" in application.message


def test_a_canary_that_keeps_dying_is_taken_out_and_its_requests_go_to_the_first() -> None:
    serve.run(app(1))
    handle = serve.run(app(2), canary=0.3)
    killed: set[int] = set()
    with Load(url(), clients=2) as load:

        def taken_out() -> bool:
            if not traffic():
                return True
            try:
                number, pid = handle.options(revision=2).who.remote().result(timeout_s=30)
                if number == 2 and pid not in killed:
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
            except (serve.errors.RayServeException, ProcessLookupError):
                pass
            return False

        eventually(taken_out, PATIENCE, "the canary stayed")
        before = load.texts["1"]
        eventually(lambda: load.texts["1"] > before + 50, PATIENCE, "no answers after the canary")
    assert set(load.answers) == {"200"}, "GETs that a dying replica had are repeated"
    assert "revision 2 was rolled back to 1" in serve.status().applications["default"].message


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no application 'default'"):
        serve.run(app(1), canary=0.5)
    serve.run(app(1))
    with pytest.raises(ValueError, match="from 0 to 1"):
        serve.run(app(2), canary=20)
    with pytest.raises(ValueError, match="served where the first one is"):
        serve.run(app(2), route_prefix="/two", canary=0.5)
    with pytest.raises(ValueError, match="no revision 7"):
        serve.set_traffic("default", {7: 0.5})
    with pytest.raises(ValueError, match="no second revision"):
        serve.promote("default")
    with pytest.raises(ValueError, match="no earlier revision"):
        serve.rollback("default")
    assert httpx.get(url()).text == "1"
