"""``core.runtime.borrowing``: which messages a holder of references sends."""

from __future__ import annotations

from typing import Any

import pytest

from core import ids
from core.protocol import peer
from core.runtime.borrowing import Borrowing

OWNER, OTHER = ids.new_address(), ids.new_address()


class Wire:
    """What was sent, and what waits to be: like a connection, which sends all it has queued at once."""

    def __init__(self) -> None:
        self.queued: list[tuple[bytes, Any]] = []
        self.sent: list[tuple[bytes, Any]] = []
        self.unknown: list[bytes] = []

    def send(self, address: bytes, message: Any) -> bool:
        self.queued.append((address, message))
        return True

    def unsent(self, address: bytes, message: Any) -> bool:
        return any(message is queued for _, queued in self.queued)

    def flush(self) -> None:
        self.sent += self.queued
        self.queued = []


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def borrowing(wire: Wire) -> Borrowing:
    return Borrowing(wire.send, wire.unsent, wire.unknown.extend)


def identifier(owner: bytes, number: int) -> bytes:
    return ids.object_id(ids.task_id(owner, number, b"\0\0\0\1"), 0)


def test_references_that_come_together_are_borrowed_together(wire: Wire, borrowing: Borrowing) -> None:
    objects = [identifier(OWNER, number) for number in range(3)]
    for object_id in objects:
        borrowing.borrow(object_id)
    wire.flush()
    ((address, message),) = wire.sent
    assert address == OWNER
    assert message.objects == objects
    assert not borrowing.quiet
    borrowing.answered(peer.Borrowed(message.number, []))
    assert borrowing.quiet


def test_what_is_sent_is_not_added_to(wire: Wire, borrowing: Borrowing) -> None:
    borrowing.borrow(identifier(OWNER, 1))
    wire.flush()
    borrowing.borrow(identifier(OWNER, 2))
    wire.flush()
    first, second = (message for _, message in wire.sent)
    assert len(first.objects) == len(second.objects) == 1
    borrowing.answered(peer.Borrowed(second.number, []))
    assert not borrowing.quiet
    borrowing.answered(peer.Borrowed(first.number, []))
    assert borrowing.quiet


def test_every_owner_hears_of_its_own(wire: Wire, borrowing: Borrowing) -> None:
    for number in range(4):
        borrowing.borrow(identifier((OWNER, OTHER)[number % 2], number))
    wire.flush()
    for address, message in wire.sent:
        assert {ids.owner_of(object_id) for object_id in message.objects} == {address}
    assert sum(len(message.objects) for _, message in wire.sent) == 4


def test_a_release_waits_for_every_answer(wire: Wire, borrowing: Borrowing) -> None:
    first, second = identifier(OWNER, 1), identifier(OWNER, 2)
    borrowing.borrow(first)
    borrowing.borrow(second)
    borrowing.release(first)
    borrowing.flush()
    wire.flush()
    assert [type(message) for _, message in wire.sent] == [peer.Borrow]
    borrowing.answered(peer.Borrowed(wire.sent[0][1].number, []))
    wire.flush()
    assert wire.sent[1] == (OWNER, peer.Release([first]))


def test_what_the_owner_does_not_know_is_told(wire: Wire, borrowing: Borrowing) -> None:
    borrowing.borrow(identifier(OWNER, 1))
    wire.flush()
    borrowing.answered(peer.Borrowed(wire.sent[0][1].number, [identifier(OWNER, 1)]))
    assert wire.unknown == [identifier(OWNER, 1)]


def test_what_follows_a_borrow_waits_for_its_answer_but_not_for_later_ones(wire: Wire, borrowing: Borrowing) -> None:
    done: list[str] = []
    borrowing.when_settled(lambda: done.append("at once"))
    borrowing.borrow(identifier(OWNER, 1))
    wire.flush()
    borrowing.when_settled(lambda: done.append("first"))
    borrowing.borrow(identifier(OTHER, 2))
    wire.flush()
    borrowing.when_settled(lambda: done.append("second"))
    assert done == ["at once"]
    borrowing.answered(peer.Borrowed(wire.sent[0][1].number, []))
    assert done == ["at once", "first"]
    borrowing.process_gone(OTHER)
    assert done == ["at once", "first", "second"]


def test_what_goes_to_an_owner_does_not_wait_for_its_own_answer(wire: Wire, borrowing: Borrowing) -> None:
    done: list[str] = []
    borrowing.borrow(identifier(OWNER, 1))
    wire.flush()
    borrowing.when_settled(lambda: done.append("to the owner"), OWNER)
    borrowing.when_settled(lambda: done.append("to another"), OTHER)
    assert done == ["to the owner"]


def test_what_goes_to_one_process_keeps_its_order(wire: Wire, borrowing: Borrowing) -> None:
    done: list[str] = []
    borrowing.borrow(identifier(OTHER, 1))
    borrowing.borrow(identifier(OWNER, 2))
    wire.flush()
    borrowing.when_settled(lambda: done.append("an item"), OWNER)
    borrowing.answered(peer.Borrowed(wire.sent[0][1].number, []))
    assert done == ["an item"], "only the target's own answer is outstanding"
    borrowing.borrow(identifier(OTHER, 3))
    wire.flush()
    borrowing.when_settled(lambda: done.append("another item"), OWNER)
    borrowing.process_gone(OWNER)
    borrowing.when_settled(lambda: done.append("the end"), OWNER)
    assert done == ["an item"]
    borrowing.answered(peer.Borrowed(wire.sent[2][1].number, []))
    assert done == ["an item", "another item", "the end"]
