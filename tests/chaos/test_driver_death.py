"""However a driver ends, no process, socket, file or shared memory of its session remains."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

import psutil
import pytest

from tests.chaos.driver import PROGRAMS, SOON, Driver, command, send
from tests.eventually import eventually

#: A namespace of processes of its own, which ends with the command.
NAMESPACE = ("unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child")


def may_unshare() -> bool:
    """Tell whether this user may make a namespace of processes here."""
    try:
        return subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV], ids=str)
def test_a_driver_ended_by_a_signal_leaves_nothing(number: signal.Signals) -> None:
    with Driver("busy", "wait") as driver:
        driver.wait_until_it_prints("ready")
        # The test must be able to fail: there is a session to leave behind.
        assert len(driver.processes()) >= 6
        assert any(path.endswith("node.sock") for path in driver.leftovers())
        driver.process.send_signal(number)
        assert driver.wait() == -number
        driver.assert_nothing_remains()


def test_ctrl_c_in_get_ends_the_driver_and_leaves_nothing() -> None:
    with Driver("busy", "get") as driver:
        driver.wait_until_it_prints("ready")
        driver.process.send_signal(signal.SIGINT)
        assert driver.wait() == -signal.SIGINT
        assert "KeyboardInterrupt" in driver.stderr
        driver.assert_nothing_remains()


def test_ctrl_c_from_the_terminal_reaches_every_process_and_leaves_nothing() -> None:
    """A terminal sends SIGINT to the whole foreground group; the session must not end in a heap of tracebacks."""
    with Driver("busy", "get") as driver:
        driver.wait_until_it_prints("ready")
        os.killpg(driver.process.pid, signal.SIGINT)
        assert driver.wait() == -signal.SIGINT
        assert driver.stderr.count("Traceback") == 1
        driver.assert_nothing_remains()


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [
        ("exception", 1, "RuntimeError: as planned"),
        ("os._exit", 7, ""),
        ("sys.exit", 7, ""),
        ("without shutdown", 0, ""),
    ],
)
def test_a_driver_that_ends_by_itself_leaves_nothing(ending: str, status: int, words: str) -> None:
    with Driver("busy", ending) as driver:
        assert driver.wait() == status, driver.stderr
        assert words in driver.stderr
        if not words:
            assert driver.stderr == ""
        driver.assert_nothing_remains()


@pytest.mark.parametrize("signals", [(signal.SIGKILL,), (signal.SIGINT, signal.SIGTERM)], ids=["kill", "int, term"])
def test_a_driver_that_dies_while_it_starts_a_session_leaves_nothing(signals: tuple[signal.Signals, ...]) -> None:
    with Driver("busy", "wait") as driver:
        eventually(lambda: len(driver.processes()) >= 2, SOON, "the daemon's process starts")
        for number in signals:
            driver.process.send_signal(number)
        driver.wait()
        driver.assert_nothing_remains()


def test_driver_and_daemon_killed_at_once_leave_nothing() -> None:
    with Driver("busy", "wait") as driver:
        driver.wait_until_it_prints("ready")
        daemon = driver.daemon
        send(psutil.Process(driver.process.pid), signal.SIGKILL)
        send(daemon, signal.SIGKILL)
        driver.wait()
        driver.assert_nothing_remains()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the zygote sees the driver's death by a pidfd (Linux)")
def test_a_driver_killed_while_its_daemon_is_stopped_leaves_nothing() -> None:
    """The daemon, which would see to it, does nothing; the zygote ends it."""
    with Driver("busy", "wait") as driver:
        driver.wait_until_it_prints("ready")
        send(driver.daemon, signal.SIGSTOP)
        driver.process.kill()
        driver.wait()
        driver.assert_nothing_remains()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs to see the very moment of a death (pidfd, Linux)")
def test_a_daemon_killed_while_it_tidies_up_leaves_nothing() -> None:
    """The zygote, which would tidy up after it, is there until all is tidied up."""
    with Driver("busy", "wait") as driver:
        driver.wait_until_it_prints("ready")
        daemon = driver.daemon
        zygote = os.pidfd_open(driver.zygote.pid)
        driver.process.kill()
        assert select.select([zygote], [], [], SOON)[0], "the zygote ends"
        with contextlib.suppress(ProcessLookupError):
            send(daemon, signal.SIGKILL)
        os.close(zygote)
        driver.wait()
        driver.assert_nothing_remains()


def test_driver_daemon_and_zygote_killed_at_once_leave_no_session_after_the_next_start() -> None:
    """Nobody is left to tidy up; the workers die with the zygote, the files go when the next session starts."""
    with Driver("busy", "wait") as driver:
        driver.wait_until_it_prints("ready")
        victims = [driver.zygote, driver.daemon, psutil.Process(driver.process.pid)]
        # Stopped first: the last to die must not have the time to tidy up.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for victim in victims:
                send(victim, number)
        driver.wait()
        eventually(
            lambda: [process.name() for process in driver.processes()] in ([], ["sleep"]), SOON, "the workers are gone"
        )
        assert any(path.endswith("node.sock") for path in driver.leftovers())
        subprocess.run(
            [sys.executable, "-c", "import core; core.init(num_cpus=1); core.shutdown()"],
            env={**os.environ, "TMPDIR": str(driver.tmp)},
            check=True,
            timeout=SOON,
        )
        assert not [path for path in driver.leftovers() if not path.startswith("process")]


@pytest.mark.skipif(
    not may_unshare(), reason="needs the right to make a namespace of processes (unshare --pid): root, or a sandbox"
)
@pytest.mark.parametrize("both", [False, True], ids=["driver", "driver and daemon"])
def test_nothing_remains_under_a_pid_1_that_does_not_reap(both: bool) -> None:
    prefix = (*NAMESPACE, sys.executable, str(PROGRAMS / "lazy_init.py"))
    with Driver("busy", "wait", prefix=prefix) as driver:
        driver.wait_until_it_prints("ready")
        outside = frozenset(process.pid for process in driver.processes() if "lazy_init" in " ".join(command(process)))
        victims = [process for process in driver.processes() if process.pid not in outside]
        program = next(process for process in victims if command(process)[1:2] == [driver.program])
        daemon = driver.daemon
        send(program, signal.SIGKILL)
        if both:
            send(daemon, signal.SIGKILL)
        driver.assert_nothing_remains(besides=outside)
        # Its memory goes first, and with it the mark it is found by; so it may still be on its way out here.
        eventually(lambda: program.status() == psutil.STATUS_ZOMBIE, what="the driver to stay, dead and not reaped")
