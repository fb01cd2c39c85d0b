"""How actors end: the last handle goes, kill, exit, crash; and what callers see afterwards."""

from __future__ import annotations

import atexit
import gc
import os
import signal
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, process_is_gone, wait_until
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions
PROCESS_ENDS = "the actor's process ends"
#: Seconds to wait for an answer that must come.
SOON = 30


@ray.remote
class Target:
    """Tells its process, and ends it in several ways."""

    def pid(self) -> int:
        return os.getpid()

    def wait(self, gate: Gate) -> str:
        gate.wait()
        return "finished"

    def record_at_exit(self, tally: Tally) -> int:
        atexit.register(tally.add, "atexit ran")
        return os.getpid()

    def leave(self) -> None:
        ray.actor.exit_actor()

    def exit_process(self, code: int) -> None:
        os._exit(code)

    def segfault(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


@ray.remote
def call_pid(handles: list[Any], gate: Gate) -> int:
    gate.wait()
    return ray.get(handles[0].pid.remote())


def assert_dead(handle: Any) -> Any:
    """Call an actor until it is dead (Ray's kill takes a moment); return the error."""
    errors: list[Exception] = []

    def dead() -> bool:
        try:
            ray.get(handle.pid.remote(), timeout=SOON)
        except exceptions.ActorDiedError as error:
            errors.append(error)
        return bool(errors)

    wait_until(dead, what="the actor to be dead")
    return errors[0]


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_the_process_ends_with_the_last_handle() -> None:
    target = Target.remote()
    pid = ray.get(target.pid.remote())
    assert not process_is_gone(pid)
    del target
    gc.collect()
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_pending_calls_finish_after_the_last_handle_is_gone(gate: Gate) -> None:
    target = Target.remote()
    refs = [target.wait.remote(gate), target.pid.remote()]
    del target
    gc.collect()
    gate.open()
    finished, pid = ray.get(refs, timeout=SOON)
    assert finished == "finished"
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_a_handle_held_by_a_task_keeps_the_actor(gate: Gate) -> None:
    target = Target.remote()
    pid = ray.get(target.pid.remote())
    ref = call_pid.remote([target], gate)
    del target
    gc.collect()
    gate.open()
    assert ray.get(ref, timeout=SOON) == pid
    del ref
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_a_handle_held_by_another_actor_keeps_the_actor() -> None:
    @ray.remote
    class Keeper:
        def keep(self, handles: list[Any]) -> None:
            self.handles = handles

        def ask(self) -> int:
            return ray.get(self.handles[0].pid.remote())

        def drop(self) -> None:
            self.handles = []

    keeper, target = Keeper.remote(), Target.remote()
    ray.get(keeper.keep.remote([target]))
    del target
    gc.collect()
    pid = ray.get(keeper.ask.remote(), timeout=SOON)
    ray.get(keeper.drop.remote())
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_a_handle_inside_a_stored_object_keeps_the_actor() -> None:
    stored = ray.put({"handle": Target.remote()})
    gc.collect()
    pid = ray.get(ray.get(stored)["handle"].pid.remote())
    assert ray.get(ray.get(stored)["handle"].pid.remote()) == pid
    del stored
    gc.collect()
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_kill_ends_the_process() -> None:
    target = Target.remote()
    pid = ray.get(target.pid.remote())
    ray.kill(target)
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")


def test_calls_after_kill_fail() -> None:
    target = Target.remote()
    ray.get(target.pid.remote())
    ray.kill(target)
    error = assert_dead(target)
    assert isinstance(error, exceptions.RayActorError)


@pytest.mark.needs_processes("a call must be running")
def test_running_and_queued_calls_fail_on_kill(gate: Gate, make_gate: Any) -> None:
    @ray.remote
    class Waiter:
        def wait(self, started: Gate, gate: Gate) -> None:
            started.open()
            gate.wait()

    started = make_gate("started")
    waiter = Waiter.remote()
    refs = [waiter.wait.remote(started, gate) for _ in range(3)]
    started.wait()
    ray.kill(waiter)
    for ref in refs:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref, timeout=SOON)


def test_an_actor_can_be_killed_right_after_its_creation() -> None:
    target = Target.remote()
    ray.kill(target)
    assert_dead(target)


@pytest.mark.better_than_ray("no call that is made after kill is executed any more")
def test_kill_is_effective_at_once() -> None:
    for _ in range(20):
        target = Target.remote()
        ray.get(target.pid.remote())
        ray.kill(target)
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(target.pid.remote(), timeout=SOON)


def test_killing_twice_is_harmless() -> None:
    target = Target.remote()
    ray.get(target.pid.remote())
    ray.kill(target)
    ray.kill(target)
    assert_dead(target)


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_kill_runs_no_exit_handlers(tally: Tally) -> None:
    target = Target.remote()
    pid = ray.get(target.record_at_exit.remote(tally))
    ray.kill(target)
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")
    assert tally.count() == 0


@pytest.mark.parametrize("argument", [1, "actor", None])
def test_kill_refuses_what_is_no_actor(argument: Any) -> None:
    with pytest.raises(ValueError):
        ray.kill(argument)


def test_kill_refuses_a_reference() -> None:
    with pytest.raises(ValueError):
        ray.kill(ray.put(1))


def test_a_dead_actors_result_counts_as_ready() -> None:
    target = Target.remote()
    ray.kill(target)
    ref = target.pid.remote()
    assert ray.wait([ref], timeout=SOON) == ([ref], [])
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(ref)


def test_a_task_that_depends_on_a_dead_actor_fails() -> None:
    @ray.remote
    def use(value: Any) -> Any:
        return value

    target = Target.remote()
    ray.kill(target)
    with pytest.raises(exceptions.RayActorError):
        ray.get(use.remote(target.pid.remote()), timeout=SOON)


def test_results_of_a_killed_actor_stay_readable() -> None:
    @ray.remote
    class Source:
        def small(self) -> str:
            return "small"

        def large(self) -> bytes:
            return b"x" * 500_000

    source = Source.remote()
    small, large = source.small.remote(), source.large.remote()
    ray.wait([small, large], num_returns=2)
    ray.kill(source)
    assert ray.get(small) == "small"
    assert ray.get(large) == b"x" * 500_000


def test_an_actor_leaves_by_itself() -> None:
    target = Target.remote()
    ref = target.leave.remote()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(ref, timeout=SOON)
    assert_dead(target)


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_leaving_runs_exit_handlers(tally: Tally) -> None:
    target = Target.remote()
    pid = ray.get(target.record_at_exit.remote(tally))
    target.leave.remote()
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")
    assert tally.lines() == ["atexit ran"]


def test_leaving_outside_an_actor_is_refused() -> None:
    with pytest.raises(TypeError):
        ray.actor.exit_actor()

    @ray.remote
    def leave() -> None:
        ray.actor.exit_actor()

    with pytest.raises(TypeError):
        ray.get(leave.remote())


def test_calls_ahead_of_a_termination_finish(tally: Tally) -> None:
    @ray.remote
    class Log:
        def add(self, tally: Tally) -> int:
            return tally.add()

        def pid(self) -> int:
            return os.getpid()

    log = Log.remote()
    refs = [log.add.remote(tally) for _ in range(3)]
    log.__ray_terminate__.remote()
    assert ray.get(refs, timeout=SOON) == [1, 2, 3]

    def refuses_calls() -> bool:
        try:
            ray.get(log.pid.remote(), timeout=SOON)
        except exceptions.RayActorError:
            return True
        return False

    wait_until(refuses_calls, what="the actor to be dead")


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_termination_runs_exit_handlers(tally: Tally) -> None:
    target = Target.remote()
    pid = ray.get(target.record_at_exit.remote(tally))
    target.__ray_terminate__.remote()
    wait_until(lambda: process_is_gone(pid), what="the actor's process to end")
    assert tally.lines() == ["atexit ran"]


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_a_crash_in_a_method_is_an_actor_died_error() -> None:
    target = Target.remote()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(target.exit_process.remote(1), timeout=SOON)
    assert_dead(target)


@pytest.mark.needs_processes(PROCESS_ENDS)
@pytest.mark.better_than_ray("ActorDiedError names the signal or the exit code that ended the actor")
def test_an_actor_died_error_names_the_cause() -> None:
    target = Target.remote()
    with pytest.raises(exceptions.ActorDiedError, match="SIGSEGV"):
        ray.get(target.segfault.remote(), timeout=SOON)
    target = Target.remote()
    with pytest.raises(exceptions.ActorDiedError, match="37"):
        ray.get(target.exit_process.remote(37), timeout=SOON)


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_an_actor_killed_from_outside_is_dead() -> None:
    target = Target.remote()
    pid = ray.get(target.pid.remote())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process_is_gone(pid))
    with pytest.raises(exceptions.RayActorError):
        ray.get(target.pid.remote(), timeout=SOON)


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_an_error_of_a_dead_actor_names_it() -> None:
    target = Target.remote()
    ray.get(target.pid.remote())
    ray.kill(target)
    error = assert_dead(target)
    assert error.actor_id == target._actor_id.hex()
    assert target._actor_id.hex() in str(error)


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_a_constructor_that_ends_the_process_is_an_actor_died_error() -> None:
    @ray.remote
    class Stillborn:
        def __init__(self) -> None:
            os._exit(1)

        def pid(self) -> int:
            return os.getpid()

    assert_dead(Stillborn.remote())


@pytest.mark.needs_processes(PROCESS_ENDS)
def test_children_of_a_dead_actor_end_with_it() -> None:
    @ray.remote
    class Parent:
        def __init__(self) -> None:
            self.child = Target.remote()

        def child_pid(self) -> int:
            return ray.get(self.child.pid.remote())

    parent = Parent.remote()
    pid = ray.get(parent.child_pid.remote())
    ray.kill(parent)
    wait_until(lambda: process_is_gone(pid), what="the child's process to end")


@pytest.mark.needs_processes("actors must hold resources")
def test_a_killed_actor_gives_its_resources_back() -> None:
    held = Target.options(num_cpus=4).remote()
    ray.get(held.pid.remote())
    ray.kill(held)
    assert isinstance(ray.get(Target.options(num_cpus=4).remote().pid.remote(), timeout=SOON), int)
