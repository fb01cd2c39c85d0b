"""The actor table's decisions, one story at a time."""

from __future__ import annotations

import pytest

from core import ids
from core.protocol.records import ActorInfo, ActorSpec, DeathCause
from core.specs import LeaseSpec
from core.state import actor_events as ev
from core.state import actors as actors_module
from core.state.actors import ActorTable

JOB = b"\1\0\0\0"
OWNER = b"owner-------"
OTHER = b"other-------"
CRASH = DeathCause("signal", 11, "ended by SIGSEGV (signal 11)")


def actor(number: int = 1, **fields: object) -> ActorSpec:
    task = ids.task_id(OWNER, number, JOB)
    blobs = {"class_blob": b"class", "init_blob": b"init", "placement": LeaseSpec()}
    return ActorSpec(ids.actor_id(task), ids.object_id(task, 0), OWNER, "Counter", **(blobs | fields))


class Story:
    """A table with a clock, a watcher, and the last state it was told."""

    def __init__(self) -> None:
        self.table = ActorTable()
        self.now = 0.0
        self.told: list[ActorInfo] = []

    def tell(self, event: ev.Event) -> list[ev.Instruction]:
        out = self.table.handle(event, now=self.now)
        self.table.validate()
        self.told += [i.info for i in out if isinstance(i, ev.Update)]
        return out

    def create(self, spec: ActorSpec, sender: bytes = OWNER) -> list[ev.Instruction]:
        return self.tell(ev.Create(sender, 1, JOB, spec))

    def alive(self, spec: ActorSpec, worker: bytes = b"worker------") -> ActorSpec:
        """Create the actor and bring it up in ``worker``."""
        if spec.actor_id not in self.table.actors:
            self.create(spec)
        self.tell(ev.Watch(OTHER, spec.actor_id))
        self.tell(ev.Placed(spec.actor_id, worker, 7, [0]))
        self.tell(ev.Ready(worker, spec.actor_id))
        return spec

    def state(self, spec: ActorSpec) -> str:
        info = self.table.info(spec.actor_id)
        assert info is not None
        return info.state


def only(out: list[ev.Instruction], kind: type) -> list[ev.Instruction]:
    return [instruction for instruction in out if isinstance(instruction, kind)]


def test_creation_is_answered_before_the_actor_is_placed() -> None:
    story = Story()
    reply, place = story.create(actor())
    assert isinstance(reply, ev.Reply)
    assert reply.info is not None
    assert reply.info.state == "PENDING_CREATION"
    assert isinstance(place, ev.Place)


def test_an_actor_comes_up() -> None:
    story = Story()
    spec = actor()
    story.create(spec)
    story.tell(ev.Watch(OTHER, spec.actor_id))
    assert story.tell(ev.Placed(spec.actor_id, b"worker------", 7, [1])) == [ev.Start(b"worker------", spec, 0, [1])]
    assert story.state(spec) == "PENDING_CREATION"
    story.tell(ev.Ready(b"worker------", spec.actor_id))
    info = story.told[-1]
    assert (info.state, info.address, info.pid) == ("ALIVE", b"worker------", 7)


def test_a_failing_init_kills_for_good_and_tells_the_error() -> None:
    story = Story()
    spec = actor(max_restarts=-1)
    story.create(spec)
    story.tell(ev.Watch(OTHER, spec.actor_id))
    story.tell(ev.Placed(spec.actor_id, b"worker------", 7))
    out = story.tell(ev.InitFailed(b"worker------", spec.actor_id, b"pickled error"))
    assert only(out, ev.KillProcess)
    assert (story.told[-1].state, story.told[-1].init_error) == ("DEAD", b"pickled error")
    assert story.tell(ev.ProcessGone(b"worker------", CRASH)) == []


@pytest.mark.parametrize(
    ("limit", "deaths", "state"), [(0, 1, "DEAD"), (2, 2, "ALIVE"), (2, 3, "DEAD"), (-1, 9, "ALIVE")]
)
def test_restarts_have_a_budget(limit: int, deaths: int, state: str) -> None:
    story = Story()
    spec = story.alive(actor(max_restarts=limit), b"worker-----0")
    for number in range(1, deaths + 1):
        out = story.tell(ev.ProcessGone(b"worker-----%d" % (number - 1), CRASH))
        if only(out, ev.Place):
            assert story.told[-1].state == "RESTARTING"
            assert story.told[-1].cause == CRASH
            worker = b"worker-----%d" % number
            (start,) = story.tell(ev.Placed(spec.actor_id, worker, 8))
            assert start.restarts == number
            story.tell(ev.Ready(worker, spec.actor_id))
    assert story.state(spec) == state
    info = story.table.info(spec.actor_id)
    assert info is not None
    assert info.restarts == min(deaths, limit if limit >= 0 else deaths)


def test_who_leaves_on_purpose_is_not_restarted() -> None:
    story = Story()
    spec = story.alive(actor(max_restarts=-1))
    story.tell(ev.Leaving(b"worker------", "exit_actor()"))
    story.tell(ev.ProcessGone(b"worker------", DeathCause("intended", 0, "exit_actor()")))
    assert story.state(spec) == "DEAD"
    assert story.told[-1].cause == DeathCause("intended", detail="exit_actor()", pid=7)


def test_kill_is_final_unless_a_restart_is_wished() -> None:
    story = Story()
    spec = story.alive(actor(max_restarts=1))
    (kill,) = story.tell(ev.Kill(spec.actor_id, no_restart=False))
    assert isinstance(kill, ev.KillProcess)
    assert story.state(spec) == "ALIVE"
    out = story.tell(ev.ProcessGone(b"worker------", kill.cause))
    assert only(out, ev.Place)
    story.tell(ev.Kill(spec.actor_id, no_restart=True))
    assert story.state(spec) == "DEAD"
    assert story.told[-1].cause.kind == "killed"


def test_an_actor_killed_before_it_is_placed_never_starts() -> None:
    story = Story()
    spec = actor()
    story.create(spec)
    assert story.tell(ev.Kill(spec.actor_id, no_restart=True)) == [ev.Withdraw(spec.actor_id)]
    (late,) = story.tell(ev.Placed(spec.actor_id, b"worker------", 7))
    assert isinstance(late, ev.KillProcess), "a process given too late is ended, not leaked"


def test_without_handles_an_actor_may_finish_but_not_forever() -> None:
    story = Story()
    spec = story.alive(actor(max_restarts=-1))
    assert story.tell(ev.OutOfScope(spec.actor_id)) == [ev.End(b"worker------", "no handle to the actor is left")]
    assert story.tell(ev.Tick()) == []
    assert story.table.deadline is not None
    story.now = story.table.deadline
    (kill,) = story.tell(ev.Tick())
    assert isinstance(kill, ev.KillProcess)
    story.tell(ev.ProcessGone(b"worker------", kill.cause))
    assert story.state(spec) == "DEAD"
    assert story.table.deadline is None


def test_an_actor_dies_with_its_owner_unless_detached() -> None:
    story = Story()
    mortal = story.alive(actor(1))
    detached = story.alive(actor(2, detached=True, name="kept"), b"worker-two--")
    out = story.tell(ev.ProcessGone(OWNER, CRASH))
    assert [kill.address for kill in only(out, ev.KillProcess)] == [b"worker------"]
    assert story.state(mortal) == "DEAD"
    assert story.state(detached) == "ALIVE"


def test_names_are_taken_per_namespace_and_free_again_after_death() -> None:
    story = Story()
    first = story.alive(actor(1, name="n", namespace="a"))
    (reply,) = story.create(actor(2, name="n", namespace="a"))
    assert reply.error == "exists"
    assert len(story.create(actor(3, name="n", namespace="b"))) == 2
    (reply,) = story.create(actor(4, name="n", namespace="a", get_if_exists=True))
    assert (reply.error, reply.info.actor_id) == ("", first.actor_id)
    story.tell(ev.Kill(first.actor_id, no_restart=True))
    assert story.table.named("a", "n") is None
    assert len(story.create(actor(5, name="n", namespace="a"))) == 2


def test_what_can_never_be_placed_is_dead_with_the_reason() -> None:
    story = Story()
    spec = actor(max_restarts=-1)
    story.create(spec)
    story.tell(ev.Watch(OTHER, spec.actor_id))
    story.tell(ev.Refused(spec.actor_id, "placement_group_removed", "placement group 00 was removed"))
    assert story.state(spec) == "DEAD"
    assert story.told[-1].cause == DeathCause("placement_group_removed", detail="placement group 00 was removed")


def test_watchers_hear_every_change_until_they_stop() -> None:
    story = Story()
    spec = story.alive(actor(max_restarts=1))
    assert [info.state for info in story.told] == ["PENDING_CREATION", "ALIVE"]
    story.tell(ev.Unwatch(OTHER, spec.actor_id))
    story.tell(ev.ProcessGone(b"worker------", CRASH))
    assert len(story.told) == 2


def test_an_actor_nobody_created_is_called_dead_after_a_while() -> None:
    story = Story()
    spec = actor()
    assert story.tell(ev.Watch(OTHER, spec.actor_id)) == []
    story.now = 1.0
    story.create(spec)
    assert story.told[-1].state == "PENDING_CREATION"
    story.tell(ev.Watch(OTHER, b"never made"))
    assert story.table.deadline is not None
    story.now = story.table.deadline
    story.tell(ev.Tick())
    assert (story.told[-1].actor_id, story.told[-1].state) == (b"never made", "DEAD")


def test_dead_actors_are_remembered_lightly_and_not_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors_module, "DEAD_RECORDS", 3)
    story = Story()
    specs = [story.alive(actor(number, methods=b"m" * 1000), b"worker%06d" % number) for number in range(1, 6)]
    for spec in specs:
        story.tell(ev.Kill(spec.actor_id, no_restart=True))
    assert [story.table.info(spec.actor_id) is None for spec in specs] == [True, True, False, False, False]
    assert all(not info.methods for info in story.table.infos())
