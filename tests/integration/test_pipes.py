"""Tasks in the pipe of a worker that turned out to be slow come back, as soon as they can run elsewhere."""

from __future__ import annotations

import importlib
from pathlib import Path

import cloudpickle
import pytest

import core
from tests.conformance.rendezvous import Gate, Tally, wait_until

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
