"""Who waits for what will not come is told why after a few seconds; who only queues is not bothered."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.driver import SOON, Driver
from tests.eventually import eventually


def test_waits_without_end_are_explained_and_queueing_is_not(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    with Driver("waits", str(gate)) as driver:
        eventually(lambda: driver.stderr.count("WARNING") >= 3, SOON, "three notices")
        notices = [line for line in driver.stderr.splitlines() if "WARNING" in line]
        assert any("impossible" in line and "unobtainium" in line and "no node has more" in line for line in notices)
        assert any("wants_the_slot" in line and "{slot: 0}" in line and "actors" in line for line in notices)
        (deadlock,) = (line for line in notices if "deadlock" in line)
        assert deadlock.count("actor Waiter") == 4
        # The ordinary tasks have waited longer than the others.
        assert not any("queue_for_a_cpu" in line for line in notices)
        gate.touch()
        assert driver.wait() == 0, driver.stderr
        driver.assert_nothing_remains()
