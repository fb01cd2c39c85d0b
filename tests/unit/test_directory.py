"""The object directory: examples of each rule, and a machine that plays clients against it at random."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.state import directory_records as rec
from core.state.directory import (
    ANSWER_SECONDS,
    BUSY_SECONDS,
    DISK_SECONDS,
    EARLY_FREE_SECONDS,
    GRACE_SECONDS,
    HASTY_SECONDS,
    UNKNOWN_SECONDS,
    Directory,
)
from core.store.allocator import RangeAllocator

A, B, C = b"a" * 12, b"b" * 12, b"c" * 12
UNIT = 64
CAPACITY = 16 * UNIT


def oid(number: int, owner: bytes = A) -> bytes:
    return owner + number.to_bytes(16, "big")


class Play:
    """A directory with a clock; checks the invariants after every event."""

    def __init__(self, *processes: bytes) -> None:
        self.now = 100.0
        self.directory = Directory(CAPACITY)
        for address in processes or (A, B):
            assert self.feed(rec.ProcessJoined(address)) == []

    def feed(self, event: Any) -> list[Any]:
        out = self.directory.handle(event, now=self.now)
        self.directory.validate()
        return out

    def after(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.feed(rec.Tick())

    def lend(self, address: bytes, units: int) -> int:
        (lent,) = self.feed(rec.ExtentWanted(address, 1, units * UNIT))
        assert isinstance(lent, rec.LendExtent)
        assert lent.size == units * UNIT
        return lent.offset

    def make(self, number: int, units: int, creator: bytes = A, owner: bytes = A) -> bytes:
        """Have ``creator`` make an object in an extent of just its size."""
        offset = self.lend(creator, units)
        assert self.feed(rec.ObjectsSealed(creator, [(oid(number, owner), offset, units * UNIT)])) == []
        return oid(number, owner)


def of(kind: type, instructions: list[Any]) -> list[Any]:
    return [instruction for instruction in instructions if isinstance(instruction, kind)]


def test_an_extent_is_lent_and_more_is_given_if_there_is_room() -> None:
    play = Play()
    assert play.feed(rec.ExtentWanted(A, 7, 100, 4 * UNIT)) == [rec.LendExtent(A, 7, 0, 4 * UNIT)]
    assert play.feed(rec.ExtentWanted(B, 8, 100, 100 * UNIT)) == [rec.LendExtent(B, 8, 4 * UNIT, 12 * UNIT)]


def test_an_object_is_found_by_another_process_and_freed_when_unpinned() -> None:
    play = Play()
    made = play.make(1, 2)
    (answer,) = play.feed(rec.PinWanted(B, 5, made))
    assert (answer.state, answer.offset, answer.size) == ("arena", 0, 2 * UNIT)
    assert play.feed(rec.ObjectsFreed(A, [made])) == []
    assert play.feed(rec.ObjectsUnpinned(B, [made])) == [rec.GiveBack(A, [(0, 2 * UNIT)])]


def test_a_pin_waits_for_an_object_on_its_way_and_then_gives_up() -> None:
    play = Play()
    assert play.feed(rec.PinWanted(B, 5, oid(1))) == []
    offset = play.lend(A, 1)
    (answer,) = play.feed(rec.ObjectsSealed(A, [(oid(1), offset, 10)]))
    assert (answer.address, answer.request, answer.state) == (B, 5, "arena")
    assert play.feed(rec.PinWanted(B, 6, oid(2))) == []
    assert play.after(UNKNOWN_SECONDS - 0.1) == []
    assert [(a.request, a.state) for a in play.after(0.2)] == [(6, "lost")]
    assert not play.directory.restless


def test_a_free_that_overtakes_the_announcement_is_remembered_for_a_while() -> None:
    play = Play()
    play.feed(rec.ObjectsFreed(B, [oid(1, B), oid(2, B)]))
    offset = play.lend(A, 2)
    assert play.feed(rec.ObjectsSealed(A, [(oid(1, B), offset, UNIT)])) == [rec.GiveBack(A, [(offset, UNIT)])]
    play.after(EARLY_FREE_SECONDS)
    assert play.feed(rec.ObjectsSealed(A, [(oid(2, B), offset + UNIT, UNIT)])) == []
    assert oid(2, B) in play.directory.objects


def test_a_free_that_overtakes_a_second_copy_is_remembered_while_the_first_is_pinned() -> None:
    play = Play()
    made = play.make(1, 1)
    play.feed(rec.PinWanted(A, 1, made))
    play.feed(rec.ObjectsFreed(A, [made]))
    play.feed(rec.ObjectsFreed(A, [made]))
    offset = play.lend(B, 1)
    assert play.feed(rec.ObjectsSealed(B, [(made, offset, UNIT)])) == [rec.GiveBack(B, [(offset, UNIT)])]
    play.feed(rec.ObjectsUnpinned(A, [made]))
    assert made not in play.directory.objects


def test_an_object_made_again_after_it_was_lost_is_taken() -> None:
    play = Play()
    play.feed(rec.PinWanted(B, 1, oid(1)))
    play.after(UNKNOWN_SECONDS)  # "lost", so the owner frees it and runs the task again
    play.feed(rec.ObjectsFreed(A, [oid(1)]))
    assert play.make(1, 1) in play.directory.objects


def test_a_second_copy_of_an_object_is_given_back() -> None:
    play = Play()
    made = play.make(1, 1)
    offset = play.lend(B, 1)
    assert play.feed(rec.ObjectsSealed(B, [(made, offset, UNIT)])) == [rec.GiveBack(B, [(offset, UNIT)])]


def test_owners_are_asked_about_what_a_dead_process_made() -> None:
    play = Play()
    made = play.make(1, 1, creator=B, owner=A)
    play.make(2, 1, creator=B, owner=B)
    freed = play.make(3, 1, creator=B, owner=A)
    play.feed(rec.PinWanted(A, 1, freed))
    play.feed(rec.ObjectsFreed(A, [freed]))
    assert play.feed(rec.ProcessGone(B)) == [rec.AskOwner(A, [made])]
    play.feed(rec.ObjectsFreed(A, [made]))
    assert set(play.directory.objects) == {freed}


def test_what_a_process_does_not_have_it_cannot_seal_or_return() -> None:
    play = Play()
    offset = play.lend(A, 2)
    for event in (
        rec.ObjectsSealed(B, [(oid(1), offset, 1)]),
        rec.ObjectsSealed(A, [(oid(1), offset, 3 * UNIT)]),
        rec.ObjectsSealed(A, [(oid(1), -UNIT, UNIT)]),
        rec.ObjectsSealed(A, [(oid(1), offset, -1)]),
        rec.RangesReturned(B, [(offset, UNIT)]),
        rec.RangesReturned(A, [(offset + 1, 10)]),
        rec.RangesReturned(A, [(offset, 0)]),
    ):
        (complaint,) = play.feed(event)
        assert isinstance(complaint, rec.Complain), event
    assert play.directory.objects == {}


def test_unused_room_of_others_is_asked_back_first() -> None:
    play = Play()
    offset = play.lend(A, 16)
    out = play.feed(rec.ExtentWanted(B, 2, UNIT))
    assert out == [rec.AskTrim(A)]
    assert play.feed(rec.RangesReturned(A, [(offset, 4 * UNIT)])) == [rec.LendExtent(B, 2, offset, UNIT)]


def test_the_least_recently_used_goes_to_disk_once_its_holders_let_go() -> None:
    play = Play()
    objects = [play.make(number, 4) for number in range(4)]
    play.feed(rec.PinWanted(B, 1, objects[0]))  # used last, and cached by B
    (ask,) = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 2, 4 * UNIT)))
    assert (ask.address, ask.objects) == (A, [objects[1]])
    (spill,) = play.feed(rec.EvictAnswered(A, ask.request, ask.objects))
    assert spill == rec.Spill(objects[1], 4 * UNIT, 4 * UNIT)
    assert play.feed(rec.Spilled(objects[1], "/f")) == [rec.LendExtent(B, 2, 4 * UNIT, 4 * UNIT)]
    (answer,) = play.feed(rec.PinWanted(A, 3, objects[1]))
    assert (answer.state, answer.path, answer.size) == ("file", "/f", 4 * UNIT)
    play.feed(rec.ObjectsFreed(A, [objects[1]]))
    assert play.feed(rec.ObjectsUnpinned(A, [objects[1]])) == [rec.RemoveFile("/f")]


def test_every_holder_is_asked_and_one_refusal_keeps_the_object() -> None:
    play = Play()
    made = play.make(1, 16)
    play.feed(rec.PinWanted(B, 1, made))
    asks = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 2, UNIT)))
    assert {ask.address for ask in asks} == {A, B}
    numbers = {ask.address: ask.request for ask in asks}
    assert play.feed(rec.EvictAnswered(A, numbers[A], [made])) == []
    assert play.feed(rec.EvictAnswered(B, numbers[B], [])) == []
    # B is asked again later, A is not: it has let go for good
    again = of(rec.AskEvict, play.after(BUSY_SECONDS))
    assert [ask.address for ask in again] == [B]
    assert play.feed(rec.EvictAnswered(B, again[0].request, [made])) == [rec.Spill(made, 0, CAPACITY)]


def test_a_pin_that_comes_while_others_are_asked_counts() -> None:
    play = Play()
    made = play.make(1, 16)
    play.feed(rec.PinWanted(B, 1, made))
    asks = of(rec.AskEvict, play.feed(rec.ExtentWanted(A, 2, UNIT)))
    numbers = {ask.address: ask.request for ask in asks}
    (answer,) = play.feed(rec.PinWanted(B, 3, made))
    assert answer.state == "arena"
    play.feed(rec.EvictAnswered(A, numbers[A], [made]))
    assert play.feed(rec.EvictAnswered(B, numbers[B], [made])) == []  # said before it pinned again
    assert B in play.directory.objects[made].pins


def test_a_silent_process_counts_as_busy_until_it_answers() -> None:
    play = Play(A, B, C)
    slow = play.make(1, 8, creator=A)
    quick = play.make(2, 8, creator=B)
    asks = of(rec.AskEvict, play.feed(rec.ExtentWanted(C, 2, 8 * UNIT)))
    assert [ask.address for ask in asks] == [A]
    asks += of(rec.AskEvict, play.after(ANSWER_SECONDS))
    assert [ask.address for ask in asks] == [A, B]
    play.feed(rec.EvictAnswered(B, asks[1].request, [quick]))
    assert of(rec.LendExtent, play.feed(rec.Spilled(quick, "/f")))
    # the late answer is believed: nothing in A looks at the object, so it need not be asked again
    assert play.feed(rec.EvictAnswered(A, asks[0].request, [slow])) == []
    play.now += BUSY_SECONDS
    assert rec.Spill(slow, 0, 8 * UNIT) in play.feed(rec.ExtentWanted(C, 3, 8 * UNIT))


@pytest.mark.parametrize(("hasty", "grace"), [(False, GRACE_SECONDS), (True, HASTY_SECONDS)])
def test_a_request_nothing_can_serve_is_refused_after_a_grace_with_sizes(hasty: bool, grace: float) -> None:
    play = Play()
    made = play.make(1, 16)
    play.feed(rec.PinWanted(B, 1, made))
    refused: list[Any] = []
    started = play.now
    out = play.feed(rec.ExtentWanted(A, 9, 2 * UNIT, hasty=hasty))
    while not refused:
        for ask in of(rec.AskEvict, out):
            out = out + play.feed(rec.EvictAnswered(ask.address, ask.request, []))
        refused = of(rec.RefuseExtent, out)
        out = play.after(0.05)
    assert grace <= play.now - started < grace + 1
    assert (refused[0].request, refused[0].error) == (9, "full")
    assert "128 contiguous bytes are needed" in refused[0].reason
    assert "1,024 hold 1 objects" in refused[0].reason


def test_more_than_the_store_is_refused_at_once() -> None:
    (refused,) = Play().feed(rec.ExtentWanted(A, 1, CAPACITY + 1))
    assert (refused.error, "1,024" in refused.reason) == ("full", True)


def test_requests_are_served_in_order() -> None:
    play = Play(A, B, C)
    big = play.make(1, 15)
    play.feed(rec.ExtentWanted(B, 1, 8 * UNIT))
    play.feed(rec.ExtentWanted(C, 2, UNIT))  # would fit, but B came first
    out = play.feed(rec.ObjectsFreed(A, [big]))
    assert of(rec.GiveBack, out)
    out = play.feed(rec.RangesReturned(A, [(0, 15 * UNIT)]))
    assert [(lent.address, lent.request) for lent in of(rec.LendExtent, out)] == [(B, 1), (C, 2)]


def test_a_full_disk_refuses_and_recovers() -> None:
    play = Play()
    made = play.make(1, 16)
    (ask,) = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 1, UNIT)))
    play.feed(rec.EvictAnswered(A, ask.request, [made]))
    assert play.feed(rec.PinWanted(B, 5, made)) == []  # being written: the answer waits
    (answer,) = play.feed(rec.SpillFailed(made, "No space left on device"))
    assert answer.state == "arena"  # still there, still readable
    play.feed(rec.ObjectsUnpinned(B, [made]))
    (refused,) = of(rec.RefuseExtent, play.after(GRACE_SECONDS))
    assert refused.error == "disk"
    assert "No space left on device" in refused.reason
    play.now += DISK_SECONDS
    assert of(rec.Spill, play.feed(rec.ExtentWanted(B, 2, UNIT)))  # tries again


def test_a_file_that_is_removed_makes_room_on_a_full_disk() -> None:
    play = Play()
    first = play.make(1, 8)
    second = play.make(2, 8)
    (ask,) = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 1, UNIT)))
    play.feed(rec.EvictAnswered(A, ask.request, [first]))
    play.feed(rec.Spilled(first, "/f"))
    (ask,) = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 2, 9 * UNIT)))
    play.feed(rec.EvictAnswered(A, ask.request, [second]))
    play.feed(rec.SpillFailed(second, "No space left on device"))
    assert of(rec.Spill, play.after(BUSY_SECONDS)) == []
    out = play.feed(rec.ObjectsFreed(A, [first]))
    assert of(rec.RemoveFile, out) == [rec.RemoveFile("/f")]
    assert [spill.object_id for spill in of(rec.Spill, out)] == [second]


def test_an_object_freed_while_it_is_written_leaves_nothing() -> None:
    play = Play()
    made = play.make(1, 16)
    (ask,) = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 1, UNIT)))
    play.feed(rec.EvictAnswered(A, ask.request, [made]))
    assert play.feed(rec.ObjectsFreed(A, [made])) == []
    out = play.feed(rec.Spilled(made, "/f"))
    assert of(rec.RemoveFile, out) == [rec.RemoveFile("/f")]
    assert play.directory.objects == {}


def test_a_dead_process_leaves_what_others_own() -> None:
    play = Play()
    own = play.make(1, 2, creator=B, owner=B)
    result = play.make(2, 2, creator=B, owner=A)
    foreign = play.make(3, 2, creator=A, owner=A)
    play.feed(rec.PinWanted(B, 1, foreign))
    play.lend(B, 3)
    play.feed(rec.ProcessGone(B))
    assert set(play.directory.objects) == {result, foreign}
    assert play.directory.objects[foreign].pins == set()
    assert play.directory.free.total == 12 * UNIT
    assert own not in play.directory.objects
    play.feed(rec.ObjectsFreed(A, [result]))
    assert play.directory.free.total == 14 * UNIT  # nobody to give it back to


def test_objects_made_for_a_dead_owner_are_not_kept() -> None:
    play = Play()
    play.feed(rec.ProcessGone(A))
    offset = play.lend(B, 1)
    assert play.feed(rec.ObjectsSealed(B, [(oid(1, A), offset, 1)])) == [rec.GiveBack(B, [(offset, UNIT)])]
    assert play.feed(rec.FileSealed(B, oid(2, A), "/big", 9999)) == [rec.RemoveFile("/big")]


def test_a_death_answers_for_the_dead() -> None:
    play = Play()
    made = play.make(1, 16)
    play.feed(rec.PinWanted(B, 1, made))
    asks = of(rec.AskEvict, play.feed(rec.ExtentWanted(A, 2, UNIT)))
    (number,) = [ask.request for ask in asks if ask.address == A]
    play.feed(rec.EvictAnswered(A, number, [made]))
    play.feed(rec.ProcessGone(B))
    assert of(rec.Spill, play.after(BUSY_SECONDS))


def test_a_lost_file_is_forgotten_so_that_it_can_be_made_again() -> None:
    play = Play()
    play.feed(rec.FileSealed(A, oid(1), "/big", 9999))
    (answer,) = play.feed(rec.PinWanted(B, 1, oid(1)))
    assert (answer.state, answer.size) == ("file", 9999)
    assert play.feed(rec.FileLost(oid(1))) == [rec.RemoveFile("/big")]
    play.feed(rec.ObjectsFreed(A, [oid(1)]))
    assert play.make(1, 1) in play.directory.objects


class FakeClient:
    """What a process believes: its free room, the places it may look at, and what it owes an answer to."""

    def __init__(self) -> None:
        self.room = RangeAllocator()
        #: range by object that code in the process looks at right now
        self.looking: dict[bytes, tuple[int, int]] = {}
        #: places it knows: made here and announced, or pinned
        self.own: dict[bytes, tuple[int, int]] = {}
        self.pinned: dict[bytes, tuple[int, int] | None] = {}
        #: objects asked for, not answered
        self.asked: dict[int, bytes] = {}
        #: messages of the node not read yet, in order
        self.inbox: list[Any] = []
        self.wants: set[int] = set()


class DirectoryMachine(RuleBasedStateMachine):
    """Clients with delayed inboxes, a disk that sometimes fails, deaths, and time."""

    @initialize()
    def start(self) -> None:
        self.now = 1000.0
        self.directory = Directory(CAPACITY)
        self.clients: dict[bytes, FakeClient] = {}
        self.spills: list[rec.Spill] = []
        self.files: set[str] = set()
        self.lost_files: set[str] = set()
        self.number = 0
        self.content: dict[bytes, tuple[int, int]] = {}
        self.freed: set[bytes] = set()
        for address in (A, B, C):
            self.clients[address] = FakeClient()
            self.feed(rec.ProcessJoined(address))

    def next(self) -> int:
        self.number += 1
        return self.number

    def feed(self, event: Any) -> None:
        for do in self.directory.handle(event, now=self.now):
            if isinstance(do, rec.Spill):
                self.check_unlooked(do.offset, do.size, do.object_id)
                self.spills.append(do)
            elif isinstance(do, rec.RemoveFile):
                self.files.remove(do.path)
            else:
                assert not isinstance(do, rec.Complain), do
                self.clients[do.address].inbox.append(do)
        self.directory.validate()

    def check_unlooked(self, offset: int, size: int, but: bytes = b"") -> None:
        for address, client in self.clients.items():
            for object_id, (start, length) in client.looking.items():
                if start < offset + size and offset < start + length:
                    raise AssertionError(f"{address!r} looks at {object_id.hex()} in a range that moves ({but.hex()})")

    def pick(self, data: st.DataObject, options: Any) -> Any:
        return data.draw(st.sampled_from(sorted(options)))

    addresses = st.sampled_from([A, B, C])

    def client(self, address: bytes) -> FakeClient | None:
        return self.clients.get(address)

    # what processes do

    @rule(address=addresses, units=st.integers(1, 6), more=st.integers(0, 6))
    def want(self, address: bytes, units: int, more: int) -> None:
        client = self.client(address)
        if client is not None:
            number = self.next()
            client.wants.add(number)
            self.feed(rec.ExtentWanted(address, number, units * UNIT, (units + more) * UNIT))

    @rule(address=addresses, owner=addresses, units=st.integers(1, 4))
    def seal(self, address: bytes, owner: bytes, units: int) -> None:
        client = self.client(address)
        if client is None:
            return
        offset = client.room.allocate(units * UNIT)
        if offset is None:
            return
        made = oid(self.next(), owner)
        place = (offset, units * UNIT)
        self.content[made] = place
        client.own[made] = place
        self.feed(rec.ObjectsSealed(address, [(made, *place)]))

    @rule(address=addresses, owner=addresses, units=st.integers(1, 4))
    def make(self, address: bytes, owner: bytes, units: int) -> None:
        """What a process does to make an object: room is asked for if there is none, and waited for."""
        client = self.client(address)
        if client is None:
            return
        if client.room.largest < units * UNIT and not client.wants:
            self.want(address, units, 0)
        while client.inbox:
            self.receive(address, client, client.inbox.pop(0))
        self.seal(address, owner, units)

    @rule()
    def everybody_reads(self) -> None:
        """Without a wait between a question and its answer: what needs many answers comes about."""
        for address, client in self.clients.items():
            while client.inbox:
                self.receive(address, client, client.inbox.pop(0))

    @precondition(lambda self: len(self.files) < 3)
    @rule(address=addresses, owner=addresses)
    def seal_file(self, address: bytes, owner: bytes) -> None:
        """An object for which the arena is too small, or too full."""
        if self.client(address) is not None:
            made, path = oid(self.next(), owner), f"/{self.next()}"
            self.content[made] = (0, 0)
            self.files.add(path)
            self.feed(rec.FileSealed(address, made, path, 20 * UNIT))

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def lose_file(self, data: st.DataObject) -> None:
        lost = [made for made, stored in self.directory.objects.items() if stored.path]
        if lost:
            made = self.pick(data, lost)
            self.lost_files.add(self.directory.objects[made].path)
            self.feed(rec.FileLost(made))
            assert made not in self.directory.objects

    @precondition(lambda self: len(self.content) > 3)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        candidates = [made for made in self.content if made not in self.freed and made[:12] in self.clients]
        if candidates:
            made = self.pick(data, candidates)
            self.freed.add(made)
            self.feed(rec.ObjectsFreed(made[:12], [made]))

    @rule(address=addresses, data=st.data())
    def pin(self, address: bytes, data: st.DataObject) -> None:
        client = self.client(address)
        if client is None:
            return
        known = [made for made in self.content if made not in client.own and made not in client.pinned]
        known = [made for made in known if made not in self.freed and made not in client.asked.values()]
        if known:
            number = self.next()
            client.asked[number] = self.pick(data, known)
            self.feed(rec.PinWanted(address, number, client.asked[number]))

    @rule(address=addresses, data=st.data())
    def look(self, address: bytes, data: st.DataObject) -> None:
        client = self.client(address)
        if client is not None:
            places = {**client.own, **client.pinned}
            visible = [made for made, place in places.items() if place is not None and made not in client.looking]
            if visible:
                made = self.pick(data, visible)
                client.looking[made] = places[made]

    @rule(address=addresses, data=st.data(), forget=st.booleans())
    def look_away(self, address: bytes, data: st.DataObject, forget: bool) -> None:
        client = self.client(address)
        if client is None:
            return
        if client.looking:
            client.looking.pop(self.pick(data, client.looking))
        idle = [made for made in client.pinned if made not in client.looking]
        if forget and idle:
            made = self.pick(data, idle)
            del client.pinned[made]
            self.feed(rec.ObjectsUnpinned(address, [made]))

    @rule(address=addresses)
    def return_room(self, address: bytes) -> None:
        client = self.client(address)
        if client is not None:
            self.feed(rec.RangesReturned(address, client.room.clear()))

    @rule(address=addresses)
    def read_message(self, address: bytes) -> None:
        client = self.client(address)
        if client is not None and client.inbox:
            self.receive(address, client, client.inbox.pop(0))

    def receive(self, address: bytes, client: FakeClient, do: Any) -> None:
        if isinstance(do, rec.LendExtent):
            client.wants.remove(do.request)
            client.room.add(do.offset, do.size)
        elif isinstance(do, rec.RefuseExtent):
            client.wants.remove(do.request)
        elif isinstance(do, rec.AnswerPin):
            made = client.asked.pop(do.request)
            if do.state == "arena":
                assert (do.offset, do.size) == self.content[made], "not where it was written"
                client.pinned[made] = (do.offset, do.size)
            elif do.state == "file":
                assert do.path in self.files | self.lost_files
                client.pinned[made] = None
        elif isinstance(do, rec.GiveBack):
            self.reclaim(client, do)
        elif isinstance(do, rec.AskTrim):
            self.feed(rec.RangesReturned(address, client.room.clear()))
        elif isinstance(do, rec.AskEvict):
            busy = {*client.looking, *client.asked.values()}
            idle = [made for made in do.objects if made not in busy]
            for made in idle:
                client.own.pop(made, None)
                client.pinned.pop(made, None)
            self.feed(rec.EvictAnswered(address, do.request, idle))

    def reclaim(self, client: FakeClient, do: rec.GiveBack) -> None:
        for place in do.ranges:
            for made in [made for made, known in client.own.items() if known == place]:
                del client.own[made]
                client.looking.pop(made, None)  # a real client waits for this moment
            client.room.add(*place)

    # what the disk and time do

    @precondition(lambda self: self.spills)
    @rule(fails=st.booleans())
    def spill_ends(self, fails: bool) -> None:
        do = self.spills.pop(0)
        if fails:
            self.feed(rec.SpillFailed(do.object_id, "No space left on device"))
        else:
            path = f"/{self.next()}"
            self.files.add(path)
            self.feed(rec.Spilled(do.object_id, path))

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(rec.Tick())

    @precondition(lambda self: len(self.clients) > 1 and len(self.content) > 8)
    @rule(address=addresses)
    def die(self, address: bytes) -> None:
        if self.clients.pop(address, None) is not None:
            self.freed.update(made for made in self.content if made[:12] == address)
            self.feed(rec.ProcessGone(address))

    @precondition(lambda self: len(self.clients) < 3)
    @rule()
    def join(self) -> None:
        # ids are never used again, but the machine's strategies name three; objects of the dead stay freed
        address = next(a for a in (A, B, C) if a not in self.clients)
        self.directory._dead.pop(address, None)
        self.clients[address] = FakeClient()
        self.feed(rec.ProcessJoined(address))

    @invariant()
    def clients_and_directory_agree(self) -> None:
        for address, client in self.clients.items():
            process = self.directory.processes[address]
            for offset, size in client.room.ranges():
                assert process.lent.contains(offset, size), "a process believes to have room that is not its own"
            for made, place in client.looking.items():
                stored = self.directory.objects.get(made)
                assert stored is not None or made in client.own, "looked at, but gone"
                if stored is not None:
                    assert (stored.offset, stored.room) == place
                    assert not stored.path, "looked at in the arena, but moved to disk"
        assert self.files == {stored.path for stored in self.directory.objects.values() if stored.path}

    def teardown(self) -> None:
        """Nobody is forgotten: when all calm down, every request has an answer and all room comes back."""
        if not hasattr(self, "clients"):
            return
        for _ in range(200):
            while self.spills:
                self.spill_ends(fails=False)
            for address, client in self.clients.items():
                client.looking.clear()
                while client.inbox:
                    self.receive(address, client, client.inbox.pop(0))
            if not (self.directory.restless or self.spills or any(c.inbox for c in self.clients.values())):
                break
            self.time_passes(0.25)
        for client in self.clients.values():
            assert not client.wants, "a request for room was never answered"
            assert not client.asked, "a pin was never answered"
        for address in list(self.clients):
            del self.clients[address]
            self.feed(rec.ProcessGone(address))
        assert self.directory.free.total == CAPACITY, "room was lost"
        assert not self.directory.objects
        assert not self.files


DirectoryMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestDirectoryMachine = DirectoryMachine.TestCase


@pytest.mark.parametrize("count", [1, 3])
def test_spilling_prefers_one_contiguous_piece(count: int) -> None:
    """Enough bytes in the wrong places are of no use: what is evicted lies next to each other."""
    play = Play()
    objects = [play.make(number, 2) for number in range(8)]
    for number in (0, 2, 5):  # now the least recently used ones are not neighbours
        play.feed(rec.PinWanted(A, number, objects[number]))
        play.feed(rec.ObjectsUnpinned(A, [objects[number]]))
    (ask,) = of(rec.AskEvict, play.feed(rec.ExtentWanted(B, 2, count * 2 * UNIT)))
    numbers = sorted(objects.index(made) for made in ask.objects)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) >= count
