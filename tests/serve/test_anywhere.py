"""Serve from every process of the session: tasks, actors, and the code of deployments."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import core
import serve
from core.util import kv
from serve import session
from serve.handle import DeploymentHandle
from tests.eventually import eventually

PATIENCE = 60


@pytest.fixture(scope="module", params=["thread", "actor"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(http_options={"port": 0}, detached=request.param == "actor")
    try:
        yield request.param
    finally:
        serve.shutdown()
        core.shutdown()


@pytest.fixture(autouse=True)
def _apps(mode: str) -> Iterator[None]:
    yield
    for name in serve.status().applications:
        serve.delete(name)


@serve.deployment
class Doubler:
    async def __call__(self, number: int) -> int:
        return 2 * number

    async def pid(self) -> int:
        return os.getpid()


@core.remote
class Caller:
    """Calls a deployment, blocking and not."""

    def __init__(self, handle: DeploymentHandle[Doubler]) -> None:
        self.handle = handle

    async def call(self, number: int) -> int:
        answer: int = await self.handle.remote(number)
        return answer


def test_a_handle_works_in_tasks_and_actors() -> None:
    handle = serve.run(Doubler.bind(), route_prefix=None)

    @core.remote
    def call(handle: DeploymentHandle[Doubler], number: int) -> int:
        answer: int = handle.remote(number).result(timeout_s=PATIENCE)
        return answer

    caller = Caller.remote(handle)
    assert core.get(call.remote(handle, 4)) == 8
    assert core.get([caller.call.remote(number) for number in range(20)]) == [2 * number for number in range(20)]


def test_a_handle_elsewhere_follows_a_rollout() -> None:
    handle = serve.run(Doubler.bind(), route_prefix=None)
    caller = Caller.remote(handle)
    assert core.get(caller.call.remote(1)) == 2

    @serve.deployment(name="Doubler")
    class Tripler:
        async def __call__(self, number: int) -> int:
            return 3 * number

    # the old replica stops only when the actor has taken in that there is a new one
    answers = [caller.call.remote(1) for _ in range(50)]
    serve.run(Tripler.bind(), route_prefix=None)
    answers += [caller.call.remote(1) for _ in range(50)]
    assert set(core.get(answers)) <= {2, 3}
    assert core.get(caller.call.remote(1)) == 3


def test_a_task_looks_and_finds_handles() -> None:
    serve.run(Doubler.bind(), name="doubler", route_prefix=None)

    @core.remote
    def look() -> tuple[list[str], int]:
        handle = serve.get_app_handle("doubler")
        return sorted(serve.status().applications), handle.remote(21).result(timeout_s=PATIENCE)

    @core.remote
    def miss() -> None:
        serve.get_app_handle("nobody")

    assert core.get(look.remote()) == (["doubler"], 42)
    with pytest.raises(serve.RayServeException, match="there is no application 'nobody'"):
        core.get(miss.remote())


def test_a_deployment_deploys_another_one() -> None:
    @serve.deployment
    class Parent:
        def deploy(self) -> int:
            """Runs in a thread: it may block."""
            handle = serve.run(Doubler.bind(), name="child", route_prefix="/child")
            answer: int = handle.remote(2).result(timeout_s=PATIENCE)
            return answer

        def fail(self) -> None:
            @serve.deployment
            class Broken:
                def __init__(self) -> None:
                    raise OSError("disk on fire")

            serve.run(Broken.bind(), name="broken", route_prefix=None)

        async def look(self) -> list[str]:
            """Runs in the event loop, which it blocks for a moment."""
            return sorted(serve.status().applications)

    handle = serve.run(Parent.bind(), name="parent", route_prefix=None)
    assert handle.deploy.remote().result(timeout_s=PATIENCE) == 4
    assert handle.look.remote().result(timeout_s=PATIENCE) == ["child", "parent"]
    with pytest.raises(RuntimeError, match="disk on fire"):
        handle.fail.remote().result(timeout_s=PATIENCE)
    assert serve.status().applications["child"].status == "RUNNING"


def test_large_applications_are_deployed_from_anywhere() -> None:
    @serve.deployment
    class Large:
        def __init__(self, data: bytes) -> None:
            self.size = len(data)

        async def __call__(self) -> int:
            return self.size

    @core.remote
    def deploy() -> int:
        data = os.urandom(12_000_000)
        answer: int = serve.run(Large.bind(data), name="large", route_prefix=None).remote().result(timeout_s=PATIENCE)
        return answer

    assert core.get(deploy.remote()) == 12_000_000
    serve.delete("large")
    assert not [key for key in kv.keys("serve/") if key.startswith(("serve/blob/", "serve/arguments/"))]


def test_an_answer_that_nobody_takes_does_not_stay() -> None:
    serve.run(Doubler.bind(), route_prefix=None)

    @core.remote
    def leave() -> None:
        from serve.controller import chunks, mailbox
        from serve.specs import ORDER_PREFIX

        # as a process that dies while it waits for its answer
        chunks.put(mailbox._ARGUMENTS + "orphan", b"no order at all")
        kv.put(ORDER_PREFIX + "orphan", b"")

    core.get(leave.remote())
    eventually(lambda: kv.get("serve/answer/orphan") is not None, PATIENCE)
    assert kv.get("serve/order/orphan") is None
    assert serve.status().applications["default"].status == "RUNNING"
