"""Tasks in the pipe of a worker that turned out to be slow come back, as soon as they can run elsewhere."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path

import cloudpickle
import pytest

import core
from tests.conformance.rendezvous import Gate, Tally, process_is_gone, wait_until

#: Seconds that nothing here should ever need; no test measures speed.
SOON = 20
#: Tasks submitted at once: enough for a full pipe behind the long one.
TASKS = 40

pytestmark = pytest.mark.usefixtures("session")
cloudpickle.register_pickle_by_value(importlib.import_module("tests.conformance.rendezvous"))


@core.remote
def work(gate: Gate | None, tally: Tally | None) -> None:
    """Be quick, as far as anybody has seen, unless there is a gate to wait for."""
    if tally is not None:
        tally.add("long")
    if gate is not None:
        gate.wait()


@core.remote(num_cpus=1)
class Occupant:
    """Takes a CPU without a lease: the submitter of tasks does not see that worker."""

    def ready(self) -> None:
        """Be there."""


def test_tasks_behind_a_long_one_on_the_only_lease_move_to_a_worker_that_falls_idle(tmp_path: Path) -> None:
    """With one lease and nothing queued the submitter sees no other worker: what is stuck must be queued again."""
    long, tally = Gate(str(tmp_path / "long")), Tally(str(tmp_path / "tally"))
    occupant = Occupant.remote()
    core.get(occupant.ready.remote())
    # Measured as quick, so that many fit into one pipe.
    core.get([work.remote(None, None) for _ in range(200)])
    refs = [work.remote(long if number == 5 else None, tally if number == 5 else None) for number in range(TASKS)]
    wait_until(lambda: tally.count() == 1, what="the long one to run")
    core.kill(occupant)
    quick = refs[:5] + refs[6:]
    try:
        assert core.get(quick, timeout=SOON) == [None] * len(quick)
        assert core.wait(refs, num_returns=TASKS, timeout=0)[1] == [refs[5]]
    finally:
        long.open()
    core.get(refs[5], timeout=SOON)


@core.remote
def stop_at(number: int, tally: Tally, gate: Gate) -> int:
    """Be quick, but stop the whole process in the middle of number 5, and then wait."""
    if number == 5 and tally.add(os.getpid()) == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
        gate.wait()
    return number


def test_a_task_cancelled_while_its_worker_hands_it_back_is_cancelled(tmp_path: Path) -> None:
    tally, gate = Tally(str(tmp_path / "tally")), Gate(str(tmp_path / "gate"))
    occupant = Occupant.remote()
    core.get(occupant.ready.remote())
    core.get([stop_at.remote(0, tally, gate) for _ in range(200)])
    refs = [stop_at.remote(number, tally, gate) for number in range(TASKS)]
    wait_until(tally.count, what="the worker to stop")
    leases = core.current.engine.runtime.tasks._leases
    wait_until(lambda: any(lease.stealing for _, lease in leases.values()), what="its tasks to be asked back")
    core.cancel(refs[20])
    os.kill(int(tally.lines()[0]), signal.SIGCONT)
    with pytest.raises(core.exceptions.TaskCancelledError):
        core.get(refs[20], timeout=SOON)
    gate.open()
    others = refs[:20] + refs[21:]
    assert core.get(others, timeout=SOON) == [number for number in range(TASKS) if number != 20]


@core.remote(num_cpus=0)
def outlive(tally: Tally, gate: Gate) -> None:
    tally.add("child")
    gate.wait()
    tally.add("end")


@core.remote
def chain(depth: int, tally: Tally, gate: Gate) -> list[int]:
    """Call oneself; the innermost starts a task and does not wait for it. Return the processes, innermost first."""
    if depth:
        return [*core.get(chain.remote(depth - 1, tally, gate)), os.getpid()]
    outlive.remote(tally, gate)
    wait_until(tally.count, what="the child to start")
    return [os.getpid()]


def test_a_worker_that_is_asked_to_leave_stays_for_the_tasks_it_submitted(tmp_path: Path) -> None:
    """They would be ended with their owner. The pool of idle workers shrinks by those that are idle for longest."""
    tally, gate = Tally(str(tmp_path / "tally")), Gate(str(tmp_path / "gate"))
    processes = core.get(chain.remote(4, tally, gate), timeout=SOON)
    wait_until(lambda: process_is_gone(processes[1]), what="the worker that is idle for second longest to leave")
    gate.open()
    wait_until(lambda: tally.lines() == ["child", "end"], SOON, what="the child to end")
    assert not process_is_gone(processes[0])
