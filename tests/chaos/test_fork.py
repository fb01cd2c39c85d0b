"""Forks in drivers and tasks, and ends of drivers that hold many references."""

from __future__ import annotations

import pytest

from tests.chaos.driver import Driver


@pytest.mark.parametrize(
    "how",
    [
        "child_exits",
        "child_starts_its_own_session",
        "child_starts_a_session_by_itself",
        "child_uses_what_is_the_parents",
        "children_of_many_forks_while_threads_work",
        "multiprocessing_by_fork",
    ],
)
def test_fork(how: str) -> None:
    """Parent and child both end well; see the program for what each does."""
    with Driver("forks", how) as driver:
        assert driver.wait() == 0, driver.stderr
        assert driver.stdout == "done\n"
        assert driver.stderr == ""
        driver.assert_nothing_remains()


@pytest.mark.parametrize("how", ["child_raises", "task_forks"])
def test_a_forked_child_that_raises_leaves_the_parent_alone(how: str) -> None:
    """The child's traceback is printed, as that of any script, and nobody takes its error for the parent's."""
    with Driver("forks", how) as driver:
        assert driver.wait() == 0, driver.stderr
        assert driver.stdout == "done\n"
        assert driver.stderr.count("Traceback") == 1
        assert "ValueError: in the child" in driver.stderr
        driver.assert_nothing_remains()


@pytest.mark.parametrize(
    "how",
    [
        "thousands_of_references",
        "references_after_shutdown",
        "stale_reference",
        "stale_reference_in_the_next_session",
    ],
)
def test_a_driver_that_holds_references_at_its_end_ends_silently(how: str) -> None:
    with Driver("ends", how) as driver:
        assert driver.wait() == 0, driver.stderr
        assert driver.stdout == "done\n"
        assert driver.stderr == ""
        driver.assert_nothing_remains()
