"""Restarting actors: how often, with which state, and what happens to the calls in between."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, process_is_gone, wait_until
from tests.conformance.target import ray

pytestmark = [
    pytest.mark.usefixtures("session"),
    pytest.mark.needs_processes("the actor's process ends"),
]
exceptions = ray.exceptions
SOON = 45


@ray.remote
class Phoenix:
    """Counts calls; its tally counts its births."""

    def __init__(self, tally: Tally, start: int = 0) -> None:
        self.tally = tally
        tally.add("born")
        self.value = start

    def increment(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        os._exit(1)

    def crash_once(self, attempts: Tally) -> int:
        attempt = attempts.add()
        if attempt == 1:
            os._exit(1)
        return attempt

    def wait(self, started: Gate, gate: Gate) -> str:
        started.open()
        gate.wait()
        return "finished"

    def reconstructed(self) -> bool:
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)

    def leave(self) -> None:
        ray.actor.exit_actor()


def kill_from_outside(handle: Any) -> int:
    """End the actor's process with SIGKILL and wait until it is gone; return its number."""
    pid = int(ray.get(handle.pid.remote(), timeout=SOON))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process_is_gone(pid))
    return pid


def answer_after_restart(call: Any) -> Any:
    """Call until the actor answers again; calls may fail as unavailable meanwhile."""
    answers: list[Any] = []

    def answered() -> bool:
        try:
            answers.append(ray.get(call(), timeout=SOON))
        except exceptions.ActorUnavailableError:
            return False
        return True

    wait_until(answered, what="the restarted actor to answer")
    return answers[-1]


def test_an_actor_is_not_restarted_by_default(tally: Tally) -> None:
    phoenix = Phoenix.remote(tally)
    kill_from_outside(phoenix)
    with pytest.raises(exceptions.RayActorError):
        ray.get(phoenix.increment.remote(), timeout=SOON)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(phoenix.increment.remote(), timeout=SOON)
    assert tally.count() == 1


def test_a_restart_runs_the_constructor_with_the_original_arguments(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1).remote(tally, 10)
    assert ray.get([phoenix.increment.remote() for _ in range(3)]) == [11, 12, 13]
    first = kill_from_outside(phoenix)
    assert answer_after_restart(phoenix.increment.remote) == 11
    assert ray.get(phoenix.pid.remote()) != first
    assert tally.count() == 2


def test_arguments_by_reference_are_kept_for_the_restart(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1).remote(tally, ray.put(20))
    assert ray.get(phoenix.increment.remote()) == 21
    kill_from_outside(phoenix)
    assert answer_after_restart(phoenix.increment.remote) == 21


def test_restarts_are_limited(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=2, max_task_retries=-1).remote(tally)
    for _ in range(2):
        kill_from_outside(phoenix)
        ray.get(phoenix.increment.remote(), timeout=SOON)
    kill_from_outside(phoenix)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(phoenix.increment.remote(), timeout=SOON)
    assert tally.count() == 3


def test_minus_one_restarts_for_ever(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=-1, max_task_retries=-1).remote(tally)
    pids = {kill_from_outside(phoenix) for _ in range(4)}
    assert ray.get(phoenix.increment.remote(), timeout=SOON) == 1
    assert len(pids) == 4 and tally.count() == 5


def test_a_call_under_way_is_unavailable_without_task_retries(gate: Gate, make_gate: Any, tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1).remote(tally)
    pid = ray.get(phoenix.pid.remote())
    started = make_gate("started")
    ref = phoenix.wait.remote(started, gate)
    started.wait()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(exceptions.ActorUnavailableError):
        ray.get(ref, timeout=SOON)
    assert answer_after_restart(phoenix.increment.remote) == 1


def test_a_call_under_way_is_retried_with_task_retries(tally: Tally, tmp_path: Any) -> None:
    phoenix = Phoenix.options(max_restarts=1, max_task_retries=1).remote(tally)
    assert ray.get(phoenix.crash_once.remote(Tally(str(tmp_path / "attempts"))), timeout=SOON) == 2


def test_task_retries_are_limited(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=-1, max_task_retries=2).remote(tally)
    with pytest.raises(exceptions.RayActorError):
        ray.get(phoenix.crash.remote(), timeout=SOON)
    wait_until(lambda: tally.count() >= 3)
    assert answer_after_restart(phoenix.increment.remote) == 1
    assert tally.count() == 4


def test_queued_calls_survive_a_restart_with_task_retries(gate: Gate, make_gate: Any, tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1, max_task_retries=-1).remote(tally)
    pid = ray.get(phoenix.pid.remote())
    started = make_gate("started")
    running = phoenix.wait.remote(started, gate)
    queued = [phoenix.increment.remote() for _ in range(5)]
    started.wait()
    os.kill(pid, signal.SIGKILL)
    gate.open()
    assert ray.get(running, timeout=SOON) == "finished"
    assert sorted(ray.get(queued, timeout=SOON)) == [1, 2, 3, 4, 5]


def test_an_actor_learns_that_it_was_restarted(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1, max_task_retries=-1).remote(tally)
    assert not ray.get(phoenix.reconstructed.remote())
    kill_from_outside(phoenix)
    assert ray.get(phoenix.reconstructed.remote(), timeout=SOON)


def test_kill_prevents_restarts(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=-1).remote(tally)
    pid = ray.get(phoenix.pid.remote())
    ray.kill(phoenix)
    wait_until(lambda: process_is_gone(pid))
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(phoenix.increment.remote(), timeout=SOON)
    assert tally.count() == 1


def test_kill_may_allow_a_restart(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1, max_task_retries=-1).remote(tally)
    first = ray.get(phoenix.pid.remote())
    ray.kill(phoenix, no_restart=False)
    wait_until(lambda: process_is_gone(first))
    assert ray.get(phoenix.pid.remote(), timeout=SOON) != first
    assert tally.count() == 2


def test_leaving_prevents_restarts(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=-1).remote(tally)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(phoenix.leave.remote(), timeout=SOON)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(phoenix.increment.remote(), timeout=SOON)
    assert tally.count() == 1


def test_a_constructor_that_raises_is_not_restarted(tally: Tally) -> None:
    @ray.remote(max_restarts=3)
    class Broken:
        def __init__(self, tally: Tally) -> None:
            tally.add("tried")
            raise ValueError("cannot start")

        def hello(self) -> None:
            pass

    broken = Broken.remote(tally)
    with pytest.raises(exceptions.ActorDiedError, match="cannot start"):
        ray.get(broken.hello.remote(), timeout=SOON)
    assert tally.count() == 1


def test_a_handle_passed_on_works_across_a_restart(tally: Tally) -> None:
    @ray.remote
    def use(handles: list[Any]) -> int:
        return ray.get(handles[0].increment.remote())

    phoenix = Phoenix.options(max_restarts=1, max_task_retries=-1).remote(tally, 5)
    assert ray.get(use.remote([phoenix])) == 6
    kill_from_outside(phoenix)
    assert ray.get(use.remote([phoenix]), timeout=SOON) == 6


def test_a_named_actor_keeps_its_name_across_a_restart(tally: Tally) -> None:
    phoenix = Phoenix.options(max_restarts=1, max_task_retries=-1, name="phoenix").remote(tally)
    kill_from_outside(phoenix)
    again = ray.get_actor("phoenix")
    assert ray.get(again.increment.remote(), timeout=SOON) == 1


def test_calls_by_name_from_another_process_are_retried_too(tally: Tally, tmp_path: Any) -> None:
    @ray.remote
    def call_by_name(attempts: Tally) -> int:
        return ray.get(ray.get_actor("phoenix-by-name").crash_once.remote(attempts), timeout=SOON)

    phoenix = Phoenix.options(max_restarts=1, max_task_retries=1, name="phoenix-by-name").remote(tally)
    assert ray.get(phoenix.increment.remote()) == 1
    assert ray.get(call_by_name.remote(Tally(str(tmp_path / "attempts"))), timeout=SOON) == 2


def test_max_restarts_below_minus_one_is_refused(tally: Tally) -> None:
    with pytest.raises(ValueError):
        Phoenix.options(max_restarts=-2).remote(tally)
