"""The scheduler's decisions, one table or story at a time."""

from __future__ import annotations

import itertools

import pytest

from core.protocol.records import Bundle
from core.specs import RESOURCE_UNIT, LeaseSpec, RuntimeEnv, Strategy
from core.state import scheduler_events as ev
from core.state.scheduler import Scheduler
from core.state.worker_pool import MAX_START_FAILURES

JOB = b"job1"
DRIVER = b"driver------"
NODE = b"n" * 28

#: defaults of :func:`spec`
ANYWHERE = Strategy()
PLAIN = RuntimeEnv()


def units(**amounts: float) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, int(amount * RESOURCE_UNIT)) for name, amount in amounts.items()))


def spec(strategy: Strategy = ANYWHERE, env: RuntimeEnv = PLAIN, **amounts: float) -> LeaseSpec:
    return LeaseSpec(units(**(amounts or {"CPU": 1})), env, strategy)


class Story:
    """A scheduler with a clock, processes that start at once, and the leases everybody holds."""

    def __init__(self, **total: float) -> None:
        counter = itertools.count(1)
        self.scheduler = Scheduler(NODE, dict(units(**total)), lambda: b"worker%06d" % next(counter))
        self.now = 0.0
        self.starting: list[bytes] = []
        self.grants: list[ev.Granted] = []
        self.pids = itertools.count(100)

    def tell(self, event: ev.Event) -> list[ev.Instruction]:
        out = self.scheduler.handle(event, now=self.now)
        self.scheduler.validate()
        self.starting += [i.address for i in out if isinstance(i, ev.StartWorker)]
        self.grants += [i for i in out if isinstance(i, ev.Granted)]
        return out

    def workers(self, count: int) -> list[bytes]:
        """Have ``count`` idle workers."""
        self.tell(ev.JobStarted(JOB))
        while len(self.scheduler.pool.workers) < count:
            worker = self.scheduler.pool.starting(b"extra%07d" % next(self.pids), (RuntimeEnv(), JOB))
            self.starting.append(worker.address)
        return self.come_up()

    def come_up(self) -> list[bytes]:
        """Let everything that is being started register."""
        up = []
        while self.starting:
            address = self.starting.pop(0)
            self.tell(ev.WorkerReady(address, next(self.pids)))
            up.append(address)
        return up

    def demand(
        self, backlog: int, *, holder: bytes = DRIVER, cls: int = 0, depth: int = 1, of: LeaseSpec | None = None
    ) -> list[ev.Instruction]:
        return self.tell(ev.Demanded(holder, JOB, cls, of if of is not None else spec(), backlog, depth, f"f{cls}"))

    def give_back(self, grant: ev.Granted) -> list[ev.Instruction]:
        return self.tell(ev.LeaseReturned(grant.holder, grant.lease_id))

    def available(self, name: str = "CPU") -> float:
        return self.scheduler.node.available[name] / RESOURCE_UNIT


def kinds(out: list[ev.Instruction]) -> list[type]:
    return [type(instruction) for instruction in out]


def test_a_registering_driver_gets_workers_ahead_of_its_first_task() -> None:
    story = Story(CPU=3)
    assert kinds(story.tell(ev.JobStarted(JOB))) == [ev.StartWorker] * 3


def test_grants_stop_where_resources_end_and_go_on_when_they_return() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(5)
    assert len(story.grants) == 2
    assert story.available() == 0
    story.give_back(story.grants[0])
    assert len(story.grants) == 3


def test_a_demand_without_idle_workers_starts_as_many_as_resources_allow() -> None:
    story = Story(CPU=2)
    out = story.demand(100)
    assert kinds(out) == [ev.StartWorker] * 2
    assert not story.grants
    story.come_up()
    assert len(story.grants) == 2


def test_only_a_few_workers_are_forked_at_a_time() -> None:
    story = Story(CPU=1, many=100)
    story.demand(50, of=spec(many=1))
    assert len(story.starting) == 2


def test_the_deeper_demand_is_served_first() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(1)
    story.demand(1, holder=b"shallow-----", depth=1)
    story.demand(1, holder=b"deep--------", depth=3)
    story.give_back(story.grants[0])
    assert story.grants[-1].holder == b"deep--------"


def test_holders_take_turns() -> None:
    story = Story(CPU=1)
    story.workers(1)
    for holder in (b"a" * 12, b"b" * 12):
        story.demand(3, holder=holder)
    for index in range(5):
        story.give_back(story.grants[index])
    assert [grant.holder[:1] for grant in story.grants] == [b"a", b"b", b"a", b"b", b"a", b"b"]


def test_a_request_for_the_whole_node_is_not_starved_by_small_ones() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(100)
    story.demand(1, holder=b"big---------", of=spec(CPU=2))
    story.demand(100)
    story.give_back(story.grants[0])
    assert len(story.grants) == 2
    story.give_back(story.grants[1])
    assert story.grants[-1].holder == b"big---------"


def test_a_request_that_waits_for_the_end_of_an_actor_holds_nobody_up() -> None:
    story = Story(CPU=4)
    story.workers(4)
    story.tell(ev.ActorWaits(b"large", DRIVER, JOB, spec(CPU=3), units(CPU=3), "A"))
    story.tell(ev.ActorWaits(b"waits", DRIVER, JOB, spec(CPU=2), units(CPU=2), "A"))
    story.tell(ev.GroupCreated(b"group", "", "PACK", [Bundle(units(CPU=2))], DRIVER))
    story.demand(2)
    assert len(story.grants) == 1  # the fourth CPU
    story.give_back(story.grants[0])
    assert len(story.grants) == 2
    (large,) = [worker for worker in story.scheduler.pool.workers.values() if worker.actor_id == b"large"]
    out = story.tell(ev.ProcessGone(large.address))
    assert [i.actor_id for i in out if isinstance(i, ev.ActorPlaced)] == [b"waits"]


def test_bundles_that_fit_on_parts_of_several_gpus_are_placed() -> None:
    story = Story(CPU=4, GPU=2)
    story.workers(4)
    for name in (b"a", b"b"):
        story.tell(ev.ActorWaits(name, DRIVER, JOB, spec(GPU=0.6), units(GPU=0.6), "A"))
    out = story.tell(ev.GroupCreated(b"group", "", "PACK", [Bundle(units(GPU=0.4))] * 2, DRIVER))
    assert any(isinstance(i, ev.GroupChanged) for i in out)


def test_what_does_not_fit_leaves_other_resources_to_those_behind() -> None:
    story = Story(CPU=2, GPU=1)
    story.workers(2)
    story.demand(1, of=spec(GPU=1))
    story.demand(1, cls=1, of=spec(GPU=1))
    story.demand(1, cls=2)
    assert [grant.cls for grant in story.grants] == [0, 2]


def test_a_blocked_worker_lends_its_cpu_and_takes_it_back_below_zero() -> None:
    story = Story(CPU=1)
    story.workers(2)
    story.demand(2)
    story.tell(ev.WorkerBlocked(story.grants[0].address))
    assert len(story.grants) == 2
    story.demand(1)
    story.tell(ev.WorkerUnblocked(story.grants[0].address))
    assert story.available() == -1
    story.give_back(story.grants[0])
    assert len(story.grants) == 2, "one task still runs on the only CPU"
    story.give_back(story.grants[1])
    assert len(story.grants) == 3


def test_only_cpu_is_lent() -> None:
    story = Story(CPU=1, GPU=1)
    story.workers(1)
    story.demand(1, of=spec(CPU=1, GPU=1))
    story.tell(ev.WorkerBlocked(story.grants[0].address))
    assert (story.available("CPU"), story.available("GPU")) == (1, 0)


def test_a_lease_given_back_by_a_blocked_worker_is_counted_once() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(1)
    story.tell(ev.WorkerBlocked(story.grants[0].address))
    story.give_back(story.grants[0])
    assert story.available() == 1


def test_an_actor_waits_for_placement_and_then_holds_what_it_declared() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(1)
    out = story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(CPU=1), (), "A"))
    assert not any(isinstance(i, ev.ActorPlaced) for i in out)
    assert kinds(story.give_back(story.grants[0])) == [ev.StartWorker], "one that has run nothing"
    assert story.available() == 1
    out = story.tell(ev.WorkerReady(story.starting.pop(), 1))
    assert kinds(out) == [ev.ActorPlaced]
    assert story.available() == 1
    story.tell(ev.ProcessGone(out[0].address))
    assert story.available() == 1


def test_an_actor_with_resources_holds_them_until_it_dies() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(CPU=1), units(CPU=1), "A"))
    (address,) = [worker.address for worker in story.scheduler.pool.workers.values() if worker.actor_id]
    story.tell(ev.WorkerBlocked(address))
    assert story.available() == 1, "an actor's CPU is not lent"
    story.tell(ev.ProcessGone(address))
    assert story.available() == 2


def test_tasks_spare_fresh_workers_for_actors() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(1)
    story.give_back(story.grants[0])
    story.demand(1)
    assert story.grants[0].address == story.grants[1].address


def test_an_actor_takes_a_fresh_worker_when_there_is_one() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(1)
    used = story.grants[0].address
    story.give_back(story.grants[0])
    out = story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(CPU=1), (), "A"))
    assert out[0].address != used


@pytest.mark.parametrize(
    ("amounts", "ids"),
    [
        ([0.5, 0.5, 0.5], [[0], [0], [1]]),
        ([1, 0.5], [[0], [1]]),
        ([2], [[0, 1]]),
        ([0.3, 0.3, 0.3, 0.3], [[0]] * 3 + [[1]]),
    ],
)
def test_gpus_are_shared_by_fraction_and_given_whole(amounts: list[float], ids: list[list[int]]) -> None:
    story = Story(CPU=8, GPU=2)
    story.workers(8)
    for cls, amount in enumerate(amounts):
        story.demand(1, cls=cls, of=spec(GPU=amount))
    assert [grant.gpu_ids for grant in story.grants] == ids


def test_a_fraction_must_lie_on_one_gpu() -> None:
    story = Story(CPU=8, GPU=2)
    story.workers(8)
    for cls in range(3):
        story.demand(1, cls=cls, of=spec(GPU=0.7))
    assert len(story.grants) == 2


def test_workers_are_kept_apart_by_runtime_env() -> None:
    story = Story(CPU=2)
    story.workers(2)
    env = RuntimeEnv(env_vars=(("A", "1"),))
    out = story.demand(1, of=spec(env=env, CPU=1))
    assert kinds(out) == [ev.StartWorker]
    assert out[0].key == (env, JOB)


def test_surplus_idle_workers_leave_after_a_second_the_oldest_first() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(1)
    story.tell(ev.WorkerBlocked(story.grants[0].address))
    story.demand(1, holder=b"nested------", depth=2)
    story.come_up()
    for grant in story.grants:
        story.give_back(grant)
    assert story.tell(ev.Tick()) == []
    assert story.scheduler.deadline == pytest.approx(1.0)
    story.now = 1.0
    (stop,) = story.tell(ev.Tick())
    assert stop.address == story.grants[0].address


def test_a_worker_that_declines_to_leave_is_used_again() -> None:
    story = Story(CPU=1)
    story.workers(2)
    story.now = 1.0
    (stop,) = story.tell(ev.Tick())
    story.tell(ev.StopDeclined(stop.address))
    assert story.tell(ev.Tick()) != [stop], "another one may be asked, this one not at once"
    story.now = 2.0
    story.demand(2)
    assert story.scheduler.pool.workers[stop.address].state in ("idle", "leased")


def test_the_lease_of_a_dead_worker_is_free_again() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(2)
    out = story.tell(ev.ProcessGone(story.grants[0].address))
    assert kinds(out) == [ev.StartWorker]
    story.come_up()
    assert len(story.grants) == 2


def test_work_of_a_dead_holder_is_ended() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(1)
    nested = story.grants[0].address
    story.demand(1, holder=nested, depth=2)
    child = story.grants[1].address
    (kill,) = story.tell(ev.ProcessGone(nested))
    assert isinstance(kill, ev.KillWorker)
    assert kill.address == child
    story.tell(ev.ProcessGone(child))
    assert story.available() == 2


def test_an_actor_asks_a_holder_for_a_lease_and_once_only() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(9)
    (ask,) = story.tell(ev.ActorWaits(b"actor", b"other-------", JOB, spec(CPU=1), (), "A"))
    assert ask == ev.AskBack(DRIVER, [story.grants[0].lease_id])
    assert story.demand(8) == []
    assert kinds(story.give_back(story.grants[0])) == [ev.StartWorker]
    out = story.tell(ev.WorkerReady(story.starting.pop(), 1))
    assert isinstance(out[0], ev.ActorPlaced), "the old holder queues up behind those who waited"


def test_a_holder_with_much_more_is_asked_to_share() -> None:
    story = Story(CPU=4)
    story.workers(4)
    story.demand(100)
    (ask,) = story.demand(100, holder=b"newcomer----")
    assert isinstance(ask, ev.AskBack)
    asked = [grant for grant in story.grants if grant.lease_id in ask.leases]
    out = story.give_back(asked[0])
    assert out[0].holder == b"newcomer----"


def test_equal_shares_are_left_alone_but_turns_are_taken_in_time() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(100)
    assert story.demand(100, holder=b"newcomer----") == []
    at = story.scheduler.deadline
    assert at is not None
    story.now = at
    assert kinds(story.tell(ev.Tick())) == [ev.AskBack]


def test_nothing_is_asked_back_that_would_not_help() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(CPU=1), units(CPU=1), "A"))
    story.demand(1)
    assert story.demand(1, cls=1, of=spec(CPU=2)) == []


def test_the_lease_a_nested_submitter_runs_on_is_not_asked_back_for_it() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(1)
    story.demand(1, holder=story.grants[0].address, depth=2)
    story.now = 60.0
    assert kinds(story.tell(ev.Tick())) == []


def test_an_infeasible_demand_is_reported_after_a_while_and_rarely_again() -> None:
    story = Story(CPU=2)
    assert story.demand(1, of=spec(GPU=4)) == []
    warnings = []
    while story.now < 100:
        assert story.scheduler.deadline is not None
        story.now = story.scheduler.deadline
        warnings += [(story.now, i.text) for i in story.tell(ev.Tick()) if isinstance(i, ev.Warn)]
    assert warnings[0] == (3.0, "task f0 waits for {GPU: 4}, no node has more than {GPU: 0}")
    assert len(warnings) <= 6
    story.demand(0, of=spec(GPU=4))
    assert story.scheduler.deadline is None


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        (Strategy("node", b"x" * 28), "unschedulable"),
        (Strategy("node", b"x" * 28, soft=True), None),
        (Strategy("node", NODE), None),
        (Strategy("spread"), None),
        (Strategy("placement_group", placement_group=b"gone"), "placement_group_removed"),
    ],
)
def test_what_can_never_run_is_refused_at_once(strategy: Strategy, kind: str | None) -> None:
    story = Story(CPU=2)
    story.workers(2)
    out = story.demand(1, of=spec(strategy))
    assert [i.kind for i in out if isinstance(i, ev.Refused)] == ([kind] if kind else [])
    assert len(story.grants) == (0 if kind else 1)
    out = story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(strategy), (), "A"))
    assert [i.kind for i in out if isinstance(i, ev.ActorRefused)] == ([kind] if kind else [])


def test_a_key_whose_workers_do_not_start_is_given_up() -> None:
    story = Story(CPU=1)
    story.demand(1)
    refused: list[ev.Instruction] = []
    attempts = 0
    while not refused:
        attempts += 1
        out = story.tell(ev.StartFailed(story.starting.pop(0), "start", "exited with code 1"))
        refused = [i for i in out if isinstance(i, ev.Refused)]
    assert attempts == 3
    assert refused == [ev.Refused(DRIVER, 0, "start", "exited with code 1")]


def test_when_the_system_refuses_more_processes_those_there_are_do_the_work() -> None:
    story = Story(CPU=8)
    story.demand(1)
    story.workers(8)
    (address,) = {grant.address for grant in story.grants}
    for worker in [worker for worker in story.scheduler.pool.workers if worker != address]:
        story.tell(ev.ProcessGone(worker))
    story.demand(3)
    pause = 1.0
    for _ in range(3):
        for _ in range(MAX_START_FAILURES + story.scheduler.max_starting):
            if story.starting:
                out = story.tell(ev.StartFailed(story.starting.pop(), "start", "no more processes"))
        assert not any(isinstance(i, ev.Refused) for i in out)
        assert story.scheduler.deadline == story.now + pause
        assert not story.starting
        story.now = story.scheduler.deadline
        story.tell(ev.Tick())  # tries again
        pause *= 2
    assert story.starting
    story.grants[1:] = []
    story.give_back(story.grants[0])
    assert [grant.address for grant in story.grants[1:]] == [address]


def test_a_bad_runtime_env_is_refused_at_once() -> None:
    story = Story(CPU=1)
    story.demand(1)
    out = story.tell(ev.StartFailed(story.starting.pop(0), "runtime_env", "no such directory"))
    assert out == [ev.Refused(DRIVER, 0, "runtime_env", "no such directory")]


def test_a_leaving_worker_is_not_reused() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.demand(2)
    story.tell(ev.WorkerLeaving(story.grants[0].address))
    out = story.give_back(story.grants[0])
    assert kinds(out) == [ev.StartWorker]


def test_leases_without_cpu_are_not_limited_but_slowed_down() -> None:
    story = Story(CPU=1)
    story.workers(30)
    story.demand(30, of=LeaseSpec())
    fast = len(story.grants)
    assert 1 < fast < 30
    while len(story.grants) < 30:
        assert story.scheduler.deadline is not None
        story.now = story.scheduler.deadline
        story.tell(ev.Tick())
        story.come_up()


def group(
    story: Story, bundles: list[dict[str, float]], strategy: str = "PACK", name: bytes = b"pg"
) -> list[ev.Instruction]:
    records = [Bundle(units(**bundle)) for bundle in bundles]
    return story.tell(ev.GroupCreated(name, "", strategy, records, DRIVER))


def test_bundles_are_carved_out_and_leases_draw_on_them() -> None:
    story = Story(CPU=3)
    story.workers(3)
    assert kinds(group(story, [{"CPU": 1}, {"CPU": 1}])) == [ev.GroupChanged]
    assert story.available() == 1
    inside = spec(Strategy("placement_group", placement_group=b"pg", bundle=1))
    story.demand(2, of=inside)
    assert len(story.grants) == 1
    anywhere = spec(Strategy("placement_group", placement_group=b"pg"))
    story.demand(2, cls=1, of=anywhere)
    assert len(story.grants) == 2
    assert story.available() == 1


def test_a_blocked_task_of_a_group_lends_its_slot_inside_the_group() -> None:
    story = Story(CPU=2)
    story.workers(2)
    group(story, [{"CPU": 1}])
    inside = spec(Strategy("placement_group", placement_group=b"pg"))
    story.demand(2, of=inside)
    story.tell(ev.WorkerBlocked(story.grants[0].address))
    assert len(story.grants) == 2
    assert story.available() == 1


@pytest.mark.parametrize(
    ("bundles", "strategy", "state"),
    [
        ([{"CPU": 1}, {"CPU": 1}], "STRICT_PACK", "CREATED"),
        ([{"CPU": 1}, {"CPU": 1}], "SPREAD", "CREATED"),
        ([{"CPU": 1}], "STRICT_SPREAD", "CREATED"),
        ([{"CPU": 1}, {"CPU": 1}], "STRICT_SPREAD", "INFEASIBLE"),
        ([{"CPU": 3}], "PACK", "INFEASIBLE"),
        ([{"GPU": 0.6}, {"GPU": 0.6}], "PACK", "INFEASIBLE"),
    ],
)
def test_what_one_node_can_place(bundles: list[dict[str, float]], strategy: str, state: str) -> None:
    story = Story(CPU=2, GPU=1)
    group(story, bundles, strategy)
    info = story.scheduler.groups.find(b"pg")
    assert info is not None
    assert info.state == state
    story.now = 3.0
    assert kinds(story.tell(ev.Tick())) == ([ev.Warn] if state == "INFEASIBLE" else [])


def test_removing_a_group_ends_its_users_and_refuses_those_who_wait() -> None:
    story = Story(CPU=2)
    story.workers(2)
    group(story, [{"CPU": 1}])
    inside = spec(Strategy("placement_group", placement_group=b"pg"))
    story.demand(2, of=inside)
    story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, inside, (), "A"))
    out = story.tell(ev.GroupRemoved(b"pg"))
    assert sorted(kind.__name__ for kind in kinds(out)) == ["ActorRefused", "GroupChanged", "KillWorker", "Refused"]
    assert story.available() == 2
    assert story.tell(ev.GroupRemoved(b"pg")) == []
    story.tell(ev.ProcessGone(story.grants[0].address))
    assert story.available() == 2
    (refused,) = story.demand(1, of=inside)
    assert refused.kind == "placement_group_removed"


def test_half_a_gpu_in_a_bundle_can_be_used() -> None:
    story = Story(CPU=2, GPU=1)
    story.workers(2)
    group(story, [{"GPU": 0.5}])
    story.demand(1, of=spec(Strategy("placement_group", placement_group=b"pg"), GPU=0.5))
    assert [grant.gpu_ids for grant in story.grants] == [[0]]


def test_a_long_wait_is_explained_once_in_a_while() -> None:
    story = Story(CPU=1)
    story.workers(1)
    story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(CPU=1), units(CPU=1), "A"))
    story.demand(1)
    (request,) = story.scheduler.queue.of_asker(DRIVER)
    assert story.scheduler.explain_stall(request, 0.5) == ""
    text = story.scheduler.explain_stall(request, 2)
    assert text.startswith("task f0 waits for {CPU: 1}, available are {CPU: 0}: actors and placement groups hold")
    assert story.scheduler.explain_stall(request, 3) == ""
    assert story.scheduler.explain_stall(request, 60) != ""


def test_queueing_behind_tasks_is_nothing_to_explain() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(CPU=1), units(CPU=1), "A"))
    story.demand(3)
    (request,) = story.scheduler.queue.of_asker(DRIVER)
    assert story.scheduler.explain_stall(request, 60) == ""


@pytest.mark.parametrize(("bundle", "amount"), [(5, 1.0), (0, 2.0), (-1, 2.0)])
def test_what_no_bundle_can_hold_is_refused(bundle: int, amount: float) -> None:
    story = Story(CPU=2)
    group(story, [{"CPU": 1}])
    out = story.demand(1, of=spec(Strategy("placement_group", placement_group=b"pg", bundle=bundle), CPU=amount))
    assert [i.kind for i in out if isinstance(i, ev.Refused)] == ["unschedulable"]


def test_a_group_goes_with_its_creator_unless_detached() -> None:
    story = Story(CPU=2)
    group(story, [{"CPU": 1}])
    story.tell(ev.GroupCreated(b"kept", "", "PACK", [Bundle(units(CPU=1))], DRIVER, detached=True))
    story.tell(ev.ProcessGone(DRIVER))
    assert list(story.scheduler.groups.groups) == [b"kept"]


def test_a_group_waits_for_leases_and_asks_for_them() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(10)
    (ask,) = group(story, [{"CPU": 1}, {"CPU": 1}])
    assert sorted(ask.leases) == [grant.lease_id for grant in story.grants]
    story.give_back(story.grants[0])
    assert kinds(story.give_back(story.grants[1])) == [ev.GroupChanged]


def test_the_end_of_a_job_ends_its_idle_workers() -> None:
    story = Story(CPU=2)
    story.workers(2)
    story.demand(1)
    out = story.tell(ev.JobEnded(JOB))
    assert kinds(out) == [ev.KillWorker]
    assert kinds(story.tell(ev.ProcessGone(DRIVER))) == [ev.KillWorker]


@pytest.mark.parametrize("resources", [(("CPU", -1),), (("nothing", -1),), (("CPU", 1), ("CPU", 1))])
def test_amounts_that_make_no_sense_are_refused(resources: tuple[tuple[str, int], ...]) -> None:
    """They come from nobody but a broken or hostile process; the daemon must not die of them."""
    story = Story(CPU=2)
    story.workers(2)
    (refused,) = story.demand(1, of=LeaseSpec(resources))
    assert (refused.kind, "makes no sense" in refused.reason) == ("unschedulable", True)
    (refused,) = story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, LeaseSpec(resources), (), "A"))
    assert refused.kind == "unschedulable"
    (refused,) = story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(), resources, "A"))
    assert refused.kind == "unschedulable"
    assert "negative" in story.scheduler.groups.problem(b"pg", "", "PACK", [Bundle(resources)])
    assert story.available() == 2


def test_an_actor_that_would_hold_more_than_it_was_placed_for_is_refused() -> None:
    story = Story(CPU=2)
    story.workers(2)
    for held in ({"CPU": 2}, {"GPU": 1}):
        (refused,) = story.tell(ev.ActorWaits(b"actor", DRIVER, JOB, spec(), units(**held), "A"))
        assert "makes no sense" in refused.reason
