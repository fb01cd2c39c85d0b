"""Actors that die: what becomes of their calls, their names, their handles, and when they come back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import core
from tests.conformance.rendezvous import Gate, Tally, process_is_gone, wait_until

#: Seconds that nothing here should ever need; no test measures speed.
SOON = 20
ActorDiedError = core.exceptions.ActorDiedError
ActorUnavailableError = core.exceptions.ActorUnavailableError


class Counter:
    """Counts its calls; ``pid`` tells the incarnation."""

    def __init__(self, tally: Tally | None = None) -> None:
        self.count = 0
        if tally is not None:
            tally.add(os.getpid())

    def add(self) -> int:
        self.count += 1
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def wait(self, tally: Tally, gate: Gate) -> str:
        tally.add("waiting")
        gate.wait()
        return "waited"

    def record(self, tally: Tally, number: int) -> int:
        tally.add(number)
        return number

    def die(self) -> None:
        os._exit(9)

    def leave(self) -> None:
        core.actor.exit_actor()


@core.remote
def pid() -> int:
    return os.getpid()


@pytest.fixture(autouse=True)
def session_that_works_afterwards(session: object) -> Iterator[None]:
    """Whatever happened to the actors, tasks and new actors run."""
    yield
    assert len(core.get([pid.remote() for _ in range(4)], timeout=SOON)) == 4
    assert get(core.remote(Counter).remote().add.remote()) == 1


def get(ref: Any) -> Any:
    return core.get(ref, timeout=SOON)


def make(**options: Any) -> Any:
    return core.remote(**options)(Counter) if options else core.remote(Counter)


def kill_process(actor: Any) -> int:
    """End the actor's process by SIGKILL; return its pid."""
    process: int = get(actor.pid.remote())
    os.kill(process, signal.SIGKILL)
    return process


def until_alive(actor: Any) -> int:
    """Call until the restarted actor answers; return its pid."""
    answers: list[int] = []

    def answers_now() -> bool:
        try:
            answers.append(get(actor.pid.remote()))
        except ActorUnavailableError:
            return False
        return True

    wait_until(answers_now, SOON, "the actor to come back")
    return answers[0]


# restarts ------------------------------------------------------------------------------------------------------------


def test_without_restarts_the_first_death_is_the_last() -> None:
    actor = make().remote()
    process = kill_process(actor)
    for _ in range(2):
        with pytest.raises(ActorDiedError) as caught:
            get(actor.add.remote())
        assert caught.value.signal == signal.SIGKILL
        assert caught.value.pid == process


def test_a_restarted_actor_is_made_anew(tally: Tally) -> None:
    actor = make(max_restarts=1).remote(tally)
    assert get([actor.add.remote() for _ in range(3)]) == [1, 2, 3]
    old = kill_process(actor)
    assert until_alive(actor) != old
    assert get(actor.add.remote()) == 1
    assert tally.count() == 2


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_limit_of_restarts_is_kept(restarts: int, tally: Tally) -> None:
    actor = make(max_restarts=restarts, max_task_retries=-1).remote(tally)
    for _ in range(restarts + 1):
        kill_process(actor)
    with pytest.raises(ActorDiedError):
        get(actor.add.remote())
    assert tally.count() == 1 + restarts


def test_restarts_without_end(tally: Tally) -> None:
    actor = make(max_restarts=-1, max_task_retries=-1).remote(tally)
    for _ in range(10):
        kill_process(actor)
    assert get(actor.add.remote()) == 1
    assert tally.count() == 11


# calls in flight -----------------------------------------------------------------------------------------------------


def test_a_call_in_flight_is_unavailable_without_retries(tally: Tally, gate: Gate) -> None:
    actor = make(max_restarts=1).remote()
    process = get(actor.pid.remote())
    ref = actor.wait.remote(tally, gate)
    wait_until(tally.count)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(ActorUnavailableError, match="SIGKILL"):
        get(ref)
    assert tally.count() == 1
    assert until_alive(actor) != process


def test_a_call_in_flight_runs_again_with_retries(tally: Tally, gate: Gate) -> None:
    actor = make(max_restarts=1, max_task_retries=1).remote()
    process = get(actor.pid.remote())
    ref = actor.wait.remote(tally, gate)
    wait_until(tally.count)
    os.kill(process, signal.SIGKILL)
    gate.open()
    assert get(ref) == "waited"
    assert tally.count() == 2


def test_each_death_costs_a_call_one_retry(tally: Tally) -> None:
    actor = make(max_restarts=-1, max_task_retries=2).remote(tally)
    with pytest.raises((ActorUnavailableError, ActorDiedError)):
        get(actor.die.remote())
    wait_until(lambda: tally.count() == 4, what="three attempts and one more restart")
    assert until_alive(actor) == int(tally.lines()[-1])


def test_queued_calls_keep_their_order_through_a_restart(tally: Tally, make_gate: Any) -> None:
    gate, waiting = make_gate("gate"), Tally(tally.path + "-waiting")
    actor = make(max_restarts=1, max_task_retries=1).remote()
    process = get(actor.pid.remote())
    first = actor.wait.remote(waiting, gate)
    refs = [actor.record.remote(tally, number) for number in range(100)]
    wait_until(waiting.count)
    os.kill(process, signal.SIGKILL)
    refs += [actor.record.remote(tally, number) for number in range(100, 120)]
    gate.open()
    assert get(first) == "waited"
    assert get(refs) == list(range(120))
    assert tally.lines() == [str(number) for number in range(120)]


def test_calls_made_during_a_restart_wait_for_it(tally: Tally, gate: Gate) -> None:
    class Slow(Counter):
        def __init__(self, tally: Tally, gate: Gate) -> None:
            super().__init__(tally)
            if tally.count() > 1:
                gate.wait()

    actor = core.remote(max_restarts=1)(Slow).remote(tally, gate)
    os.kill(get(actor.pid.remote()), signal.SIGKILL)
    wait_until(lambda: tally.count() == 2)
    core.nodes()  # an answer of the node: what it has said before, that the actor restarts, has come too
    refs = [actor.add.remote() for _ in range(5)]
    gate.open()
    assert get(refs) == [1, 2, 3, 4, 5]


def test_a_death_during_the_restart_counts(tally: Tally) -> None:
    class Doomed(Counter):
        def __init__(self, tally: Tally) -> None:
            super().__init__(tally)
            if tally.count() > 1:
                os._exit(3)

    actor = core.remote(max_restarts=3, max_task_retries=-1)(Doomed).remote(tally)
    os.kill(get(actor.pid.remote()), signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        get(actor.add.remote())
    assert tally.count() == 4


# intended ends -------------------------------------------------------------------------------------------------------


def test_exit_actor_is_no_failure_to_restart_from(tally: Tally) -> None:
    actor = make(max_restarts=-1, max_task_retries=-1).remote(tally)
    with pytest.raises(ActorDiedError):
        get(actor.leave.remote())
    with pytest.raises(ActorDiedError):
        get(actor.add.remote())
    assert tally.count() == 1


def test_kill_ends_for_good(tally: Tally) -> None:
    actor = make(max_restarts=-1, max_task_retries=-1).remote(tally)
    process = get(actor.pid.remote())
    core.kill(actor)
    with pytest.raises(ActorDiedError):
        get(actor.add.remote())
    wait_until(lambda: process_is_gone(process))
    assert tally.count() == 1


def test_kill_with_restart_restarts(tally: Tally) -> None:
    actor = make(max_restarts=1, max_task_retries=-1).remote(tally)
    process = get(actor.pid.remote())
    core.kill(actor, no_restart=False)
    wait_until(lambda: tally.count() == 2)
    assert until_alive(actor) != process


def test_terminate_lets_queued_calls_end() -> None:
    actor = make().remote()
    refs = [actor.add.remote() for _ in range(50)]
    actor.__ray_terminate__.remote()
    assert get(refs) == list(range(1, 51))
    with pytest.raises(ActorDiedError):
        get(actor.add.remote())


def test_killing_a_stopped_actor(tally: Tally) -> None:
    actor = make().remote()
    process = get(actor.pid.remote())
    os.kill(process, signal.SIGSTOP)
    ref = actor.add.remote()
    core.kill(actor)
    with pytest.raises(ActorDiedError):
        get(ref)
    wait_until(lambda: process_is_gone(process))


# handles, names, owners ----------------------------------------------------------------------------------------------


def test_calls_pending_when_the_last_handle_goes_still_run(tally: Tally) -> None:
    actor = make().remote()
    process = get(actor.pid.remote())
    refs = [actor.record.remote(tally, number) for number in range(50)]
    del actor
    assert get(refs) == list(range(50))
    wait_until(lambda: process_is_gone(process), what="the actor to end with its last handle")


def test_a_borrowed_handle_keeps_the_actor_alive(tally: Tally, gate: Gate) -> None:
    @core.remote
    def borrow(handles: list[Any], tally: Tally, gate: Gate) -> int:
        tally.add()
        gate.wait()
        return int(core.get(handles[0].add.remote()))

    actor = make().remote()
    process = get(actor.pid.remote())
    ref = borrow.remote([actor], tally, gate)
    wait_until(tally.count)
    del actor
    gate.open()
    assert get(ref) == 1
    wait_until(lambda: process_is_gone(process))


def test_an_actor_dies_with_its_owner() -> None:
    class Owner:
        def __init__(self) -> None:
            self.child = core.remote(Counter).remote()

        def get_child(self) -> list[Any]:
            return [self.child, core.get(self.child.pid.remote()), os.getpid()]

    owner = core.remote(Owner).remote()
    child, process, owner_process = get(owner.get_child.remote())
    os.kill(owner_process, signal.SIGKILL)
    wait_until(lambda: process_is_gone(process), what="the owned actor to end")
    with pytest.raises(ActorDiedError):
        get(child.add.remote())


def test_a_detached_actor_outlives_its_creator() -> None:
    @core.remote
    def create() -> int:
        actor = core.remote(name="keeper", lifetime="detached")(Counter).remote()
        core.get(actor.add.remote())
        return os.getpid()

    os.kill(get(create.remote()), signal.SIGKILL)
    keeper = core.get_actor("keeper")
    assert get(keeper.add.remote()) == 2
    core.kill(keeper)


def test_a_name_is_free_again_after_a_death() -> None:
    for _ in range(3):
        actor = make(name="phoenix").remote()
        assert get(actor.add.remote()) == 1
        kill_process(actor)
        with pytest.raises(ActorDiedError):
            get(actor.add.remote())
        with pytest.raises(ValueError):
            core.get_actor("phoenix")


def test_a_name_survives_a_restart() -> None:
    actor = make(name="phoenix", max_restarts=1, max_task_retries=-1).remote()
    kill_process(actor)
    assert get(core.get_actor("phoenix").add.remote()) == 1


# generators ----------------------------------------------------------------------------------------------------------


@core.remote(num_returns="streaming")
def produce(count: int, fatal: int, tally: Tally) -> Iterator[int]:
    """Yield numbers; the first attempt dies before number ``fatal``."""
    attempt = tally.add(os.getpid())
    for number in range(count):
        if number == fatal and attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield number


@pytest.mark.parametrize("fatal", [0, 1, 37])
def test_a_producer_killed_midway_starts_over_unseen(fatal: int, tally: Tally) -> None:
    assert [get(ref) for ref in produce.remote(100, fatal, tally)] == list(range(100))
    assert tally.count() == 2


def test_a_producer_killed_midway_without_retries_ends_with_the_error(tally: Tally) -> None:
    items = produce.options(max_retries=0).remote(100, 10, tally)
    # What it had sent before its death is there; how much of it is the worker's business.
    got = []
    with pytest.raises(core.exceptions.WorkerCrashedError) as caught:
        for ref in items:
            got.append(get(ref))
    assert caught.value.signal == signal.SIGKILL
    assert got == list(range(len(got)))
    assert len(got) <= 10
    with pytest.raises(StopIteration):
        next(items)


def test_a_producer_whose_consumer_is_gone_stops(tally: Tally) -> None:
    @core.remote(num_returns="streaming")
    def endless(tally: Tally) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            tally.add("closed")

    items = endless.remote(tally)
    assert get(next(items)) == 1
    del items
    wait_until(tally.count, what="the producer to be told")


def test_a_producer_held_back_is_freed_when_its_consumer_dies(tally: Tally) -> None:
    @core.remote(num_returns="streaming", _generator_backpressure_num_objects=2)
    def slow(tally: Tally) -> Iterator[int]:
        try:
            for number in range(1000):
                tally.add(number)
                yield number
        finally:
            tally.add("closed")

    @core.remote(max_retries=0)
    def consume(tally: Tally) -> None:
        items = slow.remote(tally)
        core.get(next(items))
        wait_until(lambda: tally.count() >= 3)
        os._exit(1)

    with pytest.raises(core.exceptions.WorkerCrashedError):
        get(consume.remote(tally))
    wait_until(lambda: "closed" in tally.lines() or core.available_resources().get("CPU") == 2.0)
    assert tally.count() < 10
    wait_until(lambda: core.available_resources().get("CPU") == 2.0, what="the producer to end")


def test_an_actors_generator_is_retried_after_its_death(tally: Tally) -> None:
    class Producer:
        def produce(self, tally: Tally) -> Iterator[int]:
            attempt = tally.add()
            for number in range(20):
                if number == 7 and attempt == 1:
                    os._exit(1)
                yield number

    actor = core.remote(max_restarts=1, max_task_retries=1)(Producer).remote()
    items = actor.produce.options(num_returns="streaming").remote(tally)
    assert [get(ref) for ref in items] == list(range(20))


def test_time_in_a_dead_actor_is_not_waited_for(tally: Tally) -> None:
    """All 50 calls of a killed actor fail at once, those in flight and those queued."""

    class Sleeper(Counter):
        def sleep(self, tally: Tally) -> None:
            tally.add()
            time.sleep(600)

    actor = core.remote(Sleeper).remote()
    process = get(actor.pid.remote())
    refs = [actor.sleep.remote(tally) for _ in range(50)]
    wait_until(tally.count)
    os.kill(process, signal.SIGKILL)
    for ref in refs:
        with pytest.raises(ActorDiedError):
            get(ref)
