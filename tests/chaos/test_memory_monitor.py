"""A task that outgrows memory ends in OutOfMemoryError after its attempts, and its neighbours live.

The threshold is set a little above what the machine uses now, so that a moderate hog crosses it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

import core
from core.node.machine import memory_usage
from core.node.memory import THRESHOLD_VARIABLE
from tests.chaos.driver import SOON
from tests.conformance.rendezvous import Gate, Tally

MIB = 1 << 20
#: What the hog may take beyond today's use before it must have been ended.
ROOM = 600 * MIB
#: Where it stops by itself: the monitor failed then.
ENOUGH = 2400 * MIB


@core.remote
def hog(tally: Tally) -> str:
    tally.add(os.getpid())
    kept = []
    for _ in range(ENOUGH // (8 * MIB)):
        kept.append(b"x" * (8 * MIB))
        # As fast as a program that also does something with its memory.
        time.sleep(0.01)
    return "never ended"


@core.remote
def innocent(gate: Gate) -> int:
    gate.wait()
    return os.getpid()


@core.remote
class Innocent:
    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A session whose memory is nearly used up."""
    used, limit = memory_usage()
    if not limit:
        pytest.skip("this system does not tell how much memory is used (no /proc/meminfo)")
    if limit - used < 2 * ENOUGH:
        pytest.skip(f"needs {2 * ENOUGH >> 20} MiB of free memory to let a program outgrow its share safely")
    monkeypatch.setenv(THRESHOLD_VARIABLE, str((used + ROOM) / limit))
    core.init(num_cpus=3, object_store_memory=64 * MIB)
    yield
    core.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 1])
def test_the_hog_is_ended_and_nobody_else(tight: None, gate: Gate, tally: Tally, retries: int) -> None:
    actor = Innocent.remote()
    pid = core.get(actor.pid.remote())
    neighbour = innocent.options(max_retries=0).remote(gate)
    ref = hog.options(max_retries=retries).remote(tally)
    with pytest.raises(core.exceptions.OutOfMemoryError) as caught:
        core.get(ref, timeout=3 * SOON)
    assert tally.count() <= 1 + retries
    assert "hog" in str(caught.value)
    assert "MiB" in str(caught.value)
    gate.open()
    assert core.get(neighbour, timeout=SOON) > 0
    assert core.get(actor.pid.remote(), timeout=SOON) == pid
