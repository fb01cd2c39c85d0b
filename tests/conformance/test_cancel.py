"""Cancelling tasks and actor calls: queued, running, nested, finished."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import LOGICAL_CPUS, ray

pytestmark = [
    pytest.mark.usefixtures("session"),
    pytest.mark.needs_processes("inline has finished a task before anybody can cancel it"),
]
#: Seconds within which a cancelled call must have answered. Generous: no test measures speed.
SOON = 20
#: Seconds a task sleeps that must not be waited for.
VERY_LONG = 300
TaskCancelledError = ray.exceptions.TaskCancelledError


@ray.remote
def loop(started: Gate, gate: Gate | None = None) -> str:
    """Say that it runs, then run Python code until the gate opens."""
    started.open()
    deadline = time.monotonic() + VERY_LONG
    while time.monotonic() < deadline and not (gate is not None and gate.is_open()):
        time.sleep(0.001)
    return "finished"


@ray.remote
def sleep(started: Gate) -> str:
    started.open()
    time.sleep(VERY_LONG)
    return "slept"


@ray.remote
def echo(value: Any) -> Any:
    return value


def assert_cancelled(ref: Any) -> None:
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=SOON)


def test_a_running_loop_is_interrupted(gate: Gate) -> None:
    ref = loop.remote(gate)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)


def test_a_queued_task_never_runs(gate: Gate, make_gate: Any, tally: Tally) -> None:
    @ray.remote
    def record(tally: Tally) -> None:
        tally.add("ran")

    started = [make_gate(f"started-{i}") for i in range(LOGICAL_CPUS)]
    running = [loop.remote(one, gate) for one in started]
    for one in started:
        one.wait()
    queued = record.remote(tally)
    ray.cancel(queued)
    assert_cancelled(queued)
    gate.open()
    assert ray.get(running) == ["finished"] * LOGICAL_CPUS
    assert ray.get(echo.remote("after")) == "after"
    assert tally.count() == 0


@pytest.mark.better_than_ray("cancel interrupts blocking calls such as time.sleep, not only Python code")
def test_a_sleeping_task_is_interrupted(gate: Gate) -> None:
    ref = sleep.remote(gate)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)


@pytest.mark.better_than_ray("force=True wins also after a cancel without force")
def test_force_works_after_a_cancel_without_force(gate: Gate) -> None:
    @ray.remote
    def stubborn(started: Gate) -> None:
        started.open()
        deadline = time.monotonic() + VERY_LONG
        while time.monotonic() < deadline:
            try:
                time.sleep(1)
            except KeyboardInterrupt:
                pass

    ref = stubborn.remote(gate)
    gate.wait()
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.2)
    ray.cancel(ref, force=True)
    assert_cancelled(ref)


def test_force_ends_even_a_sleeping_task(gate: Gate) -> None:
    ref = sleep.remote(gate)
    gate.wait()
    ray.cancel(ref, force=True)
    with pytest.raises((TaskCancelledError, ray.exceptions.WorkerCrashedError)):
        ray.get(ref, timeout=SOON)
    assert ray.get(echo.remote("next")) == "next"


def test_the_task_sees_a_keyboard_interrupt_and_can_clean_up(gate: Gate, tally: Tally) -> None:
    @ray.remote
    def careful(started: Gate, tally: Tally) -> None:
        try:
            started.open()
            deadline = time.monotonic() + VERY_LONG
            while time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            tally.add("cleaned up")

    ref = careful.remote(gate, tally)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)
    wait_until(lambda: tally.lines() == ["cleaned up"])


def test_a_cancelled_task_is_not_retried(gate: Gate, tally: Tally) -> None:
    @ray.remote(max_retries=5, retry_exceptions=True)
    def count_and_loop(started: Gate, tally: Tally) -> None:
        tally.add("attempt")
        started.open()
        deadline = time.monotonic() + VERY_LONG
        while time.monotonic() < deadline:
            time.sleep(0.001)

    ref = count_and_loop.remote(gate, tally)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)
    assert ray.get(echo.remote("after")) == "after"
    assert tally.count() == 1


def test_cancelling_a_finished_task_changes_nothing() -> None:
    ref = echo.remote("kept")
    assert ray.get(ref) == "kept"
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == "kept"


def test_cancelling_twice_is_harmless(gate: Gate) -> None:
    ref = loop.remote(gate)
    gate.wait()
    ray.cancel(ref)
    ray.cancel(ref)
    assert_cancelled(ref)


def test_a_stored_object_cannot_be_cancelled() -> None:
    ref = ray.put("stored")
    ray.cancel(ref)
    assert ray.get(ref) == "stored"


@pytest.mark.parametrize("argument", [1, "ref", None, []])
def test_cancel_refuses_anything_else(argument: Any) -> None:
    with pytest.raises(TypeError):
        ray.cancel(argument)


def test_a_cancelled_reference_counts_as_ready(gate: Gate) -> None:
    ref = loop.remote(gate)
    gate.wait()
    ray.cancel(ref)
    assert ray.wait([ref], timeout=SOON) == ([ref], [])
    assert_cancelled(ref)


def test_every_return_reference_of_a_cancelled_task_raises(gate: Gate) -> None:
    refs = loop.options(num_returns=2).remote(gate)
    gate.wait()
    ray.cancel(refs[0])
    for ref in refs:
        assert_cancelled(ref)


def test_cancelling_reaches_dependents_downstream_only(gate: Gate, make_gate: Any) -> None:
    upstream = loop.remote(make_gate("started"), gate)
    middle = echo.remote(upstream)
    downstream = echo.remote(middle)
    ray.cancel(middle)
    assert_cancelled(middle)
    assert_cancelled(downstream)
    gate.open()
    assert ray.get(upstream) == "finished"


def test_cancelling_the_argument_fails_the_task_that_needs_it(gate: Gate) -> None:
    upstream = loop.remote(gate)
    dependent = echo.remote(upstream)
    gate.wait()
    ray.cancel(upstream)
    assert_cancelled(dependent)


def test_cancel_reaches_children(gate: Gate, make_gate: Any, tally: Tally) -> None:
    @ray.remote
    def child(started: Gate, tally: Tally) -> None:
        started.open()
        try:
            deadline = time.monotonic() + VERY_LONG
            while time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            tally.add("child ended")

    @ray.remote
    def parent(started: Gate, tally: Tally) -> None:
        ray.get(child.remote(started, tally))

    ref = parent.remote(gate, tally)
    gate.wait()
    ray.cancel(ref, recursive=True)
    assert_cancelled(ref)
    wait_until(lambda: tally.lines() == ["child ended"], what="the child to end")


def test_cancel_without_recursion_spares_children(gate: Gate, make_gate: Any, tally: Tally) -> None:
    @ray.remote
    def child(started: Gate, gate: Gate, tally: Tally) -> None:
        started.open()
        gate.wait()
        tally.add("child finished")

    @ray.remote
    def parent(started: Gate, gate: Gate, tally: Tally) -> None:
        ray.get(child.remote(started, gate, tally))

    started = make_gate("started")
    ref = parent.remote(started, gate, tally)
    started.wait()
    ray.cancel(ref, recursive=False)
    assert_cancelled(ref)
    gate.open()
    wait_until(lambda: tally.lines() == ["child finished"], what="the child to finish")


def test_a_storm_of_cancels_ends(gate: Gate) -> None:
    @ray.remote
    def wait_for(gate: Gate) -> None:
        gate.wait(VERY_LONG)

    refs = [wait_for.remote(gate) for _ in range(200)]
    for ref in refs:
        ray.cancel(ref)
    for ref in refs:
        assert_cancelled(ref)
    assert ray.get(echo.remote("after the storm")) == "after the storm"


def test_a_task_cancels_another_one(gate: Gate) -> None:
    @ray.remote
    def canceller(refs: list[Any]) -> None:
        ray.cancel(refs[0])

    ref = loop.remote(gate)
    gate.wait()
    ray.get(canceller.remote([ref]))
    assert_cancelled(ref)


def test_force_is_refused_for_actor_calls(gate: Gate) -> None:
    @ray.remote
    class Actor:
        def wait(self, gate: Gate) -> str:
            gate.wait()
            return "finished"

    actor = Actor.remote()
    ref = actor.wait.remote(gate)
    with pytest.raises(ValueError):
        ray.cancel(ref, force=True)
    gate.open()
    assert ray.get(ref) == "finished"


def test_an_async_actor_call_is_cancelled_and_the_actor_lives(gate: Gate) -> None:
    @ray.remote
    class Actor:
        def __init__(self) -> None:
            self.cancelled = 0

        async def forever(self, started: Gate) -> None:
            started.open()
            try:
                await asyncio.sleep(VERY_LONG)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        async def count(self) -> int:
            return self.cancelled

    actor = Actor.remote()
    ref = actor.forever.remote(gate)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)
    assert ray.get(actor.count.remote()) == 1


def test_a_sync_method_can_ask_whether_it_is_cancelled(gate: Gate) -> None:
    @ray.remote(max_concurrency=2)
    class Actor:
        def polite(self, started: Gate) -> str:
            started.open()
            wait_until(ray.get_runtime_context().is_canceled)
            return "left early"

    actor = Actor.remote()
    ref = actor.polite.remote(gate)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)


@pytest.mark.better_than_ray("cancel interrupts a running sync method of an actor; the actor and its state live on")
def test_a_running_sync_method_is_interrupted(gate: Gate) -> None:
    @ray.remote
    class Actor:
        state = "kept"

        def sleep(self, started: Gate) -> None:
            started.open()
            time.sleep(VERY_LONG)

        def read(self) -> str:
            return self.state

    actor = Actor.remote()
    ref = actor.sleep.remote(gate)
    gate.wait()
    ray.cancel(ref)
    assert_cancelled(ref)
    assert ray.get(actor.read.remote(), timeout=SOON) == "kept"


@pytest.mark.better_than_ray("a call queued behind a running method is cancelled at once, not when its turn comes")
def test_a_call_queued_behind_a_running_method_is_cancelled_at_once(gate: Gate, tally: Tally, make_gate: Any) -> None:
    @ray.remote
    class Actor:
        def wait(self, started: Gate, gate: Gate) -> str:
            started.open()
            gate.wait()
            return "finished"

        def record(self, tally: Tally) -> None:
            tally.add("ran")

    actor = Actor.remote()
    started = make_gate("started")
    running = actor.wait.remote(started, gate)
    started.wait()
    queued = actor.record.remote(tally)
    ray.cancel(queued)
    assert_cancelled(queued)
    assert not gate.is_open()
    gate.open()
    assert ray.get(running) == "finished"
    assert tally.count() == 0
