"""Hypothesis plays holders, workers and the clock against the scheduler; every event keeps its invariants.

The model remembers only what the outside world can know: which grants it was given and which it gave back.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.protocol.records import Bundle
from core.specs import RESOURCE_UNIT, LeaseSpec, RuntimeEnv, Strategy
from core.state import scheduler_events as ev
from core.state.scheduler import Scheduler

JOB = b"job1"
DRIVERS = [b"driver-a----", b"driver-b----"]
GROUPS = [b"group-1", b"group-2"]
ENVIRONMENTS = [RuntimeEnv(), RuntimeEnv(working_dir="/")]


def units(**amounts: float) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, int(amount * RESOURCE_UNIT)) for name, amount in amounts.items()))


SPECS = [
    LeaseSpec(units(CPU=1)),
    LeaseSpec(units(CPU=2)),
    LeaseSpec(units(CPU=0.5, GPU=0.5)),
    LeaseSpec(units(GPU=2)),
    LeaseSpec(units(CPU=1), ENVIRONMENTS[1]),
    LeaseSpec(()),
    LeaseSpec(units(CPU=50)),
    LeaseSpec(units(CPU=1), strategy=Strategy("placement_group", placement_group=GROUPS[0])),
    LeaseSpec(units(GPU=1), strategy=Strategy("placement_group", placement_group=GROUPS[1], bundle=0)),
    LeaseSpec(units(CPU=1), strategy=Strategy("node", node_id=b"another")),
    LeaseSpec((("CPU", -1),)),
]
#: indices of those in placement groups
IN_GROUPS = [7, 8]
BUNDLES = [[Bundle(units(CPU=1))], [Bundle(units(CPU=1)), Bundle(units(CPU=1, GPU=1))], [Bundle(units(GPU=2))]]


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(target_idle=st.sampled_from([None, 0, 1]))
    def start(self, target_idle: int | None) -> None:
        counter = itertools.count(1)
        total = dict(units(CPU=3, GPU=2))
        self.scheduler = Scheduler(b"n" * 28, total, lambda: b"w%011d" % next(counter), target_idle)
        self.now = 0.0
        self.pids = itertools.count(1)
        self.actor_ids = itertools.count(1)
        #: processes asked for and not up; up; and those we were told to end
        self.starting: set[bytes] = set()
        self.up: set[bytes] = set()
        self.doomed: set[bytes] = set()
        self.stopping: set[bytes] = set()
        #: those that said they would exit
        self.leaving: set[bytes] = set()
        self.leases: dict[int, ev.Granted] = {}
        self.actors: dict[bytes, bytes] = {}
        self.waiting_actors: set[bytes] = set()
        self.backlog: dict[tuple[bytes, int], int] = {}
        self.asked: set[int] = set()

    def tell(self, event: ev.Event) -> None:
        for instruction in self.scheduler.handle(event, now=self.now):
            self.obey(instruction)

    def obey(self, instruction: Any) -> None:
        match instruction:
            case ev.StartWorker():
                assert len(self.starting - self.doomed) < self.scheduler.max_starting
                self.starting.add(instruction.address)
            case ev.Granted():
                key = (instruction.holder, instruction.cls)
                assert self.backlog[key] > 0, "granted more than was asked for"
                self.backlog[key] -= 1
                assert instruction.lease_id not in self.leases
                self.check_free(instruction.address)
                self.leases[instruction.lease_id] = instruction
            case ev.ActorPlaced():
                assert instruction.actor_id in self.waiting_actors
                self.waiting_actors.remove(instruction.actor_id)
                self.check_free(instruction.address)
                self.actors[instruction.actor_id] = instruction.address
            case ev.Refused():
                self.backlog[instruction.holder, instruction.cls] = 0
            case ev.ActorRefused():
                self.waiting_actors.discard(instruction.actor_id)
            case ev.KillWorker():
                self.doomed.add(instruction.address)
            case ev.StopWorker():
                assert instruction.address in self.up
                self.check_free(instruction.address)
                self.stopping.add(instruction.address)
            case ev.GroupChanged():
                assert instruction.watchers <= {*DRIVERS, *self.up, *self.doomed}, "the dead are told"
            case ev.AskBack():
                for lease_id in instruction.leases:
                    assert self.leases[lease_id].holder == instruction.holder
                    assert lease_id not in self.asked, "asked twice for the same lease"
                    self.asked.add(lease_id)

    def check_free(self, address: bytes) -> None:
        """The worker lives, is not on its way out, and is nobody else's."""
        assert address in self.up
        assert address not in self.doomed | self.stopping | self.leaving
        assert address not in {grant.address for grant in self.leases.values()}
        assert address not in self.actors.values()

    def askers(self) -> list[bytes]:
        nested = sorted({grant.address for grant in self.leases.values()} & self.up)
        return DRIVERS + nested

    # rules

    @rule(data=st.data(), cls=st.integers(0, len(SPECS) - 1), backlog=st.integers(0, 4), depth=st.integers(0, 2))
    def demand(self, data: st.DataObject, cls: int, backlog: int, depth: int) -> None:
        self.demand_of(data.draw(st.sampled_from(self.askers())), cls, backlog, depth)

    def demand_of(self, holder: bytes, cls: int, backlog: int, depth: int) -> None:
        self.backlog[holder, cls] = backlog
        self.tell(ev.Demanded(holder, JOB, cls, SPECS[cls], backlog, depth, f"f{cls}"))

    @precondition(lambda self: any(self.backlog.values()))
    @rule()
    def enough(self) -> None:
        """Nobody wants more, and time passes: the pool shrinks."""
        for (holder, cls), backlog in sorted(self.backlog.items()):
            if backlog:
                self.demand_of(holder, cls, 0, 0)
        self.wait(5.0)

    @rule(data=st.data(), cls=st.integers(0, len(SPECS) - 1), holds=st.booleans())
    def create_actor(self, data: st.DataObject, cls: int, holds: bool) -> None:
        actor_id = b"actor%d" % next(self.actor_ids)
        self.waiting_actors.add(actor_id)
        spec = SPECS[cls]
        owner = data.draw(st.sampled_from(self.askers()))
        self.tell(ev.ActorWaits(actor_id, owner, JOB, spec, spec.resources if holds else (), "A"))

    @precondition(lambda self: self.waiting_actors)
    @rule(data=st.data())
    def withdraw_actor(self, data: st.DataObject) -> None:
        actor_id = data.draw(st.sampled_from(sorted(self.waiting_actors)))
        self.waiting_actors.remove(actor_id)
        self.tell(ev.ActorWithdrawn(actor_id))

    @rule(
        data=st.data(),
        group=st.sampled_from(GROUPS),
        name=st.sampled_from(["", "a"]),
        strategy=st.sampled_from(["PACK", "STRICT_SPREAD"]),
        bundles=st.sampled_from(BUNDLES),
        detached=st.booleans(),
    )
    def create_group(
        self, data: st.DataObject, group: bytes, name: str, strategy: str, bundles: list[Bundle], detached: bool
    ) -> None:
        creator = data.draw(st.sampled_from(self.askers()))
        self.tell(ev.GroupCreated(group, name, strategy, bundles, creator, detached))

    @precondition(lambda self: self.scheduler.groups.groups)
    @rule(data=st.data(), group=st.sampled_from(GROUPS))
    def watch_group(self, data: st.DataObject, group: bytes) -> None:
        self.tell(ev.GroupWatched(group, data.draw(st.sampled_from(self.askers()))))

    @precondition(lambda self: self.scheduler.groups.groups)
    @rule(index=st.integers(0, 1), actor=st.booleans())
    def run_in_group(self, index: int, actor: bool) -> None:
        cls = IN_GROUPS[index]
        if actor:
            actor_id = b"actor%d" % next(self.actor_ids)
            self.waiting_actors.add(actor_id)
            self.tell(ev.ActorWaits(actor_id, DRIVERS[0], JOB, SPECS[cls], SPECS[cls].resources, "A"))
        else:
            self.backlog[DRIVERS[0], cls] = 1
            self.tell(ev.Demanded(DRIVERS[0], JOB, cls, SPECS[cls], 1, 0, "in a group"))
        self.all_come_up()

    @precondition(lambda self: self.scheduler.groups.groups)
    @rule(group=st.sampled_from(GROUPS))
    def remove_group(self, group: bytes) -> None:
        self.tell(ev.GroupRemoved(group))

    @precondition(lambda self: not self.up | self.starting)
    @rule()
    def start_job(self) -> None:
        self.tell(ev.JobStarted(JOB))

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def come_up(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.starting)))
        self.starting.remove(address)
        self.up.add(address)
        self.tell(ev.WorkerReady(address, next(self.pids)))

    @precondition(lambda self: self.starting - self.doomed)
    @rule()
    def all_come_up(self) -> None:
        """Once and again, until nobody waits for a process any more: what needs many comes about."""
        for _ in range(20):
            coming = sorted(self.starting - self.doomed)
            if not coming:
                return
            for address in coming:
                self.starting.remove(address)
                self.up.add(address)
                self.tell(ev.WorkerReady(address, next(self.pids)))

    @rule()
    def explain(self) -> None:
        """Who waits long is told why, once; who only queues is told nothing."""
        for request in self.scheduler.queue.all():
            self.now += 2.0
            text = self.scheduler.explain_stall(request, self.now)
            assert not text or (request.what in text and not self.scheduler.explain_stall(request, self.now))

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), kind=st.sampled_from(["start", "runtime_env"]))
    def fail_to_start(self, data: st.DataObject, kind: str) -> None:
        address = data.draw(st.sampled_from(sorted(self.starting)))
        self.starting.remove(address)
        self.doomed.discard(address)
        self.tell(ev.StartFailed(address, kind, "no"))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), exiting=st.booleans())
    def give_back(self, data: st.DataObject, exiting: bool) -> None:
        lease_id = data.draw(st.sampled_from(sorted(self.leases)))
        grant = self.leases.pop(lease_id)
        if exiting:
            self.stopping.add(grant.address)
        self.tell(ev.LeaseReturned(grant.holder, lease_id, exiting))

    @rule(lease_id=st.integers(1, 50))
    def give_back_what_is_not_held(self, lease_id: int) -> None:
        self.tell(ev.LeaseReturned(b"a stranger--", lease_id))

    @precondition(lambda self: self.up)
    @rule(data=st.data(), block=st.booleans())
    def block(self, data: st.DataObject, block: bool) -> None:
        address = data.draw(st.sampled_from(sorted(self.up)))
        self.tell(ev.WorkerBlocked(address) if block else ev.WorkerUnblocked(address))

    @precondition(lambda self: len(self.up) > 2)
    @rule(data=st.data())
    def say_goodbye(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.up)))
        self.leaving.add(address)
        self.tell(ev.WorkerLeaving(address))

    @precondition(lambda self: self.stopping - self.doomed)
    @rule(data=st.data())
    def decline(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.stopping - self.doomed)))
        self.stopping.discard(address)
        self.tell(ev.StopDeclined(address))

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.gone(data.draw(st.sampled_from(sorted(self.up))))

    @precondition(lambda self: self.doomed)
    @rule(data=st.data())
    def death_is_confirmed(self, data: st.DataObject) -> None:
        self.gone(data.draw(st.sampled_from(sorted(self.doomed))))

    @precondition(lambda self: len(self.leases) + len(self.actors) > 1)
    @rule(driver=st.sampled_from(DRIVERS), ends=st.booleans())
    def driver_leaves(self, driver: bytes, ends: bool) -> None:
        """And with its job the pool of that; what is leased or an actor goes by its holder or owner."""
        self.gone(driver)
        if ends:
            starting = set(self.starting)
            self.tell(ev.JobEnded(JOB))
            assert starting <= self.doomed

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(ev.Tick())

    def gone(self, address: bytes) -> None:
        for group in (self.up, self.doomed, self.stopping, self.starting, self.leaving):
            group.discard(address)
        self.actors = {actor: worker for actor, worker in self.actors.items() if worker != address}
        self.leases = {
            lease_id: grant for lease_id, grant in self.leases.items() if address not in (grant.address, grant.holder)
        }
        self.backlog = {key: count for key, count in self.backlog.items() if key[0] != address}
        self.tell(ev.ProcessGone(address))

    # invariants

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.validate()
            assert set(self.scheduler.leases) == set(self.leases)

    def teardown(self) -> None:
        """Whoever can be served is served in the end, when resources come back and workers come up."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(500):
            if self.doomed:
                self.gone(min(self.doomed))
            elif self.starting:
                address = min(self.starting)
                self.starting.remove(address)
                self.up.add(address)
                self.tell(ev.WorkerReady(address, next(self.pids)))
            elif self.leases:
                lease_id = min(self.leases)
                grant = self.leases.pop(lease_id)
                self.tell(ev.LeaseReturned(grant.holder, lease_id))
            elif self.actors:
                self.gone(min(self.actors.values()))
            elif self.scheduler.groups.groups:
                self.tell(ev.GroupRemoved(min(self.scheduler.groups.groups)))
            elif self.stopping | self.leaving:
                self.gone(min(self.stopping | self.leaving))
            elif self.scheduler.queue:
                self.now += 1.0
                self.tell(ev.Tick())
            else:
                break
        self.scheduler.validate()
        assert not self.scheduler.queue, [request.what for request in self.scheduler.queue.in_order()]
        assert self.scheduler.node.available == self.scheduler.node.total
        for entry in self.scheduler.queue.infeasible.values():
            assert not self.scheduler.node.could_fit(entry.request.spec.resources)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
