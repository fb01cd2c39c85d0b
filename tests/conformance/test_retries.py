"""Retries: which failures count, how often a task runs, what the caller sees in the end."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.conformance.rendezvous import Tally
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
WORKER_DIES = "the worker process ends"


class Transient(Exception):
    pass


class VeryTransient(Transient):
    pass


@ray.remote
def flaky(tally: Tally, failures: int, error: type[Exception] = Transient) -> int:
    """Fail so many times, then return the number of the attempt."""
    attempt = tally.add("attempt")
    if attempt <= failures:
        raise error(f"attempt {attempt}")
    return attempt


@ray.remote
def crashing(tally: Tally, crashes: int) -> int:
    """End the worker so many times, then return the number of the attempt."""
    attempt = tally.add("attempt")
    if attempt <= crashes:
        os._exit(1)
    return attempt


@pytest.mark.needs_processes(WORKER_DIES)
def test_a_crashed_task_is_retried_by_default(tally: Tally) -> None:
    assert ray.get(crashing.remote(tally, 1)) == 2


@pytest.mark.needs_processes(WORKER_DIES)
@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_a_task_runs_at_most_once_more_than_max_retries(tally: Tally, max_retries: int) -> None:
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(crashing.options(max_retries=max_retries).remote(tally, 100))
    assert tally.count() == 1 + max_retries


@pytest.mark.needs_processes(WORKER_DIES)
def test_minus_one_retries_for_ever(tally: Tally) -> None:
    assert ray.get(crashing.options(max_retries=-1).remote(tally, 5)) == 6


@pytest.mark.needs_processes(WORKER_DIES)
def test_a_worker_killed_from_outside_is_a_crash(tally: Tally) -> None:
    @ray.remote(max_retries=1)
    def killed_once(tally: Tally) -> int:
        attempt = tally.add(os.getpid())
        if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return attempt

    assert ray.get(killed_once.remote(tally)) == 2
    first, second = tally.lines()
    assert first != second


@pytest.mark.needs_processes(WORKER_DIES)
def test_a_retried_task_gets_its_arguments_again(tally: Tally) -> None:
    @ray.remote(max_retries=1)
    def total(tally: Tally, small: int, large: bytes, refs: list[Any]) -> int:
        if tally.add() == 1:
            os._exit(1)
        return small + len(large) + sum(ray.get(refs))

    ref = total.remote(tally, ray.put(1), ray.put(b"x" * 500_000), [ray.put(10)])
    assert ray.get(ref) == 500_011


@pytest.mark.needs_processes(WORKER_DIES)
def test_dependents_wait_for_the_retry(tally: Tally) -> None:
    @ray.remote
    def increment(value: int) -> int:
        return value + 1

    assert ray.get(increment.remote(crashing.remote(tally, 2))) == 4


def test_an_application_error_is_not_retried_by_default(tally: Tally) -> None:
    with pytest.raises(Transient, match="attempt 1"):
        ray.get(flaky.remote(tally, 1))
    assert tally.count() == 1


def test_retry_exceptions_true_retries_any_error(tally: Tally) -> None:
    assert ray.get(flaky.options(retry_exceptions=True).remote(tally, 2, KeyError)) == 3


def test_retry_exceptions_takes_a_list_of_classes(tally: Tally) -> None:
    assert ray.get(flaky.options(retry_exceptions=[Transient]).remote(tally, 2)) == 3


def test_retry_exceptions_includes_subclasses(tally: Tally) -> None:
    assert ray.get(flaky.options(retry_exceptions=[Transient]).remote(tally, 1, VeryTransient)) == 2


def test_an_error_that_is_not_listed_is_not_retried(tally: Tally) -> None:
    with pytest.raises(KeyError):
        ray.get(flaky.options(retry_exceptions=[Transient]).remote(tally, 1, KeyError))
    assert tally.count() == 1


def test_the_last_error_is_raised_when_retries_are_used_up(tally: Tally) -> None:
    with pytest.raises(Transient, match="attempt 3"):
        ray.get(flaky.options(max_retries=2, retry_exceptions=True).remote(tally, 100))
    assert tally.count() == 3


def test_no_retries_means_no_retries_of_errors_either(tally: Tally) -> None:
    with pytest.raises(Transient):
        ray.get(flaky.options(max_retries=0, retry_exceptions=True).remote(tally, 1))
    assert tally.count() == 1


def test_retry_exceptions_in_the_decorator(tally: Tally) -> None:
    @ray.remote(max_retries=5, retry_exceptions=[Transient])
    def eventually(tally: Tally) -> int:
        attempt = tally.add()
        if attempt < 4:
            raise Transient(str(attempt))
        return attempt

    assert ray.get(eventually.remote(tally)) == 4


@pytest.mark.parametrize("value", ["yes", [1], [ValueError()]])
def test_bad_values_of_retry_exceptions_are_refused(tally: Tally, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        flaky.options(retry_exceptions=value).remote(tally, 0)


def test_an_actor_method_is_not_retried_by_default(tally: Tally) -> None:
    @ray.remote
    class Flaky:
        def call(self, tally: Tally) -> None:
            tally.add()
            raise Transient("no retry")

    actor = Flaky.remote()
    with pytest.raises(Transient):
        ray.get(actor.call.remote(tally))
    assert tally.count() == 1


@pytest.mark.parametrize("where", ["decorator", "options"])
def test_an_actor_method_is_retried_on_errors_when_asked(tally: Tally, where: str) -> None:
    @ray.remote
    class Flaky:
        @ray.method(max_task_retries=3, retry_exceptions=[Transient])
        def marked(self, tally: Tally) -> int:
            return self.plain(tally)

        def plain(self, tally: Tally) -> int:
            attempt = tally.add()
            if attempt < 3:
                raise Transient("again")
            return attempt

    actor = Flaky.remote()
    if where == "decorator":
        ref = actor.marked.remote(tally)
    else:
        ref = actor.plain.options(max_task_retries=3, retry_exceptions=True).remote(tally)
    assert ray.get(ref) == 3
