"""The controller as an actor that is killed: clients notice nothing, and what was wanted comes about."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import httpx
import pytest

import core
import serve
from core.util import kv, list_named_actors
from serve import session
from serve.api import client
from serve.schema import ApplicationStatusOverview
from serve.specs import CONTROLLER_NAME, NAMESPACE
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.load import Load

PATIENCE = 60


@pytest.fixture(scope="module")
def detached() -> Iterator[None]:
    core.init(num_cpus=2, _preloaded_modules=(*session.PRELOADED, session.CONTROLLER))  # quick to start again
    serve.start(http_options={"port": 0}, detached=True)
    try:
        yield
    finally:
        serve.shutdown()
        core.shutdown()


@pytest.fixture(autouse=True)
def _apps(detached: None) -> Iterator[None]:
    yield
    for name in serve.status().applications:
        serve.delete(name)
    for key in kv.keys("test/"):
        kv.delete(key)


def version(number: int, replicas: int = 1, *, gate: str = "") -> serve.Application:
    """An application that answers with a number; its constructor waits for a key, if one is given."""

    @serve.deployment(name="app", num_replicas=replicas)
    class App:
        def __init__(self, number: int, gate: str) -> None:
            self.number = number
            if gate:
                kv.put("test/reached", b"")
                kv.watch(gate).poll(PATIENCE)
                raise_if_broken(gate)

        async def __call__(self) -> str:
            return f"{self.number}"

        async def pid(self) -> int:
            return os.getpid()

    def raise_if_broken(gate: str) -> None:
        entry = kv.get(gate)
        if entry is not None and entry.value == b"broken":
            raise OSError("disk on fire")

    return App.bind(number, gate)


def controller() -> int:
    """Wait until a controller acts, and return its process id."""
    actor = core.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
    pid: int = core.get(actor.ready.remote(), timeout=PATIENCE)
    return pid


def kill_controller() -> None:
    before = controller()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: controller() != before, PATIENCE)


def app() -> ApplicationStatusOverview:
    return serve.status().applications["default"]


def is_settled(replicas: int) -> bool:
    status = app()
    return status.status == "RUNNING" and status.deployments["app"].replica_states == {"RUNNING": replicas}


def answered(load: Load, text: str, more: int = 30) -> None:
    seen = load.texts[text]
    eventually(lambda: load.texts[text] > seen + more, PATIENCE)


def in_background(work: object) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()  # type: ignore[operator]
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_killed_controller_is_not_missed(replicas: int) -> None:
    handle = serve.run(version(1, replicas))
    with Load(url()) as load:
        answered(load, "1")
        pid = handle.pid.remote().result()
        kill_controller()
        assert is_settled(replicas)
        answered(load, "1")
        assert replicas > 1 or handle.pid.remote().result() == pid
        serve.run(version(2, replicas))
        answered(load, "2")
        eventually(lambda: is_settled(replicas), PATIENCE)
    assert set(load.answers) == {"200"}
    os.kill(handle.pid.remote().result(), signal.SIGKILL)
    eventually(lambda: is_settled(replicas) and httpx.get(url()).text == "2", PATIENCE)
    assert [revision.revision for revision in revisions()] == [2, 1]


def revisions() -> list[object]:
    found: list[object] = client.running_controller().call("revisions", "default")
    return found


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_rollout_goes_on_after_two_deaths(replicas: int) -> None:
    serve.run(version(1, replicas))
    with Load(url()) as load:
        answered(load, "1")
        rollout, errors = in_background(lambda: serve.run(version(2, replicas, gate="test/gate")))
        eventually(lambda: kv.get("test/reached") is not None, PATIENCE)
        kill_controller()
        answered(load, "1")
        kill_controller()
        answered(load, "1")
        kv.put("test/gate", b"open")
        rollout.join(PATIENCE)
        assert not rollout.is_alive()
        answered(load, "2")
        eventually(lambda: is_settled(replicas), PATIENCE)
    assert not errors
    assert set(load.answers) == {"200"}
    actors = {each["name"] for each in list_named_actors(all_namespaces=True)}
    assert sum(name.startswith("default#app#") for name in actors) == replicas


def test_a_broken_app_over_a_healthy_one_is_rolled_back_by_the_next_controller() -> None:
    serve.run(version(1))
    with Load(url()) as load:
        answered(load, "1")
        rollout, errors = in_background(lambda: serve.run(version(2, gate="test/gate")))
        eventually(lambda: kv.get("test/reached") is not None, PATIENCE)
        kill_controller()
        kv.put("test/gate", b"broken")
        rollout.join(PATIENCE)
        assert not rollout.is_alive()
        answered(load, "1")
    assert set(load.answers) == {"200"}
    assert "disk on fire" in str(errors[0])
    assert "raise_if_broken" in str(errors[0])
    assert "disk on fire" in app().message
    kill_controller()
    assert "disk on fire" in app().message
    assert is_settled(1)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_death_while_there_is_no_controller_is_found(replicas: int) -> None:
    handle = serve.run(version(1, replicas))
    pid = handle.pid.remote().result()
    before = controller()
    os.kill(before, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: controller() != before and is_settled(replicas), PATIENCE)
    assert handle.pid.remote().result(timeout_s=PATIENCE) != pid
    assert httpx.get(url()).text == "1"


def test_a_deleted_application_stays_deleted() -> None:
    serve.run(version(1))
    serve.run(version(2), name="other", route_prefix="/other")
    serve.delete("other")
    kill_controller()
    assert set(serve.status().applications) == {"default"}
    assert httpx.get(url()).text == "1"
    assert httpx.get(url("/other")).text == "1"


def test_a_crash_loop_is_told_with_the_traceback_and_ends_when_its_cause_does() -> None:
    @serve.deployment(name="app")
    class Moody:
        def __init__(self) -> None:
            if kv.get("test/bad") is not None:
                kv.put("test/tried", b"")
                raise OSError("the database is away")

        async def __call__(self) -> str:
            return "fine"

        async def pid(self) -> int:
            return os.getpid()

    handle = serve.run(Moody.bind())
    kv.put("test/bad", b"")
    os.kill(handle.pid.remote().result(), signal.SIGKILL)
    eventually(lambda: "the database is away" in app().message and app().status == "UNHEALTHY", PATIENCE)
    assert "in __init__" in app().message
    kill_controller()
    kv.delete("test/tried")
    eventually(lambda: kv.get("test/tried") is not None, PATIENCE)
    kv.delete("test/bad")
    eventually(lambda: is_settled(1), PATIENCE)
    assert app().message == ""
    assert httpx.get(url()).text == "fine"


def test_what_does_not_run_at_all_is_told_with_the_traceback() -> None:
    @serve.deployment(name="app", max_constructor_retry_count=2)
    class Broken:
        def __init__(self) -> None:
            kv.put(f"test/tries/{os.getpid()}", b"")
            raise OSError("no such model")

    with pytest.raises(RuntimeError, match="no such model"):
        serve.run(Broken.bind())
    assert app().status == "DEPLOY_FAILED"
    assert "in __init__" in app().message
    assert len(kv.keys("test/tries/")) == 2
