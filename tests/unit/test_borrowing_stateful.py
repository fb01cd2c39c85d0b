"""Hypothesis passes references around among processes; no object goes while anybody may still ask for it.

The processes are real tables and real borrowers' sides; between any two there are wires that keep the order and are as
slow as they like. Tasks carry references, as arguments and in results, by the rules of ``core.runtime.borrowing``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core import ids
from core.protocol import peer
from core.runtime.borrowing import Borrowing
from core.runtime.objects import INLINE, Entry, ObjectTable

NAMES = [name.encode() * ids.ADDRESS_BYTES for name in "abc"]
JOB = b"\0\0\0\1"


@dataclass
class Task:
    """A call that mentions an object, which stays in the executor; ``returns``: its result mentions it too."""

    number: int
    object_id: bytes
    returns: bool


@dataclass
class Result:
    """Its end. The executor's pin of what the value contains goes when the caller is registered for that."""

    number: int
    contained: bytes


@dataclass
class ContainedTaken:
    number: int


class Process:
    """What ``core.runtime.exchange`` and ``settling`` do, without values."""

    def __init__(self, address: bytes, wires: dict[tuple[bytes, bytes], deque[Any]]) -> None:
        self.address = address
        self.wires = wires
        self.freed: set[bytes] = set()
        self.table = ObjectTable(address, self.on_free, self.on_forget, self.on_unused)
        self.borrowing = Borrowing(self.send, self.unsent, self.unknown)
        #: as caller: the object of each unfinished task
        self.calls: dict[int, bytes] = {}
        #: as executor: pins of what results contain
        self.handed: dict[int, bytes] = {}

    def send(self, address: bytes, message: Any) -> bool:
        self.wires[self.address, address].append(message)
        return True

    def unsent(self, address: bytes, message: Any) -> bool:
        wire = self.wires[self.address, address]
        return bool(wire) and wire[-1] is message

    def unknown(self, objects: list[bytes]) -> None:
        raise AssertionError(f"an owner does not know {[one.hex() for one in objects]} any more")

    def on_free(self, object_id: bytes, entry: Entry) -> None:
        self.freed.add(object_id)

    def on_forget(self, object_id: bytes, entry: Entry) -> None:
        self.borrowing.release(object_id)

    def on_unused(self, object_id: bytes, entry: Entry) -> None:
        raise AssertionError("there is no lineage here")

    def holds(self) -> list[bytes]:
        """Return the objects that a reference here names."""
        return sorted(object_id for object_id, entry in self.table.entries.items() if entry.local)

    def adopt(self, object_id: bytes) -> None:
        """A reference comes out of a pickle."""
        self.known(object_id).local += 1

    def known(self, object_id: bytes) -> Entry:
        entry = self.table.entries.get(object_id)
        if entry is None:
            assert not self.table.owned(object_id), "it was freed while a reference was under way"
            entry = self.table.entries[object_id] = Entry()
            self.borrowing.borrow(object_id)
        return entry

    def drop(self, object_id: bytes) -> None:
        entry = self.table.entries[object_id]
        entry.local -= 1
        self.table.check(object_id, entry)

    def receive(self, sender: bytes, message: Any) -> None:
        match message:
            case Task():
                self.adopt(message.object_id)
                if message.returns:
                    self.table.pin(message.object_id)
                    self.handed[message.number] = message.object_id
                self.answer(sender, message)
            case Result(contained=b""):
                self.table.unpin(self.calls.pop(message.number))
            case Result():
                self.known(message.contained).pins += 1
                self.table.unpin(self.calls.pop(message.number))
                self.borrowing.when_settled(lambda: self.send(sender, ContainedTaken(message.number)))
                self.adopt(message.contained)
                self.table.unpin(message.contained)
            case ContainedTaken():
                self.table.unpin(self.handed.pop(message.number))
            case peer.Borrow():
                unknown = [one for one in message.objects if not self.table.borrow(one, sender)]
                self.send(sender, peer.Borrowed(message.number, unknown))
            case peer.Borrowed():
                self.borrowing.answered(message)
            case peer.Release():
                for object_id in message.objects:
                    self.table.unborrow(object_id, sender)
        self.borrowing.flush()

    def answer(self, caller: bytes, task: Task) -> None:
        """Send the result once everybody but the caller knows of what is borrowed here."""
        result = Result(task.number, task.object_id if task.returns else b"")
        self.borrowing.when_settled(lambda: self.send(caller, result), caller)


class References(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.wires: dict[tuple[bytes, bytes], deque[Any]] = {(a, b): deque() for a in NAMES for b in NAMES}
        self.processes = {address: Process(address, self.wires) for address in NAMES}
        self.counter = 0

    names = st.sampled_from(NAMES)

    @precondition(lambda self: sum(len(process.table.entries) for process in self.processes.values()) < 3)
    @rule(name=names)
    def make(self, name: bytes) -> None:
        self.counter += 1
        object_id = ids.object_id(ids.task_id(name, self.counter, JOB), 0)
        self.processes[name].table.entries[object_id] = Entry(state=INLINE, local=1)

    @precondition(lambda self: any(process.holds() for process in self.processes.values()))
    @rule(data=st.data(), returns=st.booleans(), keeps=st.booleans())
    def call(self, data: st.DataObject, returns: bool, keeps: bool) -> None:
        """Mention an object to another process, and keep the reference or not."""
        name = data.draw(st.sampled_from([name for name in NAMES if self.processes[name].holds()]))
        other = data.draw(st.sampled_from([other for other in NAMES if other != name]))
        process = self.processes[name]
        object_id = data.draw(st.sampled_from(process.holds()))
        self.counter += 1
        process.table.pin(object_id)
        process.calls[self.counter] = object_id
        process.send(other, Task(self.counter, object_id, returns))
        if not keeps:
            process.drop(object_id)
            process.borrowing.flush()

    @rule(data=st.data(), name=names)
    def drop(self, data: st.DataObject, name: bytes) -> None:
        process = self.processes[name]
        held = process.holds()
        if held:
            process.drop(data.draw(st.sampled_from(held)))
            process.borrowing.flush()

    @precondition(lambda self: any(self.wires.values()))
    @rule(data=st.data(), messages=st.integers(1, 3))
    def deliver(self, data: st.DataObject, messages: int) -> None:
        wire = data.draw(st.sampled_from(sorted(key for key, queued in self.wires.items() if queued)))
        for _ in range(messages):
            if self.wires[wire]:
                self.processes[wire[1]].receive(wire[0], self.wires[wire].popleft())

    @precondition(lambda self: any(self.wires.values()))
    @rule(slow=st.sampled_from([(a, b) for a in NAMES for b in NAMES if a != b]))
    def deliver_all_but(self, slow: tuple[bytes, bytes]) -> None:
        """One wire is slower than all that the others bring about."""
        while quick := [key for key, queued in self.wires.items() if queued and key != slow]:
            for sender, receiver in quick:
                self.processes[receiver].receive(sender, self.wires[sender, receiver].popleft())

    @invariant()
    def what_is_named_is_there(self) -> None:
        if not hasattr(self, "processes"):
            return
        named = {object_id for process in self.processes.values() for object_id in process.table.entries}
        for wire in self.wires.values():
            named |= {message.object_id for message in wire if isinstance(message, Task)}
            named |= {message.contained for message in wire if isinstance(message, Result) and message.contained}
        for object_id in named:
            owner = self.processes[ids.owner_of(object_id)]
            assert object_id not in owner.freed, "freed while somebody names it"

    def teardown(self) -> None:
        """When all references are gone, so are all objects."""
        if not hasattr(self, "processes"):
            return
        for _ in range(10_000):
            busy = [key for key, queued in self.wires.items() if queued]
            if busy:
                self.processes[busy[0][1]].receive(busy[0][0], self.wires[busy[0]].popleft())
                continue
            held = [(process, object_id) for process in self.processes.values() for object_id in process.holds()]
            if not held:
                break
            process, object_id = held[0]
            process.drop(object_id)
            process.borrowing.flush()
        for process in self.processes.values():
            assert not process.table.entries, "an object that nobody names is kept"
            assert process.borrowing.quiet
            assert not process.calls and not process.handed


TestReferences = References.TestCase
TestReferences.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_what_is_passed_on_at_once_waits_for_the_slowest_borrow() -> None:
    """The owner and the first borrower drop it at once; the second one's ``Borrow`` is on its way all the time."""
    machine = References()
    machine.begin()
    first, second, owner = NAMES
    machine.make(owner)
    (object_id,) = machine.processes[owner].holds()
    for number, (caller, executor) in enumerate([(owner, first), (first, second)]):
        process = machine.processes[caller]
        process.table.pin(object_id)
        process.calls[number] = object_id
        process.send(executor, Task(number, object_id, returns=False))
        process.drop(object_id)
        process.borrowing.flush()
        machine.deliver_all_but((second, owner))
        machine.what_is_named_is_there()
    assert object_id in machine.processes[owner].table.entries
    machine.teardown()
    assert object_id in machine.processes[owner].freed
