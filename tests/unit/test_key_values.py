"""The control store's keys and values: a model of what every watcher must have been told, under random histories."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from core.state import key_values
from core.state.key_values import Changed, Instruction, KeyValues, Taken

A, B = b"a", b"b"


def changes(instructions: list[Instruction]) -> list[tuple[str, bytes | None, int]]:
    (answer,) = instructions
    assert isinstance(answer, Changed)
    return [(change.key, change.value, change.version) for change in answer.changes]


def test_a_watcher_is_told_what_is_there_then_what_changes() -> None:
    store = KeyValues()
    store.put("x/1", b"one")
    store.put("y/1", b"other")
    store.put("x/2", b"two")
    assert changes(store.watch(A, 1, 10, "x/", 0)) == [("x/1", b"one", 1), ("x/2", b"two", 3)]
    assert store.watch(A, 1, 11, "x/", 3) == []
    assert store.put("y/2", b"") == []
    assert changes(store.put("x/1", b"new")) == [("x/1", b"new", 5)]
    assert store.delete("x/2") == []  # it works on the last answer
    assert changes(store.watch(A, 1, 12, "x/", 5)) == [("x/2", None, 6)]


def test_from_now_on() -> None:
    store = KeyValues()
    store.put("k", b"old")
    assert store.watch(A, 1, 1, "k", -1) == []
    assert changes(store.put("k", b"new")) == [("k", b"new", 2)]


def test_values_in_between_are_skipped() -> None:
    store = KeyValues()
    for number in range(5):
        store.put("k", b"%d" % number)
    assert changes(store.watch(A, 1, 1, "", 2)) == [("k", b"4", 5)]


def test_who_waits_for_watchers_is_answered_when_the_last_has_asked_for_more() -> None:
    store = KeyValues()
    store.watch(A, 1, 1, "k", 0)
    store.watch(B, 1, 1, "k", 0)
    store.watch(B, 2, 2, "other", 0)
    store.put("k", b"v")
    assert store.when_taken(A, 5, "k", 1) == []
    assert store.watch(A, 1, 2, "k", 1) == []
    assert store.process_gone(B) == [Taken(A, 5)]
    assert store.when_taken(A, 6, "k", 1) == [Taken(A, 6)]


def test_a_closed_watcher_is_not_waited_for() -> None:
    store = KeyValues()
    store.watch(A, 1, 1, "", 0)
    store.put("k", b"v")
    store.when_taken(A, 5, "k", 1)
    assert store.unwatch(A, 1) == [Taken(A, 5)]


def test_large_answers_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_values, "ANSWER_BYTES", 10)
    store = KeyValues()
    for number in range(5):
        store.put(f"k{number}", b"123456")
    after, told = 0, []
    for request in range(1, 6):
        part = changes(store.watch(A, 1, request, "", after))
        told += [key for key, _, _ in part]
        after = part[-1][2]
    assert told == ["k0", "k1", "k2", "k3", "k4"]


def test_forgotten_deletions_are_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_values, "MAX_DELETED", 2)
    store = KeyValues()
    for key in "abcd":
        store.put(key, b"")
    for key in "abc":
        store.delete(key)
    assert store.watch(A, 1, 1, "", 4) == [Changed(A, 1, [], forgotten=True)]
    assert [key for key, _, _ in changes(store.watch(A, 1, 2, "", 5))] == ["b", "c"]
    assert changes(store.watch(A, 1, 3, "", 0)) == [("d", b"", 4)]


def test_limits() -> None:
    store = KeyValues()
    assert "1 to 1024 bytes" in store.refusal("", b"")
    assert "1 to 1024 bytes" in store.refusal("ä" * 600, b"")
    assert "8,388,608" in store.refusal("k", bytes(key_values.MAX_VALUE_BYTES + 1))
    assert store.refusal("k", bytes(key_values.MAX_VALUE_BYTES)) == ""


def test_the_whole_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_values, "MAX_TOTAL_BYTES", 100)
    store = KeyValues()
    store.put("k", bytes(90))
    assert "full" in store.refusal("other", bytes(10))
    assert store.refusal("k", bytes(99)) == ""
    store.delete("k")
    assert store.total_bytes == 0


class Histories(RuleBasedStateMachine):
    """Watchers apply what they are told; once idle, each knows exactly the keys with its prefix."""

    watchers = Bundle("watchers")

    @initialize()
    def begin(self) -> None:
        self.store = KeyValues()
        self.model: dict[str, bytes] = {}
        self.request = 0
        #: (address, number) -> prefix, known keys, version taken in, open request (0: none), answers to work on
        self.known: dict[tuple[bytes, int], dict[str, bytes]] = {}
        self.prefix: dict[tuple[bytes, int], str] = {}
        self.after: dict[tuple[bytes, int], int] = {}
        self.open: dict[int, tuple[bytes, int]] = {}
        self.answers: dict[tuple[bytes, int], list[Changed]] = {}
        self.waiting: dict[int, tuple[str, int]] = {}

    def perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Changed):
                watcher = self.open.pop(instruction.request)
                assert watcher[0] == instruction.to
                assert instruction.changes
                assert not self.answers[watcher]
                self.answers[watcher].append(instruction)
            else:
                key, version = self.waiting.pop(instruction.request)
                late = [w for w in self.known if key.startswith(self.prefix[w]) and self.owes(w, version)]
                assert not late

    def owes(self, watcher: tuple[bytes, int], version: int) -> bool:
        return bool(self.answers[watcher]) and self.after[watcher] < version

    def new_request(self) -> int:
        self.request += 1
        return self.request

    keys = st.sampled_from(["a", "a/1", "a/2", "b", "b/1", "c"])

    @rule(key=keys, value=st.binary(max_size=3))
    def put(self, key: str, value: bytes) -> None:
        self.model[key] = value
        self.perform(self.store.put(key, value))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        if key in self.model:
            del self.model[key]
            self.perform(self.store.delete(key))

    @rule(target=watchers, address=st.sampled_from([A, B]), prefix=st.sampled_from(["", "a", "a/", "b"]))
    def begin_to_watch(self, address: bytes, prefix: str) -> tuple[bytes, int]:
        watcher = (address, self.new_request())
        self.known[watcher], self.prefix[watcher], self.after[watcher], self.answers[watcher] = {}, prefix, 0, []
        self.ask(watcher)
        return watcher

    def ask(self, watcher: tuple[bytes, int]) -> None:
        request = self.new_request()
        self.open[request] = watcher
        address, number = watcher
        self.perform(self.store.watch(address, number, request, self.prefix[watcher], self.after[watcher]))

    @rule(watcher=watchers)
    def take_in(self, watcher: tuple[bytes, int]) -> None:
        if not self.answers.get(watcher):
            return
        (answer,) = self.answers[watcher]
        self.answers[watcher] = []
        for change in answer.changes:
            assert change.version > self.after[watcher]
            self.after[watcher] = change.version
            if change.value is None:
                self.known[watcher].pop(change.key, None)
            else:
                self.known[watcher][change.key] = change.value
        self.ask(watcher)

    @rule(key=keys)
    def wait_for_watchers(self, key: str) -> None:
        request = self.new_request()
        self.waiting[request] = (key, self.store.version)
        self.perform(self.store.when_taken(b"c", request, key, self.store.version))

    @rule(address=st.sampled_from([A, B]))
    def lose(self, address: bytes) -> None:
        for watcher in [watcher for watcher in self.known if watcher[0] == address]:
            self.forget(watcher)
        self.perform(self.store.process_gone(address))

    @rule(watcher=watchers)
    def close(self, watcher: tuple[bytes, int]) -> None:
        if watcher in self.known:
            self.forget(watcher)
            self.perform(self.store.unwatch(*watcher))

    def forget(self, watcher: tuple[bytes, int]) -> None:
        for table in (self.known, self.prefix, self.after, self.answers):
            del table[watcher]
        self.open = {request: other for request, other in self.open.items() if other != watcher}

    @invariant()
    def idle_watchers_know_everything(self) -> None:
        for watcher in self.open.values():
            prefix = self.prefix[watcher]
            assert self.known[watcher] == {k: v for k, v in self.model.items() if k.startswith(prefix)}

    @invariant()
    def who_waits_has_a_reason(self) -> None:
        for key, version in self.waiting.values():
            assert any(key.startswith(self.prefix[w]) and self.owes(w, version) for w in self.known)

    @invariant()
    def the_books_are_right(self) -> None:
        self.store.validate()
        assert self.store.keys("") == sorted(self.model)
        assert self.store.total_bytes == sum(len(key) + len(value) for key, value in self.model.items())


TestHistories = Histories.TestCase
