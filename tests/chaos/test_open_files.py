"""Too few and very many open files."""

from __future__ import annotations

import resource

import pytest

from tests.chaos.driver import Driver


def test_actors_that_the_daemon_has_no_files_for_say_so_or_wait_and_the_others_live() -> None:
    with Driver("files", "few") as driver:
        assert driver.wait() == 0, driver.stderr
        outcomes, living = driver.stdout.splitlines()[0].rsplit(maxsplit=1)
        assert outcomes in ("['1', 'told why']", "['1']")
        assert 0 < int(living) < 40
        assert "told why" in outcomes or "ulimit" in driver.stderr
        driver.assert_nothing_remains()


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000, reason="the hard limit of open files is below 2,000 here"
)
def test_a_driver_with_more_open_files_than_select_can_look_at() -> None:
    with Driver("files", "many") as driver:
        assert driver.wait() == 0, driver.stderr
        driver.assert_nothing_remains()
