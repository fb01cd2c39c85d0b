"""The event loop of asyncio actors: which kind it is, and that it always comes to read."""

from __future__ import annotations

import asyncio

import pytest

import core
from core.exceptions import TaskCancelledError

pytestmark = pytest.mark.usefixtures("session")


class Looped:
    async def loop_module(self) -> str:
        return type(asyncio.get_running_loop()).__module__

    @core.method(concurrency_group="other")
    async def other_loop_module(self) -> str:
        return type(asyncio.get_running_loop()).__module__


def test_the_environment_chooses_the_loop() -> None:
    pytest.importorskip("uvloop")
    looped = core.remote(concurrency_groups={"other": 1})(Looped)
    asked = looped.options(runtime_env={"env_vars": {"SKATE_EVENT_LOOP": "uvloop"}}).remote()
    assert core.get([asked.loop_module.remote(), asked.other_loop_module.remote()]) == ["uvloop", "uvloop"]
    plain = looped.remote()
    assert core.get(plain.loop_module.remote()).startswith("asyncio.")


def test_an_actor_answers_whoever_reads_while_it_starts() -> None:
    """The thread in the background may be reading when the loop begins; it has to make room."""
    actor_class = core.remote(Plain)
    for _ in range(30):
        actor = actor_class.remote()
        assert core.get(actor.answer.remote(), timeout=20) == 42
        core.kill(actor)


def test_a_call_cancelled_before_it_began_ends() -> None:
    actor = core.remote(Plain).remote()
    core.get(actor.answer.remote())
    for _ in range(20):
        call = actor.wait.remote()
        core.cancel(call)
        with pytest.raises(TaskCancelledError):
            core.get(call, timeout=20)


class Plain:
    async def answer(self) -> int:
        return 42

    async def wait(self) -> None:
        await asyncio.Event().wait()
