"""The node daemon or the zygote dies: whoever waits gets one clear error, and a new session works at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import core
from core.exceptions import LocalRayletDiedError
from tests.chaos.driver import SOON, Driver, send
from tests.conformance.rendezvous import Gate, Tally
from tests.eventually import eventually


@core.remote
def wait_at(gate: Gate, tally: Tally) -> None:
    tally.add()
    gate.wait()


@core.remote
def one() -> int:
    return 1


@core.remote
class Actor:
    def ping(self) -> int:
        return 1


def daemon() -> psutil.Process:
    """The daemon of this process's session."""
    (found,) = (child for child in psutil.Process().children() if "bootstrap.py" in " ".join(child.cmdline()))
    return found


@pytest.fixture
def victim(session: object) -> Iterator[psutil.Process]:
    """The daemon of a session; afterwards a new session works in the same process."""
    yield daemon()
    core.shutdown()
    core.init(num_cpus=1)
    assert core.get(one.remote(), timeout=SOON) == 1


def kill_when(condition: Callable[[], Any], process: psutil.Process) -> threading.Thread:
    """Kill a process as soon as ``condition`` holds, while the calling thread waits in ``get``."""

    def watch() -> None:
        eventually(condition, SOON)
        send(process, signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_pending_get_raises(victim: psutil.Process, gate: Gate, tally: Tally) -> None:
    refs = [wait_at.remote(gate, tally) for _ in range(4)]
    thread = kill_when(lambda: tally.count() >= 1, victim)
    with pytest.raises(LocalRayletDiedError, match=r"(?s)init.*SIGKILL"):
        core.get(refs, timeout=SOON)
    thread.join()
    for ref in refs:
        with pytest.raises(LocalRayletDiedError):
            core.get(ref, timeout=SOON)


def test_a_pending_await_and_a_pending_future_raise(victim: psutil.Process, gate: Gate, tally: Tally) -> None:
    ref = wait_at.remote(gate, tally)
    future = ref.future()

    async def wait_for_it() -> None:
        await asyncio.wait_for(ref, SOON)

    thread = kill_when(lambda: tally.count() >= 1, victim)
    with pytest.raises(LocalRayletDiedError):
        asyncio.run(wait_for_it())
    with pytest.raises(LocalRayletDiedError):
        future.result(SOON)
    thread.join()


def test_everything_after_the_death_raises_and_nothing_hangs(victim: psutil.Process, tmp_path: Path) -> None:
    actor = Actor.remote()
    core.get(actor.ping.remote())
    known = core.put("small")
    send(victim, signal.SIGKILL)
    eventually(lambda: raises(lambda: core.get(one.remote(), timeout=SOON)), SOON, "the driver knows of the death")
    for use in (
        lambda: core.get(actor.ping.remote(), timeout=SOON),
        lambda: core.get(Actor.remote().ping.remote(), timeout=SOON),
        lambda: core.get_actor("nobody"),
        lambda: core.available_resources(),
        lambda: core.get(core.put(bytes(1 << 20)), timeout=SOON),
    ):
        with pytest.raises(core.exceptions.RayError):
            use()
    ready, _ = core.wait([one.remote()], timeout=SOON)
    assert len(ready) == 1
    assert core.get(known) == "small", "what this process has itself is still there"


def raises(call: Callable[[], Any]) -> bool:
    """Tell whether a call raises the daemon's death."""
    try:
        call()
    except LocalRayletDiedError:
        return True
    return False


def test_a_get_from_many_threads_raises_in_all(victim: psutil.Process, gate: Gate, tally: Tally) -> None:
    refs = [wait_at.remote(gate, tally) for _ in range(8)]
    errors: list[BaseException] = []

    def wait_for(ref: Any) -> None:
        try:
            core.get(ref, timeout=SOON)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=wait_for, args=[ref]) for ref in refs]
    for thread in threads:
        thread.start()
    eventually(lambda: tally.count() >= 1, SOON)
    send(victim, signal.SIGKILL)
    for thread in threads:
        thread.join(SOON)
    assert [isinstance(error, LocalRayletDiedError) for error in errors] == [True] * 8, errors


def test_the_workers_end_with_the_daemon(victim: psutil.Process) -> None:
    pids = core.get([Actor.remote().__ray_call__.remote(lambda self: os.getpid()) for _ in range(2)], timeout=SOON)
    workers = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    send(victim, signal.SIGKILL)
    psutil.wait_procs(workers, SOON)
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_the_zygotes_death_ends_the_session_with_one_clear_error(
    session: object, gate: Gate, tally: Tally, capfd: pytest.CaptureFixture[str]
) -> None:
    ref = wait_at.remote(gate, tally)
    (zygote,) = daemon().children()
    thread = kill_when(lambda: tally.count() >= 1, zygote)
    with pytest.raises(LocalRayletDiedError):
        core.get(ref, timeout=SOON)
    thread.join()
    core.shutdown()
    sys.stderr.flush()
    told = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(told) == 1, told
    assert "zygote" in told[0]
    assert "the session ends" in told[0]


def test_a_driver_whose_daemon_was_killed_ends_by_itself_and_leaves_nothing() -> None:
    with Driver("busy", "get") as driver:
        driver.wait_until_it_prints("ready")
        send(driver.daemon, signal.SIGKILL)
        assert driver.wait() == 1
        assert "LocalRayletDiedError" in driver.stderr
        assert driver.stderr.count("Traceback") == 1
        driver.assert_nothing_remains()


def test_a_stopped_daemon_is_named_and_nothing_is_lost_when_it_goes_on(
    session: object, gate: Gate, tally: Tally, capfd: pytest.CaptureFixture[str]
) -> None:
    """What needs no decision of the daemon goes on meanwhile; the rest waits, and the user is told what for."""
    actor = Actor.remote()
    assert core.get(actor.ping.remote(), timeout=SOON) == 1
    running = [wait_at.remote(gate, tally) for _ in range(2)]
    eventually(lambda: tally.count() == 2, SOON, "both tasks run")
    stopped = daemon()
    send(stopped, signal.SIGSTOP)
    try:
        late = [one.remote() for _ in range(20)]
        other = Actor.remote()
        late.append(other.ping.remote())
        assert core.get([actor.ping.remote() for _ in range(20)], timeout=SOON) == [1] * 20
        waiting = threading.Thread(target=core.get, args=[late[-1]])
        waiting.start()
        notice = f"the node daemon (process {stopped.pid}) has not answered"
        eventually(lambda: notice in capfd.readouterr().err, SOON, "the user is told")
        gate.open()
        assert core.get(running, timeout=SOON) == [None, None]
    finally:
        send(stopped, signal.SIGCONT)
    waiting.join(SOON)
    assert core.get(late, timeout=SOON) == [1] * 21
    assert core.cluster_resources()["CPU"] == 2.0
    core.get([other.ping.remote(), one.remote()], timeout=SOON)
    assert "has not answered" not in capfd.readouterr().err
