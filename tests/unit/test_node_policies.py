"""Small decisions of the daemon: whom to end when memory is short, who waits for whom."""

from __future__ import annotations

import os

import pytest

from core.node.machine import memory_usage
from core.node.memory import FAST_SECONDS, SETTLE_SECONDS, SLOW_SECONDS, MemoryMonitor
from core.protocol.records import DeathCause
from core.state.memory_policy import MIN_VICTIM_BYTES, Usage, choose_victim
from core.state.waits import EDGE_SECONDS, WaitGraph


def usage(name: str, mib: int) -> Usage:
    return Usage(name.encode(), 1, mib * 1024 * 1024)


@pytest.mark.parametrize(
    ("usages", "victim"),
    [
        ([], None),
        ([usage("small", 10)], None),
        ([usage("old", 100), usage("hog", 900), usage("newest", 200)], b"hog"),
        ([Usage(b"just", 1, MIN_VICTIM_BYTES)], b"just"),
    ],
)
def test_the_hog_is_the_victim(usages: list[Usage], victim: bytes | None) -> None:
    chosen = choose_victim(usages)
    assert (chosen.address if chosen is not None else None) == victim


def test_the_monitor_samples_faster_near_the_threshold_and_gives_a_victim_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKATE_memory_usage_threshold", "0.8")
    usages = iter((100, 750, 900))
    killed: list[tuple[bytes, DeathCause]] = []
    ballast = bytearray(os.urandom(1024)) * (96 * 1024)
    monitor = MemoryMonitor(
        lambda: [(b"me", os.getpid())],
        lambda address, cause: killed.append((address, cause)),
        lambda: (next(usages), 1000),
    )
    for pause in (SLOW_SECONDS, FAST_SECONDS, SETTLE_SECONDS):
        monitor.sample(50.0)
        assert monitor.deadline == 50.0 + pause
    del ballast
    ((address, cause),) = killed
    assert address == b"me"
    assert cause.kind == "oom"
    assert "MiB" in cause.detail


def test_this_machine_tells_its_memory() -> None:
    used, limit = memory_usage()
    assert 0 < used < limit


def test_a_cycle_is_found_when_its_last_edge_appears() -> None:
    graph = WaitGraph()
    assert graph.wait(b"a", b"b", 0) == []
    assert graph.wait(b"b", b"c", 1) == []
    assert graph.wait(b"c", b"a", 2) == [b"c", b"a", b"b"]


def test_who_goes_on_breaks_the_cycle() -> None:
    graph = WaitGraph()
    graph.wait(b"a", b"b", 0)
    graph.go_on(b"a")
    assert graph.wait(b"b", b"a", 1) == []


def test_a_wait_behind_a_cycle_is_none_itself() -> None:
    graph = WaitGraph()
    graph.wait(b"a", b"b", 0)
    graph.wait(b"b", b"a", 0)
    assert graph.wait(b"driver", b"a", 0) == []


def test_an_edge_that_is_not_confirmed_fades() -> None:
    graph = WaitGraph()
    graph.wait(b"a", b"b", 0)
    assert graph.wait(b"b", b"a", EDGE_SECONDS + 1) == []
