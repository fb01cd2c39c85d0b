"""``cancel`` really interrupts, whatever the task or the call is doing; the worker or the actor lives on.

No test measures speed: what is cancelled would take :data:`FOR_EVER`, and a ``get`` waits far less for the error.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import core
from core.util.state import list_tasks
from tests.conformance.rendezvous import Gate, Tally, process_is_gone, wait_until

#: Seconds that what is cancelled would take.
FOR_EVER = 600
#: Seconds within which the cancelled call must have answered.
SOON = 15
TaskCancelledError = core.exceptions.TaskCancelledError


@core.remote
def pid() -> int:
    return os.getpid()


@pytest.fixture(autouse=True)
def session_that_works_afterwards(session: object) -> Iterator[None]:
    """After every cancellation the next tasks run, on all CPUs at once."""
    yield
    assert len(core.get([pid.remote() for _ in range(4)], timeout=SOON)) == 4
    wait_until(lambda: core.available_resources().get("CPU") == 2.0, what="all CPUs to come back")


def assert_cancelled(ref: Any) -> None:
    with pytest.raises(TaskCancelledError):
        core.get(ref, timeout=SOON)


# running tasks -------------------------------------------------------------------------------------------------------


def sleep_long() -> None:
    time.sleep(FOR_EVER)


def loop_in_python() -> None:
    number = 0
    while True:
        number += 1


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_for_an_event() -> None:
    threading.Event().wait()


def wait_for_a_queue() -> None:
    queue.Queue().get()


def wait_for_a_subprocess() -> None:
    subprocess.run(["sleep", str(FOR_EVER)], check=True)


def wait_for_a_pipe() -> None:
    reading, _ = os.pipe()
    os.read(reading, 1)


def run_an_event_loop() -> None:
    asyncio.run(asyncio.sleep(FOR_EVER))


def get_for_ever() -> None:
    core.get(sleeper.remote())


def wait_for_ever() -> None:
    core.wait([sleeper.remote()])


def put_for_ever() -> None:
    while True:
        core.put(np.zeros(50_000))


def submit_for_ever() -> None:
    while True:
        core.get([nothing.remote(1) for _ in range(50)])


def pass_objects_for_ever() -> None:
    while True:
        core.get(nothing.remote(core.put([core.put(1)])))


def clean_up_slowly() -> None:
    try:
        time.sleep(FOR_EVER)
    finally:
        core.get(pid.remote())


@core.remote
def nothing(argument: Any) -> None:
    """Do nothing."""


@core.remote
def sleeper() -> None:
    time.sleep(FOR_EVER)


ACTIVITIES: list[Callable[[], None]] = [
    sleep_long,
    loop_in_python,
    wait_for_a_lock,
    wait_for_an_event,
    wait_for_a_queue,
    wait_for_a_subprocess,
    wait_for_a_pipe,
    run_an_event_loop,
    get_for_ever,
    wait_for_ever,
    put_for_ever,
    submit_for_ever,
    pass_objects_for_ever,
    clean_up_slowly,
]
every_activity = pytest.mark.parametrize("activity", ACTIVITIES, ids=lambda activity: activity.__name__)


@every_activity
def test_a_running_task_is_interrupted_and_its_worker_lives(activity: Callable[[], None], tally: Tally) -> None:
    @core.remote(max_retries=0)
    def run(tally: Tally) -> None:
        tally.add(os.getpid())
        activity()

    ref = run.remote(tally)
    wait_until(tally.count)
    core.cancel(ref)
    assert_cancelled(ref)
    assert int(tally.lines()[0]) in core.get([pid.remote() for _ in range(20)], timeout=SOON)


@every_activity
def test_a_method_of_an_ordinary_actor_is_interrupted_and_the_actor_lives(
    activity: Callable[[], None], tally: Tally
) -> None:
    @core.remote
    class Actor:
        def __init__(self) -> None:
            self.runs = 0

        def run(self, tally: Tally) -> None:
            self.runs += 1
            tally.add(os.getpid())
            activity()

        def count(self) -> int:
            return self.runs

    actor = Actor.remote()
    for attempt in (1, 2):
        ref = actor.run.remote(tally)
        behind = actor.count.remote()
        wait_until(lambda attempt=attempt: tally.count() == attempt)
        core.cancel(ref)
        assert_cancelled(ref)
        assert core.get(behind, timeout=SOON) == attempt


def test_one_worker_survives_a_hundred_cancellations_at_any_moment(tally: Tally) -> None:
    """The interrupt may arrive anywhere: while unpickling, at the first line, while the result is sent."""

    @core.remote(max_retries=0)
    def busy(tally: Tally, number: int) -> list[int]:
        tally.add(os.getpid())
        for _ in range(number % 7):
            core.get(nothing.remote(core.put(number)))
        return [sum(range(number * 50)) for _ in range(number % 5)]

    for number in range(100):
        ref = busy.remote(tally, number)
        for _ in range(number % 10):
            core.wait([ref], timeout=0.0005)
        core.cancel(ref)
        try:
            assert core.get(ref, timeout=SOON) is not None
        except TaskCancelledError:
            continue
    assert len(set(tally.lines())) <= 6, "workers died of cancellations"


def test_a_cancelled_generator_ends(tally: Tally) -> None:
    @core.remote(max_retries=0, num_returns="streaming")
    def count(tally: Tally) -> Iterator[int]:
        tally.add()
        yield 1
        time.sleep(FOR_EVER)

    items = count.remote(tally)
    assert core.get(next(items), timeout=SOON) == 1
    core.cancel(items)
    with pytest.raises(TaskCancelledError):
        core.get(next(items), timeout=SOON)
    with pytest.raises(StopIteration):
        next(items)


# force ---------------------------------------------------------------------------------------------------------------


@core.remote(max_retries=3)
def stubborn(tally: Tally) -> None:
    """Swallow every interrupt."""
    tally.add(os.getpid())
    while True:
        try:
            time.sleep(FOR_EVER)
        except KeyboardInterrupt:
            tally.add("no")


def test_force_after_soft(tally: Tally) -> None:
    ref = stubborn.remote(tally)
    wait_until(tally.count)
    core.cancel(ref)
    wait_until(lambda: tally.lines()[1:] == ["no"])
    core.cancel(ref, force=True)
    assert_cancelled(ref)
    wait_until(lambda: process_is_gone(int(tally.lines()[0])))
    assert tally.lines()[1:] == ["no"], "a cancelled task was retried"


def test_force_ends_a_call_in_c(tally: Tally) -> None:
    @core.remote
    def in_c(tally: Tally) -> None:
        tally.add(os.getpid())
        sum(range(10**12))

    ref = in_c.remote(tally)
    wait_until(tally.count)
    core.cancel(ref, force=True)
    assert_cancelled(ref)
    wait_until(lambda: process_is_gone(int(tally.lines()[0])))


def test_force_spares_the_tasks_behind(tally: Tally) -> None:
    """Tasks that waited in the killed worker run elsewhere, and no retry is taken from them."""
    ref = stubborn.remote(tally)
    wait_until(tally.count)
    behind = [pid.options(max_retries=0).remote() for _ in range(20)]
    core.cancel(ref, force=True)
    assert_cancelled(ref)
    assert len(core.get(behind, timeout=SOON)) == 20


@pytest.mark.parametrize("force", [False, True])
def test_cancel_in_the_middle_of_a_retry(tally: Tally, force: bool) -> None:
    @core.remote(max_retries=-1)
    def die_always(tally: Tally) -> None:
        tally.add()
        os._exit(1)

    ref = die_always.remote(tally)
    wait_until(lambda: tally.count() >= 2)
    core.cancel(ref, force=force)
    assert_cancelled(ref)


# not running yet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_task_that_waits_for_a_worker_never_runs(tally: Tally, gate: Gate, force: bool) -> None:
    @core.remote
    def hold(tally: Tally, gate: Gate) -> str:
        tally.add("holding")
        gate.wait()
        return "held"

    @core.remote
    def record(tally: Tally) -> None:
        tally.add("ran")

    holders = [hold.remote(tally, gate) for _ in range(2)]
    wait_until(lambda: tally.count() == 2)
    waiting = record.remote(tally)
    core.cancel(waiting, force=force)
    assert_cancelled(waiting)
    gate.open()
    assert core.get(holders, timeout=SOON) == ["held", "held"]
    assert "ran" not in tally.lines()


@pytest.mark.parametrize("force", [False, True])
def test_a_task_that_waits_for_its_dependency_never_runs(tally: Tally, gate: Gate, force: bool) -> None:
    @core.remote
    def wait(gate: Gate) -> str:
        gate.wait()
        return "done"

    @core.remote
    def record(value: Any, tally: Tally) -> None:
        tally.add("ran")

    dependency = wait.remote(gate)
    waiting = record.remote(dependency, tally)
    behind = record.remote(waiting, tally)
    core.cancel(waiting, force=force)
    assert_cancelled(waiting)
    assert_cancelled(behind)
    gate.open()
    assert core.get(dependency, timeout=SOON) == "done"
    assert tally.count() == 0


def test_a_task_that_asks_for_more_than_there_is_can_be_cancelled() -> None:
    ref = pid.options(num_cpus=1000).remote()
    core.cancel(ref)
    with pytest.raises((TaskCancelledError, core.exceptions.TaskUnschedulableError)):
        core.get(ref, timeout=SOON)


def test_a_finished_task_stays_finished() -> None:
    ref = pid.remote()
    before = core.get(ref, timeout=SOON)
    for force in (False, True):
        core.cancel(ref, force=force)
        assert core.get(ref, timeout=SOON) == before
    assert before in core.get([pid.remote() for _ in range(20)], timeout=SOON)


def test_a_storm_of_5100_cancellations() -> None:
    refs = [sleeper.remote() for _ in range(5_100)]
    for ref in refs:
        core.cancel(ref)
    ready, _ = core.wait(refs, num_returns=len(refs), timeout=60)
    assert len(ready) == 5_100
    for ref in refs:
        assert_cancelled(ref)


# nested --------------------------------------------------------------------------------------------------------------


@core.remote
def tree(depth: int, tally: Tally) -> None:
    """A binary tree of tasks whose leaves sleep. Only they tell of their end: the clean-up of the others may be cut
    short, by the interrupt that comes after the news of a child's end.
    """
    if depth:
        tally.add("branch")
        core.get([tree.remote(depth - 1, tally) for _ in range(2)])
        return
    try:
        tally.add("leaf")
        time.sleep(FOR_EVER)
    finally:
        tally.add("end of leaf")


def all_leaves_ended(tally: Tally) -> bool:
    lines = tally.lines()
    return lines.count("end of leaf") >= lines.count("leaf")


def nothing_unfinished() -> bool:
    return all(row.end_time_ms for row in list_tasks())


def test_recursion_reaches_grandchildren(tally: Tally) -> None:
    ref = tree.remote(2, tally)
    # Two leaves run at a time. Deeper tasks go first, so the leaves of one branch may come before the other branch.
    wait_until(lambda: tally.lines().count("leaf") == 2)
    core.cancel(ref, recursive=True)
    assert_cancelled(ref)
    wait_until(nothing_unfinished, SOON, "all of the tree to end")
    wait_until(lambda: all_leaves_ended(tally), SOON, "the leaves to end")


def test_recursion_reaches_what_is_submitted_after_the_cancellation(tally: Tally) -> None:
    """Where the interrupt finds a task in the middle of submitting, one more child comes; or in its clean-up."""

    @core.remote
    def child(tally: Tally) -> None:
        tally.add("child started")
        try:
            time.sleep(FOR_EVER)
        finally:
            tally.add("child ended")

    @core.remote
    def late(tally: Tally) -> None:
        tally.add("parent")
        try:
            time.sleep(FOR_EVER)
        finally:
            child.remote(tally)
            wait_until(lambda: "child started" in tally.lines())

    ref = late.remote(tally)
    wait_until(tally.count)
    core.cancel(ref)
    assert_cancelled(ref)
    wait_until(lambda: "child ended" in tally.lines(), SOON, "the late child to end")


def test_recursion_reaches_calls_and_tasks_that_wait_for_arguments(tally: Tally) -> None:
    @core.remote(num_cpus=0)
    class Sleeper:
        def sleep(self, tally: Tally) -> None:
            tally.add("call started")
            time.sleep(FOR_EVER)

    @core.remote
    def parent(sleeper: Any, tally: Tally) -> None:
        call = sleeper.sleep.remote(tally)
        behind = nothing.remote(call)
        core.get(behind)

    sleeper = Sleeper.remote()
    ref = parent.remote(sleeper, tally)
    wait_until(tally.count)
    core.cancel(ref)
    assert_cancelled(ref)
    wait_until(
        lambda: (
            {row.name for row in list_tasks() if row.error_type == "core.exceptions.TaskCancelledError"}
            == {"parent", "nothing", "Sleeper.sleep"}
        ),
        SOON,
        "all three to be cancelled",
    )


def test_force_with_recursion_ends_children(tally: Tally) -> None:
    ref = tree.remote(1, tally)
    wait_until(lambda: tally.lines().count("leaf") == 2)
    core.cancel(ref, force=True, recursive=True)
    assert_cancelled(ref)
    wait_until(lambda: core.available_resources().get("CPU") == 2.0, what="all CPUs to come back")


# actors --------------------------------------------------------------------------------------------------------------


def test_a_call_behind_a_blocked_one_is_cancelled_at_once(tally: Tally, gate: Gate) -> None:
    @core.remote
    class Actor:
        def block(self, tally: Tally, gate: Gate) -> str:
            tally.add("blocked")
            gate.wait()
            return "freed"

        def record(self, tally: Tally) -> None:
            tally.add("ran")

    actor = Actor.remote()
    blocked = actor.block.remote(tally, gate)
    wait_until(tally.count)
    behind = [actor.record.remote(tally) for _ in range(10)]
    for ref in behind:
        core.cancel(ref)
    for ref in behind:
        assert_cancelled(ref)
    assert not gate.is_open()
    gate.open()
    assert core.get(blocked, timeout=SOON) == "freed"
    assert tally.lines() == ["blocked"]


def test_a_call_to_an_actor_that_does_not_exist_yet_is_cancelled(tally: Tally, gate: Gate) -> None:
    @core.remote
    class Slow:
        def __init__(self, gate: Gate) -> None:
            gate.wait()

        def record(self, tally: Tally) -> None:
            tally.add("ran")

    actor = Slow.remote(gate)
    cancelled = actor.record.remote(tally)
    kept = actor.record.remote(tally)
    core.cancel(cancelled)
    assert_cancelled(cancelled)
    gate.open()
    core.get(kept, timeout=SOON)
    assert tally.count() == 1


def test_a_loop_in_a_threaded_actor_is_interrupted(tally: Tally) -> None:
    @core.remote(max_concurrency=2)
    class Threaded:
        def loop(self, tally: Tally) -> None:
            tally.add("looping")
            while True:
                time.sleep(0.001)

        def hello(self) -> str:
            return "hello"

    actor = Threaded.remote()
    refs = [actor.loop.remote(tally) for _ in range(2)]
    behind = actor.loop.remote(tally)
    wait_until(lambda: tally.count() == 2)
    core.cancel(behind)
    assert_cancelled(behind)
    for ref in refs:
        core.cancel(ref)
    for ref in refs:
        assert_cancelled(ref)
    assert core.get([actor.hello.remote() for _ in range(10)], timeout=SOON) == ["hello"] * 10


#: What a thread can be interrupted in: Python code and every wait of the engine, but no call into C.
IN_THREADS = [
    loop_in_python,
    get_for_ever,
    wait_for_ever,
    put_for_ever,
    submit_for_ever,
    pass_objects_for_ever,
]


@pytest.mark.parametrize("activity", IN_THREADS, ids=lambda activity: activity.__name__)
def test_a_thread_of_an_actor_is_interrupted_and_the_others_go_on(activity: Callable[[], None], tally: Tally) -> None:
    @core.remote(max_concurrency=2)
    class Threaded:
        def __init__(self) -> None:
            self.others = 0

        def run(self, tally: Tally) -> None:
            tally.add("running")
            activity()

        def other(self) -> int:
            self.others += 1
            return core.get(core.put(self.others))

    actor = Threaded.remote()
    for attempt in range(1, 4):
        ref = actor.run.remote(tally)
        wait_until(lambda attempt=attempt: tally.count() == attempt)
        before = actor.other.remote()
        core.cancel(ref)
        assert core.get(before, timeout=SOON) == 2 * attempt - 1
        assert_cancelled(ref)
        assert core.get(actor.other.remote(), timeout=SOON) == 2 * attempt


def test_a_stream_in_a_thread_ends_when_it_is_cancelled(tally: Tally) -> None:
    @core.remote(max_concurrency=2)
    class Threaded:
        @core.method(num_returns="streaming")
        def count(self, tally: Tally) -> Iterator[int]:
            try:
                yield from range(10**9)
            finally:
                tally.add("closed")

        @core.method(num_returns="streaming", _generator_backpressure_num_objects=1)
        def held_up(self) -> Iterator[int]:
            yield from range(3)

        def hello(self) -> str:
            return "hello"

    actor = Threaded.remote()
    items = actor.count.remote(tally)
    assert core.get(next(items), timeout=SOON) == 0
    core.cancel(items)
    with pytest.raises(TaskCancelledError):
        for item in items:
            core.get(item, timeout=SOON)
    wait_until(tally.count, what="the generator to be closed")
    waiting = actor.held_up.remote()
    assert core.get(next(waiting), timeout=SOON) == 0
    core.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        for item in waiting:
            core.get(item, timeout=SOON)
    assert core.get(actor.hello.remote(), timeout=SOON) == "hello"


@pytest.mark.slow
def test_a_threaded_actor_survives_a_storm_of_cancellations_at_any_moment(tally: Tally) -> None:
    """The interrupt may find a thread anywhere: in the engine with its lock held, reading for the others, sending."""

    @core.remote(max_concurrency=4)
    class Threaded:
        def busy(self, number: int) -> int:
            done = 0
            for _ in range(number % 7):
                held = [core.put(number) for _ in range(20)]
                done += core.get(nothing.remote(held)) is None
                done += len(core.wait([nothing.remote(1), nothing.remote(2)], num_returns=2)[0])
            return done + sum(range(number * 50 % 3000)) * 0

        def pid(self) -> int:
            return os.getpid()

    actor = Threaded.remote()
    process = core.get(actor.pid.remote())
    interrupted = 0
    for round_number in range(60):
        refs = [actor.busy.remote(round_number * 8 + number) for number in range(8)]
        for number, ref in enumerate(refs):
            core.wait([ref], timeout=0.0004 * (number % 5))
            core.cancel(ref)
        for number, ref in enumerate(refs):
            try:
                assert core.get(ref, timeout=SOON) == 3 * ((round_number * 8 + number) % 7)
            except TaskCancelledError:
                interrupted += 1
    assert interrupted > 60, "hardly any call was still running when it was cancelled"
    assert core.get([actor.pid.remote() for _ in range(8)], timeout=SOON) == [process] * 8
    assert core.get([actor.busy.remote(6) for _ in range(8)], timeout=SOON) == [18] * 8


def test_an_await_in_an_asyncio_actor_is_cancelled(tally: Tally) -> None:
    @core.remote
    class Asyncio:
        async def wait(self, tally: Tally) -> None:
            try:
                tally.add("waiting")
                await asyncio.sleep(FOR_EVER)
            finally:
                tally.add("ended")

        async def hello(self) -> str:
            return "hello"

    actor = Asyncio.remote()
    refs = [actor.wait.remote(tally) for _ in range(50)]
    wait_until(lambda: tally.lines().count("waiting") == 50)
    for ref in refs:
        core.cancel(ref)
    for ref in refs:
        assert_cancelled(ref)
    wait_until(lambda: tally.lines().count("ended") == 50)
    assert core.get(actor.hello.remote(), timeout=SOON) == "hello"


def test_a_coroutine_that_gets_an_object_is_cancelled(tally: Tally) -> None:
    @core.remote
    class Asyncio:
        async def wait(self, refs: list[Any], tally: Tally) -> None:
            tally.add("waiting")
            await refs[0]

    actor = Asyncio.remote()
    never = sleeper.remote()
    ref = actor.wait.remote([never], tally)
    wait_until(tally.count)
    core.cancel(ref)
    assert_cancelled(ref)
    core.cancel(never)
    assert_cancelled(never)


def test_cancelling_calls_of_an_actor_that_restarts(tally: Tally) -> None:
    @core.remote(max_restarts=-1, max_task_retries=-1)
    class Restarting:
        def run(self, tally: Tally) -> None:
            tally.add(os.getpid())
            time.sleep(FOR_EVER)

        def hello(self) -> str:
            return "hello"

    actor = Restarting.remote()
    ref = actor.run.remote(tally)
    wait_until(tally.count)
    os.kill(int(tally.lines()[0]), signal.SIGKILL)
    core.cancel(ref)
    assert_cancelled(ref)
    assert core.get(actor.hello.remote(), timeout=SOON) == "hello"
