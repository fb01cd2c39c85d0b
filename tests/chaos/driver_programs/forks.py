"""Drivers that fork; the argument says how. Each prints ``done`` when parent and child did what they should."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable

import numpy as np

import core

# From Python 3.12 on a fork of a process with threads, which every driver is, is warned of.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

#: Seconds that a child may take; one that hangs is ended by SIGALRM.
CHILD_SECONDS = 40


@core.remote
def double(value: int) -> int:
    return 2 * value


@core.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child; return its exit status (negative: the signal)."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(CHILD_SECONDS)
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def goes_on(counter: core.ObjectRef[int]) -> None:
    """The parent's session works, on all of its sockets."""
    assert core.get([double.remote(value) for value in range(100)], timeout=60) == [2 * value for value in range(100)]
    assert core.get(counter, timeout=60) >= 1


def child_exits() -> None:
    """A child that does nothing, and one that runs its handlers of exit, leave the parent alone."""
    counter = Counter.remote()
    core.get(counter.add.remote())
    assert in_child(lambda: None) == 0
    pid = os.fork()
    if pid == 0:
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    goes_on(counter.add.remote())


def child_raises() -> None:
    counter = Counter.remote()
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the child")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    goes_on(counter.add.remote())


def child_starts_its_own_session() -> None:
    counter = Counter.remote()
    core.get(counter.add.remote())
    session = core.get_runtime_context().get_session_name()

    def work() -> None:
        assert not core.is_initialized()
        core.init(num_cpus=1)
        assert core.get_runtime_context().get_session_name() != session
        assert core.get([double.remote(value) for value in range(20)], timeout=30) == [2 * v for v in range(20)]
        core.shutdown()

    assert in_child(work) == 0
    goes_on(counter.add.remote())


def child_starts_a_session_by_itself() -> None:
    """First use in a child starts a session of the child's own, as in any process."""
    counter = Counter.remote()
    core.get(counter.add.remote())

    def work() -> None:
        assert core.get(double.remote(4), timeout=30) == 8
        core.shutdown()

    assert in_child(work) == 0
    goes_on(counter.add.remote())


def child_uses_what_is_the_parents() -> None:
    """References and handles of the parent are one clear error in the child."""
    counter = Counter.remote()
    refs = [core.put(1), core.put(np.zeros(1 << 20)), double.remote(1), counter.add.remote()]
    core.get(refs)

    def work() -> None:
        for ref in refs:
            try:
                core.get(ref, timeout=30)
            except core.exceptions.RaySystemError:
                continue
            raise AssertionError("the child speaks for the parent")
        try:
            core.get(counter.add.remote(), timeout=30)
        except core.exceptions.RayError:
            pass
        else:
            raise AssertionError("the child calls the parent's actor")
        refs.clear()

    assert in_child(work) == 0
    assert core.get(refs, timeout=60)[0] == 1
    goes_on(counter.add.remote())


def children_of_many_forks_while_threads_work() -> None:
    """Forks in the middle of traffic: every child can start a session, or just leave, and nothing hangs."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                assert core.get([double.remote(value) for value in range(50)], timeout=60)[3] == 6
                core.get(core.put(np.ones(1 << 15)), timeout=60)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()

    def use() -> None:
        core.init(num_cpus=1)
        assert core.get(double.remote(1), timeout=30) == 2
        core.shutdown()

    statuses = [in_child(lambda: None) for _ in range(20)] + [in_child(use) for _ in range(3)]
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert statuses == [0] * 23, statuses
    goes_on(Counter.remote().add.remote())


def squares(value: int) -> int:
    return value * value


def multiprocessing_by_fork() -> None:
    """The standard library's pool forks; its workers know nothing of the session."""
    counter = Counter.remote()
    core.get(counter.add.remote())
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(squares, range(20)) == [value * value for value in range(20)]
    goes_on(counter.add.remote())


def task_forks() -> None:
    """A child forked in a task does not speak on the worker's sockets, even if it returns into the worker's loop."""

    @core.remote
    def forks(how: str) -> int:
        pid = os.fork()
        if pid == 0:
            if how == "return":
                return -1
            if how == "raise":
                raise ValueError("in the child")
            os._exit(3)
        os.waitpid(pid, 0)
        return pid

    for how in ("exit", "return", "raise"):
        assert core.get(forks.remote(how), timeout=60) > 0
    goes_on(Counter.remote().add.remote())


if __name__ == "__main__":
    core.init(num_cpus=2)
    globals()[sys.argv[1]]()
    core.shutdown()
    print("done", flush=True)
