"""What a task may do to the process it runs in, and what may be done to that process from outside."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import core
from tests.chaos.crashes import DEATHS, LAST_WORDS, Death, end
from tests.conformance.rendezvous import Gate, Tally, process_is_gone, wait_until

#: Seconds that nothing here should ever need; no test measures speed.
SOON = 20
WorkerCrashedError = core.exceptions.WorkerCrashedError
every_death = pytest.mark.parametrize("death", DEATHS, ids=str)


@core.remote
def pid() -> int:
    return os.getpid()


@core.remote
def announce_and_wait(tally: Tally, gate: Gate) -> int:
    """Write down the worker's pid, wait for the gate, return the number of the attempt."""
    attempt = tally.add(os.getpid())
    gate.wait()
    return attempt


@pytest.fixture(autouse=True)
def session_that_works_afterwards(session: object) -> Iterator[None]:
    """Whatever happened to a worker, the next tasks run."""
    yield
    assert len(core.get([pid.remote() for _ in range(4)], timeout=SOON)) == 4


def get(ref: Any) -> Any:
    return core.get(ref, timeout=SOON)


def first_pid(tally: Tally, count: int = 1) -> int:
    """Wait until the task runs for the ``count``th time; return the pid of its worker."""
    wait_until(lambda: tally.count() >= count, SOON, "the task to start")
    return int(tally.lines()[-1])


def state_of(process: int) -> str:
    with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0]


# death ---------------------------------------------------------------------------------------------------------------


def test_a_killed_task_runs_again(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.remote(tally, gate)
    os.kill(first_pid(tally), signal.SIGKILL)
    gate.open()
    assert get(ref) == 2
    first, second = tally.lines()
    assert first != second


def test_each_death_costs_one_retry(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.options(max_retries=2).remote(tally, gate)
    for attempt in (1, 2, 3):
        os.kill(first_pid(tally, attempt), signal.SIGKILL)
    with pytest.raises(WorkerCrashedError, match="attempt 3"):
        get(ref)
    assert tally.count() == 3


def test_without_retries_the_error_names_signal_pid_and_last_words(tally: Tally, gate: Gate) -> None:
    @core.remote(max_retries=0)
    def speak_and_wait(tally: Tally, gate: Gate) -> None:
        print(LAST_WORDS, file=sys.stderr, flush=True)
        tally.add(os.getpid())
        gate.wait()

    ref = speak_and_wait.remote(tally, gate)
    victim = first_pid(tally)
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError) as caught:
        get(ref)
    error = caught.value
    assert (error.signal, error.exit_code, error.pid) == (signal.SIGKILL, None, victim)
    assert "SIGKILL" in str(error)
    assert LAST_WORDS in error.stderr_tail
    assert "speak_and_wait" in str(error)


@every_death
def test_every_kind_of_death_is_retried(death: Death, tally: Tally) -> None:
    @core.remote(max_retries=1)
    def dies_once(tally: Tally) -> int:
        if tally.add() == 1:
            end(death.kind)
        return tally.count()

    assert get(dies_once.remote(tally)) == 2


@every_death
def test_every_kind_of_death_is_told(death: Death) -> None:
    with pytest.raises(WorkerCrashedError) as caught:
        get(core.remote(max_retries=0)(end).remote(death.kind))
    assert (caught.value.signal, caught.value.exit_code) == (death.signal, death.exit_code)
    assert LAST_WORDS in caught.value.stderr_tail


@pytest.mark.parametrize(("argument", "code"), [(None, 0), (0, 0), (5, 5), ("a last message", 1)])
def test_sys_exit_ends_the_worker(argument: Any, code: int) -> None:
    @core.remote(max_retries=0)
    def leave() -> None:
        sys.exit(argument)

    with pytest.raises(WorkerCrashedError) as caught:
        get(leave.remote())
    assert caught.value.exit_code == code
    if isinstance(argument, str):
        assert argument in caught.value.stderr_tail


def test_the_tasks_behind_a_dying_one_lose_no_retry(tally: Tally) -> None:
    """Pipelined tasks that had not started are not charged for the death of the worker they waited in."""

    @core.remote(max_retries=0)
    def die() -> None:
        os._exit(1)

    @core.remote(max_retries=0)
    def survive(number: int) -> int:
        return number

    refs = [die.remote() if number % 10 == 5 else survive.remote(number) for number in range(50)]
    outcomes = []
    for number, ref in enumerate(refs):
        if number % 10 == 5:
            with pytest.raises(WorkerCrashedError):
                get(ref)
        else:
            outcomes.append(get(ref))
    assert outcomes == [number for number in range(50) if number % 10 != 5]


def test_a_worker_killed_while_idle_costs_nothing(tally: Tally) -> None:
    for _ in range(3):
        victim = get(pid.options(max_retries=0).remote())
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: process_is_gone(victim))
        other = get(pid.remote())
        assert other != victim


# signals -------------------------------------------------------------------------------------------------------------


def test_sigint_to_a_worker_is_ignored() -> None:
    @core.remote(max_retries=0)
    def interrupt_myself() -> str:
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return "not impressed"

    assert get(interrupt_myself.remote()) == "not impressed"


def test_sigint_to_an_idle_worker_is_ignored() -> None:
    worker = get(pid.remote())
    os.kill(worker, signal.SIGINT)
    assert worker in get([pid.remote() for _ in range(20)])


def test_a_raised_keyboard_interrupt_counts_as_cancelled() -> None:
    @core.remote
    def interrupted(tally: Tally) -> None:
        raise KeyboardInterrupt

    with pytest.raises(core.exceptions.TaskCancelledError):
        get(interrupted.remote(None))


def test_sigterm_to_a_worker_is_a_death_like_any_other(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.options(max_retries=0).remote(tally, gate)
    os.kill(first_pid(tally), signal.SIGTERM)
    with pytest.raises(WorkerCrashedError) as caught:
        get(ref)
    assert caught.value.signal == signal.SIGTERM


def test_a_stopped_worker_goes_on_where_it_was(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.remote(tally, gate)
    worker = first_pid(tally)
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: state_of(worker) == "T")
    gate.open()
    with pytest.raises(core.exceptions.GetTimeoutError):
        core.get(ref, timeout=0.3)
    assert get(pid.remote()) != worker
    os.kill(worker, signal.SIGCONT)
    assert get(ref) == 1


def test_a_stopped_worker_can_be_killed(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.options(max_retries=0).remote(tally, gate)
    worker = first_pid(tally)
    os.kill(worker, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError):
        get(ref)


def test_a_soft_cancel_reaches_a_stopped_worker_when_it_goes_on(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.remote(tally, gate)
    worker = first_pid(tally)
    os.kill(worker, signal.SIGSTOP)
    core.cancel(ref)
    with pytest.raises(core.exceptions.GetTimeoutError):
        core.get(ref, timeout=0.3)
    os.kill(worker, signal.SIGCONT)
    with pytest.raises(core.exceptions.TaskCancelledError):
        get(ref)


def test_a_forced_cancel_ends_a_stopped_worker(tally: Tally, gate: Gate) -> None:
    ref = announce_and_wait.remote(tally, gate)
    worker = first_pid(tally)
    os.kill(worker, signal.SIGSTOP)
    core.cancel(ref, force=True)
    with pytest.raises(core.exceptions.TaskCancelledError):
        get(ref)
    wait_until(lambda: process_is_gone(worker))


# stack and depth -----------------------------------------------------------------------------------------------------


def deep_list(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def test_infinite_recursion_is_an_error_like_any_other() -> None:
    @core.remote(max_retries=0)
    def recurse() -> None:
        def down(level: int) -> int:
            return down(level + 1)

        down(0)

    with pytest.raises(RecursionError):
        get(recurse.remote())


def test_an_argument_nested_too_deeply_is_refused_by_the_call() -> None:
    @core.remote
    def take(value: Any) -> None:
        """Never runs."""

    with pytest.raises(TypeError, match=r"[Rr]ecursion"):
        take.remote(deep_list(100_000))


def test_a_result_nested_too_deeply_is_an_error() -> None:
    @core.remote(max_retries=0)
    def make() -> Any:
        return deep_list(100_000)

    with pytest.raises(TypeError, match=r"[Rr]ecursion"):
        get(make.remote())


# descriptors and streams ---------------------------------------------------------------------------------------------


def test_closing_all_descriptors_ends_the_worker_not_the_session() -> None:
    @core.remote(max_retries=0)
    def close_everything() -> None:
        os.closerange(3, 4096)

    with pytest.raises(WorkerCrashedError):
        get(close_everything.remote())


def test_a_task_may_use_all_descriptors_there_are(tally: Tally) -> None:
    """With none left the worker still answers; what it opened goes with it."""

    @core.remote(max_retries=0)
    def hoard(limit: int) -> int:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, hard), hard))
        opened = []
        try:
            with contextlib.suppress(OSError):
                while len(opened) < limit:
                    opened.append(os.open(os.devnull, os.O_RDONLY))
            return len(opened)
        finally:
            if limit > 1000:
                for descriptor in opened:
                    os.close(descriptor)

    assert get(hoard.remote(20_000)) > 500
    assert 0 < get(hoard.remote(200)) < 200


@pytest.mark.parametrize("how", ["object", "descriptor"])
def test_a_closed_stdout_harms_nobody(how: str) -> None:
    @core.remote(max_retries=0)
    def close_streams() -> int:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            if how == "object":
                stream.close()
            else:
                os.close(number)
        return os.getpid()

    @core.remote(max_retries=0)
    def speak() -> int:
        with contextlib.suppress(ValueError, OSError):
            print("into the void", flush=True)
        return os.getpid()

    worker = get(close_streams.remote())
    assert worker in get([speak.remote() for _ in range(20)])


def test_a_replaced_stdout_harms_nobody() -> None:
    @core.remote(max_retries=0)
    def replace() -> int:
        sys.stdout = sys.stderr = None
        return os.getpid()

    assert get(replace.remote()) in get([pid.remote() for _ in range(20)])


# threads and processes -----------------------------------------------------------------------------------------------


def test_threads_that_a_task_leaves_do_not_keep_the_worker_alive() -> None:
    @core.remote(max_retries=0, max_calls=1)
    def leave_a_thread() -> int:
        threading.Thread(target=time.sleep, args=(600,)).start()
        return os.getpid()

    worker = get(leave_a_thread.remote())
    wait_until(lambda: process_is_gone(worker))


def test_a_thread_that_a_task_left_may_go_on_using_the_session(tally: Tally) -> None:
    @core.remote
    def leave_a_thread(tally: Tally) -> None:
        def work() -> None:
            for _ in range(3):
                tally.add(core.get(pid.remote()))

        threading.Thread(target=work).start()

    get(leave_a_thread.remote(tally))
    wait_until(lambda: tally.count() == 3)


def test_a_forked_child_that_returns_never_speaks_for_the_worker(tally: Tally) -> None:
    """It comes back from user code into the worker's loop, with the worker's sockets in its hands."""

    @core.remote(max_retries=0)
    def fork(tally: Tally) -> str:
        child = os.fork()
        if child == 0:
            return "child"
        tally.add(child)
        os.waitpid(child, 0)
        return "parent"

    for _ in range(5):
        assert get(fork.remote(tally)) == "parent"
    assert all(process_is_gone(int(line)) for line in tally.lines())


@pytest.mark.parametrize("how", ["raise", "sys.exit"])
def test_a_forked_child_that_raises_never_speaks_for_the_worker(how: str) -> None:
    @core.remote(max_retries=0)
    def fork() -> str:
        child = os.fork()
        if child == 0:
            if how == "raise":
                raise ValueError("from the child")
            sys.exit(3)
        os.waitpid(child, 0)
        return "parent"

    assert get(fork.remote()) == "parent"


def test_a_forked_child_that_uses_the_session_gets_an_error() -> None:
    @core.remote(max_retries=0)
    def fork() -> bytes:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                core.get(pid.remote(), timeout=5)
            except BaseException as error:
                os.write(writing, type(error).__name__.encode())
            else:
                os.write(writing, b"no error")
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        return os.read(reading, 1000)

    assert get(fork.remote()) == b"RaySystemError"


def test_subprocesses_and_pools_work_in_a_task() -> None:
    @core.remote(max_retries=0)
    def use_both() -> tuple[str, list[int]]:
        import multiprocessing
        import subprocess

        text = subprocess.run(
            [sys.executable, "-c", "print('hello')"], capture_output=True, text=True, check=True
        ).stdout
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return text, pool.map(abs, range(-3, 3))

    assert get(use_both.remote()) == ("hello\n", [3, 2, 1, 0, 1, 2])


def test_a_task_that_changes_signal_handlers_is_still_cancelled_by_force(tally: Tally) -> None:
    @core.remote(max_retries=0)
    def deaf(tally: Tally) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tally.add(os.getpid())
        time.sleep(600)

    ref = deaf.remote(tally)
    first_pid(tally)
    core.cancel(ref)
    core.cancel(ref, force=True)
    with pytest.raises(core.exceptions.TaskCancelledError):
        get(ref)
