"""The options of ``@serve.deployment`` that say how replicas live and what they take on: no test passes without its."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import core
import serve
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.load import Load

pytestmark = pytest.mark.usefixtures("apps")

#: seconds that a test waits for what has to come about
PATIENCE = 60


def states() -> dict[str, int]:
    (application,) = serve.status().applications.values()
    (deployment,) = application.deployments.values()
    return deployment.replica_states


def app(number: int, folder: Path, **options: object) -> serve.Application:
    """An application that answers with its number, once the folder has a file ``go``."""

    @serve.deployment(name="app", **options)
    class App:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self) -> str:
            with (folder / "begun").open("a") as file:
                file.write("x")
            while not (folder / "go").exists():
                await asyncio.sleep(0.01)
            return f"{self.number}"

    return App.bind(number)


def begun(folder: Path) -> int:
    file = folder / "begun"
    return len(file.read_text()) if file.exists() else 0


# The first tests need replicas that accept clients themselves; a proxy that once was started stays.


def test_graceful_shutdown_wait_loop_s_is_the_time_for_one_more_request(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    options = {"graceful_shutdown_wait_loop_s": 600, "graceful_shutdown_timeout_s": 600}
    serve.run(app(1, tmp_path, **options))
    with httpx.Client(timeout=60) as client:
        assert client.get(url()).text == "1"
        serve.run(app(2, tmp_path, graceful_shutdown_wait_loop_s=0))
        assert states()["STOPPING"] == 1
        closing = False
        while not closing:  # it may not have heard yet
            answer = client.get(url())
            assert answer.text == "1", "the connection is that replica's"
            closing = answer.headers.get("connection") == "close"
        eventually(lambda: states() == {"RUNNING": 1}, PATIENCE, "the old replica did not end after its last client")
        assert client.get(url()).text == "2"
        serve.run(app(3, tmp_path))
        eventually(lambda: states() == {"RUNNING": 1}, PATIENCE, "it waits although it should not")
        assert client.get(url()).text == "3"


@pytest.mark.parametrize("proxied", [False, True])
def test_max_queued_requests_and_backpressure_config(tmp_path: Path, *, proxied: bool) -> None:
    (tmp_path / "go").touch()
    if proxied:
        serve.run(app(0, tmp_path), name="other", route_prefix="/other")
        (tmp_path / "begun").unlink(missing_ok=True)
    (tmp_path / "go").unlink()
    backpressure = {"status_code": 429, "retry_after_s": 7}
    serve.run(app(1, tmp_path, max_ongoing_requests=1, max_queued_requests=1, backpressure_config=backpressure))
    with ThreadPoolExecutor(6) as threads:
        requests = [threads.submit(httpx.get, url(), timeout=60) for _ in range(6)]
        eventually(lambda: sum(request.done() for request in requests) == 4, PATIENCE, "four of six are refused")
        refused = [request.result() for request in requests if request.done()]
        (tmp_path / "go").touch()
        assert sorted(request.result().status_code for request in requests) == [200, 200, 429, 429, 429, 429]
    assert {answer.headers["retry-after"] for answer in refused} == {"7"}


def test_request_timeout_s(tmp_path: Path) -> None:
    serve.run(app(0, tmp_path), name="other", route_prefix="/other")
    serve.run(app(1, tmp_path, request_timeout_s=0.2))
    assert httpx.get(url(), timeout=60).status_code == 504


def test_max_ongoing_requests_changes_without_a_restart() -> None:
    @serve.deployment(name="app")
    class Counting:
        def __init__(self) -> None:
            self.now = self.most = 0
            self.enough = 1000

        async def work(self, enough: int) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            while self.most < enough and self.now:
                await asyncio.sleep(0.01)
            self.now -= 1

        def in_a_thread(self, enough: int) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            while self.most < enough:
                time.sleep(0.01)
            self.now -= 1

        async def highest(self) -> tuple[int, int]:
            most, self.most = self.most, 0
            return os.getpid(), most

    limited = serve.run(Counting.options(max_ongoing_requests=2).bind(), route_prefix=None)
    for method in (limited.work, limited.in_a_thread):
        for response in [method.remote(2) for _ in range(10)]:
            response.result(timeout_s=60)
    pid, most = limited.highest.remote().result(timeout_s=60)
    assert most == 2
    serve.run(Counting.options(max_ongoing_requests=80).bind(), route_prefix=None)
    for method in (limited.work, limited.in_a_thread):
        for response in [method.remote(80) for _ in range(80)]:
            response.result(timeout_s=60)
        assert limited.highest.remote().result(timeout_s=60) == (pid, 80)


def test_a_user_config_that_is_refused_is_taken_back() -> None:
    @serve.deployment(name="app", user_config={"threshold": 1})
    class Picky:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def reconfigure(self, config: dict[str, int]) -> None:
            if config["threshold"] < 0:
                raise ValueError(f"{config['threshold']} is below zero")
            self.seen.append(config["threshold"])

        def __call__(self) -> str:
            return f"{os.getpid()} {self.seen}"

    handle = serve.run(Picky.bind(), route_prefix=None)
    pid = handle.remote().result().split()[0]
    with pytest.raises(RuntimeError, match="-1 is below zero"):
        serve.run(Picky.options(user_config={"threshold": -1}).bind(), route_prefix=None)
    eventually(lambda: handle.remote().result() == f"{pid} [1, 1]", PATIENCE, "the old options are not in force again")
    (application,) = serve.status().applications.values()
    assert application.revision == 1
    assert "revision 2 was rolled back to 1" in application.message
    serve.run(Picky.options(user_config={"threshold": 5}).bind(), route_prefix=None)
    assert handle.remote().result() == f"{pid} [1, 1, 5]"


def test_health_check_period_s_is_the_time_between_checks(tmp_path: Path) -> None:
    def checked(name: str, period: float) -> serve.Application:
        @serve.deployment(name="app", health_check_period_s=period)
        class Checked:
            async def check_health(self) -> None:
                with (tmp_path / name).open("a") as file:
                    file.write("x")

        return Checked.bind()

    serve.run(checked("often", 0.02), name="often", route_prefix=None)
    serve.run(checked("rarely", 600), name="rarely", route_prefix=None)
    eventually(lambda: (tmp_path / "often").stat().st_size > 5, PATIENCE, "nobody checks")
    assert (tmp_path / "rarely").stat().st_size == 1, "once before the first request"


def test_health_check_timeout_s_ends_a_replica_that_hangs(tmp_path: Path) -> None:
    @serve.deployment(name="app", health_check_period_s=0.05, health_check_timeout_s=0.3)
    class Hanging:
        async def check_health(self) -> None:
            if (tmp_path / f"hang{os.getpid()}").exists():
                await asyncio.Event().wait()

        async def __call__(self) -> int:
            return os.getpid()

    handle = serve.run(Hanging.bind(), route_prefix=None)
    pid = handle.remote().result()
    (tmp_path / f"hang{pid}").touch()

    def replaced() -> bool:
        try:
            return bool(handle.remote().result(timeout_s=60) != pid)
        except serve.errors.ReplicaUnavailableError:
            return False

    eventually(replaced, PATIENCE, "the hanging replica stayed")


def test_the_only_replica_serves_on_while_its_replacement_starts(tmp_path: Path) -> None:
    sick = tmp_path / "sick"  # holds the pid of the replica that is

    @serve.deployment(name="app", health_check_period_s=0.05)
    class Moody:
        def __init__(self) -> None:
            while sick.exists() and not (tmp_path / "start").exists():
                time.sleep(0.01)

        async def check_health(self) -> None:
            if sick.exists() and sick.read_text() == str(os.getpid()):
                raise RuntimeError("not today")

        async def __call__(self) -> str:
            return str(os.getpid())

    serve.run(Moody.bind())
    (first,) = {httpx.get(url()).text}
    with Load(url()) as load:
        sick.write_text(first)
        eventually(lambda: serve.status().applications["default"].status == "UNHEALTHY", PATIENCE, "nobody noticed")
        assert "not today" in serve.status().applications["default"].message
        before = load.texts[first]
        eventually(lambda: load.texts[first] > before + 50, PATIENCE, "it does not serve on")
        (tmp_path / "start").touch()
        eventually(lambda: len(load.texts) > 1, PATIENCE, "it is not replaced")
        eventually(lambda: states() == {"RUNNING": 1}, PATIENCE, "it does not go")
    assert set(load.answers) == {"200"}


def test_a_version_that_is_never_well_is_rolled_back(tmp_path: Path) -> None:
    (tmp_path / "go").touch()

    @serve.deployment(name="app", max_constructor_retry_count=1)
    class NeverWell:
        def check_health(self) -> None:
            raise RuntimeError("the database is away")

        def __call__(self) -> str:
            return "never"

    serve.run(app(1, tmp_path))
    with pytest.raises(RuntimeError, match="the database is away"):
        serve.run(NeverWell.bind())
    assert httpx.get(url()).text == "1"


def test_a_first_check_that_hangs_is_a_failed_start() -> None:
    @serve.deployment(max_constructor_retry_count=1, health_check_timeout_s=0.2)
    class Hanging:
        async def check_health(self) -> None:
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match=r"did not return within 0\.2 s"):
        serve.run(Hanging.bind(), route_prefix=None)


def test_max_constructor_retry_count(tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"

    @serve.deployment(max_constructor_retry_count=4)
    class Broken:
        def __init__(self) -> None:
            with attempts.open("a") as file:
                file.write("x")
            raise OSError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        serve.run(Broken.bind(), route_prefix=None)
    assert attempts.stat().st_size == 4


def test_graceful_shutdown_timeout_s_is_the_time_that_requests_have(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        serve.run(app(1, tmp_path, graceful_shutdown_timeout_s=600))
        patient = threads.submit(httpx.get, url(), timeout=60)
        eventually(lambda: begun(tmp_path) == 1, PATIENCE, "the request did not begin")
        serve.run(app(2, tmp_path, graceful_shutdown_timeout_s=0))
        hurried = threads.submit(httpx.get, url(), timeout=60)
        eventually(lambda: begun(tmp_path) == 2, PATIENCE, "the request did not begin")
        serve.run(app(3, tmp_path))
        eventually(lambda: states().get("STOPPING") == 1, PATIENCE, "the second replica waits for its request")
        eventually(hurried.done, PATIENCE, "the request was not cut off")
        assert hurried.result().status_code >= 500
        assert not patient.done()
        (tmp_path / "go").touch()
        assert patient.result().text == "1"


def test_num_replicas_and_ray_actor_options() -> None:
    @serve.deployment(name="app", num_replicas=2, ray_actor_options={"num_cpus": 0.5})
    class Placed:
        async def __call__(self) -> tuple[int, str | None]:
            return os.getpid(), os.environ.get("FLAVOUR")

    before = core.available_resources()["CPU"]
    handle = serve.run(Placed.bind(), route_prefix=None)
    assert len({handle.remote().result()[0] for _ in range(50)}) == 2
    eventually(lambda: core.available_resources()["CPU"] == before - 1, PATIENCE, "the replicas reserve nothing")
    flavoured = {"runtime_env": {"env_vars": {"FLAVOUR": "vanilla"}}}
    serve.run(Placed.options(num_replicas=1, ray_actor_options=flavoured).bind(), route_prefix=None)
    assert handle.remote().result()[1] == "vanilla"
    eventually(lambda: core.available_resources()["CPU"] == before, PATIENCE, "the replicas' CPUs are not free again")
