"""Nothing that only Linux has is needed: sessions work, and leave nothing behind, without any of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.chaos.driver import Driver

#: See the ``sitecustomize`` module there.
ELSEWHERE = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).with_name("elsewhere")), os.getcwd()])}


def test_a_program_that_uses_everything_runs_and_leaves_nothing() -> None:
    with Driver("all_kinds", "end", environment=ELSEWHERE) as driver:
        assert driver.wait() == 0, driver.stderr
        assert driver.stdout == "ready\n"
        driver.assert_nothing_remains()


def test_a_killed_driver_leaves_nothing_though_a_child_keeps_its_sockets_open() -> None:
    with Driver("all_kinds", "wait", environment=ELSEWHERE) as driver:
        lines = driver.wait_until_it_prints("ready").splitlines()
        driver.process.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        driver.assert_nothing_remains(besides=frozenset(int(line.split()[1]) for line in lines))
