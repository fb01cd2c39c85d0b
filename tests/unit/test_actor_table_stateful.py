"""Hypothesis plays owners, workers, the scheduler and the clock against the actor table."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core import ids
from core.protocol.records import ActorSpec, DeathCause
from core.specs import LeaseSpec
from core.state import actor_events as ev
from core.state.actors import ActorTable

JOB = b"\1\0\0\0"
OWNERS = [b"owner-a-----", b"owner-b-----"]
WATCHER = b"watcher-----"
#: comes and goes
GUEST = b"guest-------"
STRANGER = b"stranger----"
CAUSES = [DeathCause("signal", 9), DeathCause("exit", 1), DeathCause("intended"), DeathCause("oom")]


class ActorMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.table = ActorTable()
        self.now = 0.0
        self.counter = itertools.count(1)
        self.specs: dict[bytes, ActorSpec] = {}
        #: what the scheduler was asked for and has not answered
        self.placing: set[bytes] = set()
        #: worker -> actor
        self.running: dict[bytes, bytes] = {}
        self.doomed: set[bytes] = set()
        #: the last state each watched actor was told
        self.told: dict[bytes, str] = {}
        self.starts: dict[bytes, int] = {}
        #: what the guest watches -> the last state it was told
        self.guest: dict[bytes, str] = {}

    def tell(self, event: ev.Event) -> None:
        for instruction in self.table.handle(event, now=self.now):
            self.obey(instruction)

    def obey(self, instruction: Any) -> None:
        match instruction:
            case ev.Place():
                assert instruction.actor_id not in self.placing, "placed twice at a time"
                assert instruction.actor_id not in self.running.values(), "placed while it runs"
                self.placing.add(instruction.actor_id)
            case ev.Withdraw():
                self.placing.discard(instruction.actor_id)
            case ev.Start():
                spec = instruction.spec
                starts = self.starts[spec.actor_id] = self.starts.get(spec.actor_id, -1) + 1
                assert starts <= instruction.restarts
                assert spec.max_restarts < 0 or instruction.restarts <= spec.max_restarts
            case ev.KillProcess():
                self.doomed.add(instruction.address)
            case ev.Update():
                actor_id, state = instruction.info.actor_id, instruction.info.state
                if WATCHER in instruction.watchers:
                    assert self.told.get(actor_id) != "DEAD", "the dead do not change"
                    self.told[actor_id] = state
                if GUEST in instruction.watchers:
                    assert actor_id in self.guest, "told without having asked"
                    self.guest[actor_id] = state

    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(["", "", "x", "y"]),
        restarts=st.sampled_from([0, 1, -1]),
        detached=st.booleans(),
        get_if_exists=st.booleans(),
    )
    def create(self, owner: bytes, name: str, restarts: int, detached: bool, get_if_exists: bool) -> None:
        task = ids.task_id(owner, next(self.counter), JOB)
        spec = ActorSpec(
            ids.actor_id(task),
            ids.object_id(task, 0),
            owner,
            "A",
            b"",
            b"",
            LeaseSpec(),
            name=name,
            detached=detached,
            get_if_exists=get_if_exists,
            max_restarts=restarts,
        )
        self.tell(ev.Create(owner, 1, JOB, spec))
        if spec.actor_id in self.table.actors:
            self.specs[spec.actor_id] = spec
            self.tell(ev.Watch(WATCHER, spec.actor_id))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def create_again(self, data: st.DataObject) -> None:
        """A creation that is sent twice changes nothing."""
        spec = self.specs[data.draw(st.sampled_from(sorted(self.specs)))]
        (reply,) = self.table.handle(ev.Create(spec.owner, 2, JOB, spec), now=self.now)
        assert isinstance(reply, ev.Reply) and not reply.error
        assert reply.info == self.table.info(spec.actor_id)

    @rule(data=st.data(), known=st.booleans())
    def watch(self, data: st.DataObject, known: bool) -> None:
        if not known or not self.specs:
            actor_id = b"nobody made %d" % next(self.counter)
        else:
            actor_id = data.draw(st.sampled_from(sorted(self.specs)))
        self.guest[actor_id] = "not told"
        self.tell(ev.Watch(GUEST, actor_id))

    @precondition(lambda self: self.guest)
    @rule(data=st.data())
    def watch_no_more(self, data: st.DataObject) -> None:
        actor_id = data.draw(st.sampled_from(sorted(self.guest)))
        del self.guest[actor_id]
        self.tell(ev.Unwatch(GUEST, actor_id))

    @rule()
    def guest_leaves(self) -> None:
        self.guest.clear()
        self.tell(ev.ProcessGone(GUEST, CAUSES[0]))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def a_stranger_speaks(self, data: st.DataObject) -> None:
        """What is said by another process than the actor's own is not believed."""
        actor_id = data.draw(st.sampled_from(sorted(self.specs)))
        before = self.table.info(actor_id)
        for event in (
            ev.Ready(STRANGER, actor_id),
            ev.InitFailed(STRANGER, actor_id, b""),
            ev.Leaving(STRANGER),
            ev.ProcessGone(STRANGER, CAUSES[0]),
        ):
            assert not self.table.handle(event, now=self.now)
        assert self.table.info(actor_id) == before

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def place_what_waits_for_nothing(self, data: st.DataObject) -> None:
        actor_id = data.draw(st.sampled_from(sorted(self.specs)))
        if actor_id not in self.placing:
            (kill,) = self.table.handle(ev.Placed(actor_id, STRANGER, 1), now=self.now)
            assert isinstance(kill, ev.KillProcess) and kill.address == STRANGER

    @precondition(lambda self: self.placing)
    @rule(data=st.data(), refuse=st.integers(0, 4))
    def answer_placement(self, data: st.DataObject, refuse: int) -> None:
        actor_id = data.draw(st.sampled_from(sorted(self.placing)))
        self.placing.remove(actor_id)
        if refuse == 0:
            self.tell(ev.Refused(actor_id, "unschedulable", "no"))
        else:
            worker = b"w%011d" % next(self.counter)
            self.running[worker] = actor_id
            self.tell(ev.Placed(actor_id, worker, 1))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["ready", "ready", "failed", "leaving"]))
    def worker_speaks(self, data: st.DataObject, outcome: str) -> None:
        worker = data.draw(st.sampled_from(sorted(self.running)))
        actor_id = self.running[worker]
        if outcome == "ready":
            self.tell(ev.Ready(worker, actor_id))
        elif outcome == "failed":
            self.tell(ev.InitFailed(worker, actor_id, b"error"))
        else:
            self.tell(ev.Leaving(worker, "bye"))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cause=st.sampled_from(CAUSES))
    def worker_dies(self, data: st.DataObject, cause: DeathCause) -> None:
        self.gone(data.draw(st.sampled_from(sorted(self.running))), cause)

    @precondition(lambda self: self.specs)
    @rule(data=st.data(), no_restart=st.booleans())
    def kill(self, data: st.DataObject, no_restart: bool) -> None:
        self.tell(ev.Kill(data.draw(st.sampled_from(sorted(self.specs))), no_restart))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def out_of_scope(self, data: st.DataObject) -> None:
        self.tell(ev.OutOfScope(data.draw(st.sampled_from(sorted(self.specs)))))

    @rule(owner=st.sampled_from(OWNERS))
    def owner_dies(self, owner: bytes) -> None:
        self.tell(ev.ProcessGone(owner, CAUSES[0]))
        for actor_id, spec in self.specs.items():
            assert spec.owner != owner or spec.detached or actor_id not in self.table.actors

    @rule(seconds=st.sampled_from([1.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(ev.Tick())
        assert self.table.deadline is None or self.table.deadline > self.now

    def gone(self, worker: bytes, cause: DeathCause) -> None:
        del self.running[worker]
        self.doomed.discard(worker)
        self.tell(ev.ProcessGone(worker, cause))

    @invariant()
    def consistent(self) -> None:
        if not hasattr(self, "table"):
            return
        self.table.validate()
        for actor_id in self.specs:
            info = self.table.info(actor_id)
            assert info is not None
            assert self.told[actor_id] == info.state, "a watcher missed a change"
            waits = actor_id in self.table.actors and not self.table.actors[actor_id].worker
            assert waits == (actor_id in self.placing), "an actor without a process is being placed, and no other"
        for actor_id, state in self.guest.items():
            info = self.table.info(actor_id)
            assert state == (info.state if info is not None else state), "the guest missed a change"
            assert info is not None or state in ("not told", "DEAD")

    def teardown(self) -> None:
        """Once every owner is gone and detached actors are killed, nothing runs."""
        if not hasattr(self, "table"):
            return
        for owner in OWNERS:
            self.tell(ev.ProcessGone(owner, CAUSES[0]))
        for actor_id in self.specs:
            self.tell(ev.Kill(actor_id, no_restart=True))
        assert not self.placing
        assert set(self.running) <= self.doomed | set()
        for worker in sorted(self.running):
            self.gone(worker, CAUSES[0])
        self.table.validate()
        assert not self.table.actors
        assert not self.table.names
        self.now += 31.0
        self.tell(ev.Tick())
        assert "not told" not in self.guest.values(), "who watches an actor that nobody made is told so"
        assert self.table.deadline is None


TestActorTable = ActorMachine.TestCase
TestActorTable.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
