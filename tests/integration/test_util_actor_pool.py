"""``core.util.ActorPool``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
from core.exceptions import ActorDiedError
from core.util import ActorPool
from tests.conformance.rendezvous import Gate

pytestmark = pytest.mark.usefixtures("session")


@core.remote
class Worker:
    def double(self, value: int) -> int:
        return 2 * value

    def pair(self, value: int) -> tuple[int, int]:
        return value, -value

    def wait_for(self, gate: Gate, value: int) -> int:
        gate.wait()
        return value

    def divide(self, value: int) -> float:
        return 1 / value

    def leave(self, value: int) -> None:
        os._exit(1)


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


@pytest.fixture
def pool(session: object) -> ActorPool:
    return ActorPool([Worker.remote(), Worker.remote()])


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(str(tmp_path / "gate"))
    yield gate
    gate.open()


def test_map_keeps_the_order_of_the_values(pool: ActorPool) -> None:
    assert list(pool.map(double, range(10))) == [2 * value for value in range(10)]


def test_map_unordered_gives_every_result_once(pool: ActorPool) -> None:
    assert sorted(pool.map_unordered(double, range(10))) == [2 * value for value in range(10)]


def test_get_next_keeps_the_order_though_the_first_is_slow(pool: ActorPool, gate: Gate) -> None:
    pool.submit(lambda actor, value: actor.wait_for.remote(gate, value), 1)
    pool.submit(double, 2)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0)
    gate.open()
    assert [pool.get_next(), pool.get_next()] == [1, 4]


def test_get_next_unordered_does_not_wait_for_the_slow_one(pool: ActorPool, gate: Gate) -> None:
    pool.submit(lambda actor, value: actor.wait_for.remote(gate, value), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered() == 4
    gate.open()
    assert pool.get_next_unordered() == 1
    assert not pool.has_next()


def test_get_next_after_get_next_unordered_is_refused(pool: ActorPool, gate: Gate) -> None:
    pool.submit(lambda actor, value: actor.wait_for.remote(gate, value), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered() == 4
    with pytest.raises(ValueError, match="get_next_unordered"):
        pool.get_next()


def test_nothing_to_get_ends_an_iteration(pool: ActorPool) -> None:
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_an_ignored_call_gives_its_place_to_the_next(pool: ActorPool, gate: Gate) -> None:
    pool.submit(lambda actor, value: actor.wait_for.remote(gate, value), 1)
    pool.submit(double, 2)
    with pytest.raises(TimeoutError, match="ignored"):
        pool.get_next(timeout=0, ignore_if_timedout=True)
    assert pool.get_next() == 4
    assert not pool.has_next()


def test_a_call_waits_until_a_result_is_taken(pool: ActorPool) -> None:
    submitted: list[int] = []

    def call(actor: Any, value: int) -> Any:
        submitted.append(value)
        return actor.double.remote(value)

    for value in range(3):
        pool.submit(call, value)
    assert submitted == [0, 1]
    assert pool.get_next() == 0
    assert submitted == [0, 1, 2]


def test_an_error_is_raised_and_the_actor_goes_on(pool: ActorPool) -> None:
    pool.submit(lambda actor, value: actor.divide.remote(value), 0)
    with pytest.raises(ZeroDivisionError):
        pool.get_next()
    assert pool.has_free()
    assert list(pool.map(double, range(4))) == [0, 2, 4, 6]


def test_a_dead_actor_leaves_the_pool(pool: ActorPool) -> None:
    pool.submit(lambda actor, value: actor.leave.remote(value), 0)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert list(pool.map(double, range(4))) == [0, 2, 4, 6]
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None


def test_calls_with_several_returns(pool: ActorPool) -> None:
    calls = pool.map(lambda actor, value: actor.pair.options(num_returns=2).remote(value), range(4))
    assert [list(pair) for pair in calls] == [[value, -value] for value in range(4)]


def test_idle_actors_can_be_taken_and_given_back(pool: ActorPool) -> None:
    first = pool.pop_idle()
    second = pool.pop_idle()
    assert first != second
    assert pool.pop_idle() is None
    assert not pool.has_free()
    pool.submit(double, 5)
    assert not pool.has_next()
    pool.push(first)
    assert pool.get_next() == 10
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(first)


def test_map_drops_results_nobody_took(pool: ActorPool) -> None:
    for value in (100, 200, 300):
        pool.submit(double, value)
    assert list(pool.map(double, [1, 2])) == [2, 4]
