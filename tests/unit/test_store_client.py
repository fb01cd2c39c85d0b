"""Real clients against a real object service, one step at a time: Hypothesis chooses who is slow, what is dropped when.

Messages travel through queues that the machine empties in any order between processes (each one's own stay in order);
time is the machine's; files and the spill thread are real.
"""

from __future__ import annotations

import contextlib
import gc
import queue
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core import ids
from core.exceptions import ObjectStoreFullError, OutOfDiskError
from core.node.objects import ObjectService
from core.protocol import from_node
from core.store.client import StoreClient

PAGE = 4096
CAPACITY = 24 * PAGE
NAMES = ("a", "b", "c")


class Member:
    """A process: its client, what it sent and has not been read, what it was sent and has not read."""

    def __init__(self, world: StoreMachine, address: bytes) -> None:
        self.world = world
        self.address = address
        self.out: deque[Any] = deque()
        self.inbox: deque[Any] = deque()
        self.number = 0
        self.replies: dict[int, Any] = {}
        #: (object, what keeps the view alive, the byte it is full of)
        self.views: list[tuple[bytes, Any, int]] = []
        self.client = StoreClient(world.service.arena_fd, world.service.arena_bytes, self.request, self.out.append)

    def request(self, make: Callable[[int], Any]) -> Any:
        self.number += 1
        number = self.number
        self.out.append(make(number))
        self.world.wait_until(lambda: number in self.replies)
        return self.replies.pop(number)

    def read_one(self) -> None:
        message = self.inbox.popleft()
        if isinstance(message, from_node.Evict | from_node.Reclaimed | from_node.Trim):
            self.client.handle(message)
        elif isinstance(message, from_node.Orphans):  # a dead process made them: who owns them knows which it wants
            for made in message.objects:
                if made not in self.world.objects:
                    self.client.free(made)
        else:
            self.replies[message.request] = message


class StoreMachine(RuleBasedStateMachine):
    names = st.sampled_from(NAMES)
    tags = st.integers(1, 255)

    @initialize()
    def start(self) -> None:
        self.stack = contextlib.ExitStack()
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.now = 1000.0
        self.posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.service = ObjectService(Path(directory), CAPACITY, self.deliver, self.posted.put, lambda: self.now)
        self.stack.callback(self.service.close)
        self.members: dict[str, Member] = {}
        self.living: dict[bytes, Member] = {}
        self.lives = 0
        #: live objects: the byte each is full of, and its size
        self.objects: dict[bytes, tuple[int, int]] = {}
        self.counter = 0
        for name in NAMES:
            self.join(name)

    def join(self, name: str) -> None:
        self.lives += 1
        address = name.encode() * 4 + self.lives.to_bytes(8, "big")
        self.service.process_joined(address)
        self.members[name] = self.living[address] = Member(self, address)

    # -- the wire, the disk and the clock

    def deliver(self, address: bytes, message: Any) -> None:
        self.living[address].inbox.append(message)

    def node_reads(self, member: Member) -> None:
        assert self.service.handle(member.address, member.out.popleft())
        self.service._directory.validate()

    def disk_works(self) -> None:
        if self.service._directory.moving:
            self.posted.get(timeout=30)()
            self.service._directory.validate()

    def wait_until(self, done: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if done():
                return
            self.step_everything()
        raise AssertionError("no answer came")

    def step_everything(self) -> None:
        self.disk_works()
        for member in self.members.values():
            if member.out:
                self.node_reads(member)
            if member.inbox:
                member.read_one()
        if not any(member.out or member.inbox for member in self.members.values()):
            due = self.service.deadline
            self.pass_time(0.5 if due is None else max(0.0, due - self.now))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.service.tick(self.now)
        self.service._directory.validate()
        while True:  # a file that was found to be lost
            try:
                self.posted.get_nowait()()
            except queue.Empty:
                return

    @rule(name=names)
    def node_reads_one(self, name: str) -> None:
        if self.members[name].out:
            self.node_reads(self.members[name])

    @rule(name=names)
    def process_reads_one(self, name: str) -> None:
        if self.members[name].inbox:
            self.members[name].read_one()

    @rule()
    def a_write_ends(self) -> None:
        self.disk_works()

    @rule(seconds=st.sampled_from([0.05, 0.6, 3.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)
        for member in self.members.values():
            member.client.patrol(self.now)

    # -- what programs do

    def new_id(self, owner: str) -> bytes:
        self.counter += 1
        return ids.object_id(self.members[owner].address + self.counter.to_bytes(12, "big"), 0)

    @rule(maker=names, owner=names, tag=tags, pages=st.integers(0, 7), odd=st.integers(0, 64), announce=st.booleans())
    def put(self, maker: str, owner: str, tag: int, pages: int, odd: int, announce: bool) -> None:
        made = self.new_id(owner)
        self.write(maker, made, tag, pages * PAGE + odd)
        if announce or owner != maker:
            self.members[maker].client.announce()

    def write(self, maker: str, made: bytes, tag: int, size: int) -> None:
        client = self.members[maker].client
        try:
            view = client.create(made, size)
        except (ObjectStoreFullError, OutOfDiskError):
            return
        view[:] = bytes([tag]) * size
        del view
        client.seal(made)
        self.objects[made] = (tag, size)

    @rule(maker=names, tag=tags)
    def put_larger_than_the_store(self, maker: str, tag: int) -> None:
        made = self.new_id(maker)
        self.write(maker, made, tag, CAPACITY + 1)

    @rule(name=names, tag=tags, numbers=st.integers(1, 2000), adopt=st.booleans(), keep=st.booleans())
    def block(self, name: str, tag: int, numbers: int, adopt: bool, keep: bool) -> None:
        member = self.members[name]
        try:
            block, view = member.client.allocate_block(numbers)
        except (ObjectStoreFullError, OutOfDiskError):
            return
        view[:] = bytes([tag]) * numbers
        array = np.frombuffer(view, np.uint8)
        del view
        assert member.client.find_block(memoryview(array)) is block
        made = self.new_id(name)
        if adopt:
            member.client.adopt_block(made, block, bytes([tag]) * 64, 64)
            self.objects[made] = (tag, numbers + 64)
        if keep:
            member.views.append((made, array, tag))

    @rule(name=names, data=st.data(), keep=st.booleans())
    def read(self, name: str, data: st.DataObject, keep: bool) -> None:
        if not self.objects:
            return
        made = data.draw(st.sampled_from(sorted(self.objects)))
        tag, size = self.objects[made]
        for member in self.members.values():
            member.client.announce()  # as whoever hands a reference out does
        view = self.members[name].client.read(made)
        assert view is not None, "lost"
        assert view.readonly
        assert view == bytes([tag]) * size
        if keep:
            self.members[name].views.append((made, view[size // 2 :], tag))

    @rule(name=names, data=st.data())
    def drop_view(self, name: str, data: st.DataObject) -> None:
        views = self.members[name].views
        if views:
            views.pop(data.draw(st.integers(0, len(views) - 1)))

    @rule(data=st.data())
    def out_of_scope(self, data: st.DataObject) -> None:
        """The last reference is gone everywhere; the owner hears of it last."""
        if not self.objects:
            return
        made = data.draw(st.sampled_from(sorted(self.objects)))
        del self.objects[made]
        for member in self.members.values():
            if member.address != ids.owner_of(made):
                member.client.forget(made)
        self.living[ids.owner_of(made)].client.free(made)

    @rule(name=names, data=st.data())
    def forget(self, name: str, data: st.DataObject) -> None:
        if self.objects:
            self.members[name].client.forget(data.draw(st.sampled_from(sorted(self.objects))))

    @precondition(lambda self: self.counter > 5)
    @rule(name=names)
    def die_and_be_replaced(self, name: str) -> None:
        """What it sent is read before its end is noticed; what it owned or had not announced goes with it."""
        member = self.members[name]
        while member.out:
            self.node_reads(member)
        for made in list(self.objects):
            if ids.owner_of(made) == member.address:
                del self.objects[made]
                for other in self.members.values():
                    other.client.forget(made)
        self.service.process_gone(member.address)
        del self.living[member.address]
        self.join(name)

    # -- what must hold

    @invariant()
    def bytes_under_a_view_never_change(self) -> None:
        for member in self.members.values():
            for _, kept, tag in member.views:
                array = np.frombuffer(kept, np.uint8)
                assert array.size == 0 or (array[0] == array[-1] == tag and array.min() == array.max())

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        with self.stack:
            for made in list(self.objects):
                for member in self.members.values():
                    member.client.forget(made)
                self.living[ids.owner_of(made)].client.free(made)
            for member in self.members.values():
                member.views.clear()
            gc.collect()
            for _ in range(40):
                for member in self.members.values():
                    member.client.patrol(self.now)
                self.step_everything()
                self.pass_time(1.0)
            stats = self.service.stats()
            assert stats["objects"] == stats["spilled"] == 0, f"not all room came back: {stats}"
            for member in self.members.values():
                assert not member.client._held
                assert not member.client._own_at
                assert not member.client._blocks
                assert not member.client.may_release
            # all of it can be had in one piece again
            whole = self.new_id("a")
            assert self.members["a"].client.create(whole, CAPACITY).nbytes == CAPACITY
            self.members["a"].client.abort(whole)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestStoreMachine = StoreMachine.TestCase
