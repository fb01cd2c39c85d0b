"""What becomes of arguments whose call or actor does not come about: nothing may be kept for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import core
from core.exceptions import PendingCallsLimitExceeded
from core.util.state import list_objects
from tests.eventually import eventually

LARGE = bytes(300_000)


@core.remote
class Service:
    """Does nothing, with any argument."""

    def __init__(self, argument: Any = None) -> None:
        pass

    def take(self, argument: Any = None) -> None:
        pass


@core.remote
def take(argument: Any) -> None:
    pass


@pytest.fixture(autouse=True)
def session() -> Iterator[None]:
    core.init(num_cpus=2, log_to_driver=False)
    yield
    core.shutdown()


def nothing_is_kept() -> bool:
    return not [row for row in list_objects() if (row["object_size"] or 0) > len(LARGE)]


def test_an_actor_that_exists_already_keeps_no_second_arguments() -> None:
    service = Service.options(name="service").remote()
    for _ in range(2):
        same = Service.options(name="service", get_if_exists=True).remote(core.put(LARGE))
        assert same == service
        with pytest.raises(ValueError, match="service"):
            Service.options(name="service").remote(core.put(LARGE))
    eventually(nothing_is_kept)


def test_a_call_beyond_the_limit_keeps_no_arguments() -> None:
    service = Service.options(max_pending_calls=1, max_concurrency=1).remote()
    with pytest.raises(PendingCallsLimitExceeded):
        for _ in range(1000):
            service.take.remote(LARGE)
    del service
    eventually(nothing_is_kept)


def test_a_reference_of_an_earlier_session_is_refused_and_nothing_counts() -> None:
    stale = core.put(1)
    core.shutdown()
    core.init(num_cpus=2, log_to_driver=False)
    service = Service.options(max_pending_calls=3).remote()
    for argument in (stale, [stale], [stale, LARGE]):
        with pytest.raises(ValueError, match="owner is unknown"):
            take.remote(argument)
        with pytest.raises(ValueError, match="owner is unknown"):
            service.take.remote(argument)
        with pytest.raises(ValueError, match="owner is unknown"):
            Service.remote(argument)
    assert core.get(service.take.remote()) is None
    eventually(nothing_is_kept)
