"""Two revisions of one application: sharing, promotion, giving up. And who gets which request."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serve.config import DeploymentConfig
from serve.controller.traffic import Revisions, set_traffic, stage, way_back
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec, ReplicaState, Route, Split, Traffic
from serve.state.application import Application, ApplicationStatus
from serve.state.candidate import share
from serve.state.deployment import Action, Reconfigure, Start, Stop
from serve.state.routing import choose_split, shadows


def deployment(name: str, version: str, **options: object) -> DeploymentSpec:
    config = DeploymentConfig.of("test", options).model_dump(mode="json")
    return DeploymentSpec(DeploymentID(name), version, b"", config)


def revision(number: int, *deployments: DeploymentSpec) -> ApplicationSpec:
    return ApplicationSpec("default", deployments[0].id.name, deployments, revision=number)


def new_id() -> Callable[[DeploymentID], str]:
    numbers = itertools.count(1)
    return lambda each: f"{each.name}{next(numbers)}"


def perform(app: Application, actions: list[Action]) -> None:
    """Do what was planned, at once and successfully."""
    for action in actions:
        machine = app.machine_of(action.replica_id)
        assert machine is not None
        match action:
            case Start():
                machine.started(action.replica_id)
            case Stop():
                machine.stopped(action.replica_id)
            case Reconfigure():
                machine.reconfigured(action.replica_id)


def settle(app: Application, now: float = 0.0) -> None:
    for _ in range(50):
        actions = app.plan(now)
        if not actions:
            return
        perform(app, actions)
    raise AssertionError("it never settles")


def running(*deployments: DeploymentSpec) -> Application:
    app = Application(revision(1, *deployments), new_id())
    settle(app)
    assert app.status is ApplicationStatus.RUNNING
    return app


def versions(app: Application) -> list[str]:
    return sorted(replica.version for machine in app.machines() for replica in machine.running)


def test_a_candidate_gets_requests_only_when_all_of_it_runs() -> None:
    app = running(deployment("a", "v1"), deployment("b", "v1"))
    app.stage(revision(2, deployment("a", "v2"), deployment("b", "v2")), Traffic(0.25))
    starts = app.plan(0.0)
    assert len(starts) == 2
    assert not app.splits
    perform(app, starts[:1])
    assert not app.splits
    assert {replica.version for machine in app.serving() for replica in machine.running} == {"v1"}
    perform(app, starts[1:])
    first, second = app.splits
    assert (first.revision, first.version, first.weight) == (1, "v1", 0.75)
    assert (second.revision, second.version, second.weight) == (2, "v2", 0.25)
    assert second.versions == {"a": "v2", "b": "v2"}
    assert app.status is ApplicationStatus.RUNNING


def test_what_both_revisions_have_in_common_runs_once() -> None:
    app = running(deployment("a", "v1"), deployment("model", "big"))
    app.stage(revision(2, deployment("a", "v2"), deployment("model", "big", num_replicas=3)), Traffic(0.5))
    settle(app)
    assert versions(app) == ["big", "v1", "v2"]
    assert app.splits[1].versions == {"a": "v2"}
    app.promote()
    settle(app)
    assert versions(app) == ["big", "big", "big", "v2"]


def test_other_options_alone_make_replicas_of_their_own() -> None:
    app = running(deployment("a", "v1", user_config={"threshold": 1}))
    app.stage(revision(2, deployment("a", "v1", user_config={"threshold": 2})), Traffic(0.5))
    settle(app)
    assert versions(app) == ["v1", "v1-r2"]
    app.promote()
    settle(app)
    assert versions(app) == ["v1-r2"]
    assert app.good is app.spec


def test_a_share_of_the_requests_needs_a_share_of_the_replicas() -> None:
    app = running(deployment("a", "v1", num_replicas=8))
    app.stage(revision(2, deployment("a", "v2", num_replicas=8)), Traffic(0.1))
    settle(app)
    assert versions(app).count("v2") == 1
    assert app.candidate is not None
    app.candidate.traffic = Traffic(0.5)
    settle(app)
    assert versions(app).count("v2") == 4
    app.candidate.traffic = Traffic(shadow=True)
    settle(app)
    assert versions(app).count("v2") == 8
    assert versions(app).count("v1") == 8


def test_promotion_keeps_what_runs_and_never_has_fewer() -> None:
    app = running(deployment("a", "v1", num_replicas=4))
    app.stage(revision(2, deployment("a", "v2", num_replicas=4)), Traffic(0.1))
    settle(app)
    assert app.promote().revision == 2
    assert not app.splits
    for _ in range(30):
        actions = app.plan(0.0)
        assert len(app.deployments["a"].running) >= 4
        perform(app, actions)
    assert versions(app) == ["v2"] * 4
    assert app.served == [1, 2]


def test_a_candidate_that_cannot_start_is_given_up_with_its_reason() -> None:
    app = running(deployment("a", "v1"))
    app.stage(revision(2, deployment("a", "v2", max_constructor_retry_count=1)), Traffic(0.5))
    (start,) = app.plan(0.0)
    machine = app.machine_of(start.replica_id)
    assert machine is not None
    machine.start_failed(start.replica_id, 0.0, "Traceback: no weights")
    settle(app)
    assert app.candidate is None
    assert app.rejected == (2, "deployment a: Traceback: no weights")
    assert app.message == "revision 2 was rolled back to 1: deployment a: Traceback: no weights"
    assert app.status is ApplicationStatus.RUNNING
    assert versions(app) == ["v1"]


def test_a_candidate_that_keeps_dying_is_given_up() -> None:
    app = running(deployment("a", "v1"))
    app.stage(revision(2, deployment("a", "v2")), Traffic(0.5))
    now = 0.0
    settle(app)
    for _ in range(3):
        assert app.candidate is not None
        machine = app.candidate.deployments["a"]
        (replica,) = machine.running
        machine.died(replica.replica_id, now, "killed by SIGSEGV")
        assert not app.splits, "nobody is sent to what is not there"
        now = max(now, machine.backoff.until)
        settle(app, now)
    assert app.candidate is None
    assert "killed by SIGSEGV" in app.message
    assert versions(app) == ["v1"]


def test_a_deploy_and_a_deletion_take_the_candidate_out() -> None:
    app = running(deployment("a", "v1"))
    app.stage(revision(2, deployment("a", "v2")), Traffic(0.5))
    settle(app)
    app.deploy(revision(3, deployment("a", "v3")))
    settle(app)
    assert versions(app) == ["v3"]
    app.stage(revision(4, deployment("a", "v4")), Traffic(0.5))
    settle(app)
    app.delete()
    settle(app)
    assert app.gone


def test_nothing_is_staged_beside_what_does_not_run_yet() -> None:
    app = Application(revision(1, deployment("a", "v1")), new_id())
    with pytest.raises(ValueError, match="no revision that runs"):
        app.stage(revision(2, deployment("a", "v2")), Traffic(0.5))
    with pytest.raises(ValueError, match="no second revision"):
        app.promote()


# -- orders -----------------------------------------------------------------------------------------------------------


def test_a_rollback_goes_to_what_ran_before_and_skips_what_never_did() -> None:
    revisions = Revisions()
    app = Application(revisions.add(revision(0, deployment("a", "v1"))), new_id())
    settle(app)
    app.deploy(revisions.add(revision(0, deployment("a", "bad", max_constructor_retry_count=1))))
    (start,) = app.plan(0.0)
    app.deployments["a"].start_failed(start.replica_id, 0.0, "no")
    settle(app)
    with pytest.raises(ValueError, match="no earlier revision"):
        way_back(app, revisions, None)
    app.deploy(revisions.add(revision(0, deployment("a", "v3"))))
    settle(app)
    back = way_back(app, revisions, None)
    assert back is not None
    assert back.revision == 1
    assert way_back(app, revisions, 2) is revisions.get("default", 2)
    with pytest.raises(ValueError, match=r"no revision 9 \(any more\); there are: 3, 2, 1"):
        way_back(app, revisions, 9)
    app.stage(revisions.add(revision(0, deployment("a", "v4"))), Traffic(0.5))
    assert way_back(app, revisions, None) is None


def test_traffic_goes_to_any_revision_that_is_remembered() -> None:
    revisions = Revisions()
    app = Application(revisions.add(revision(0, deployment("a", "v1"))), new_id())
    settle(app)
    app.deploy(revisions.add(revision(0, deployment("a", "v2"))))
    settle(app)
    set_traffic(app, revisions, {2: 9, 1: 1})
    settle(app)
    assert versions(app) == ["v1", "v2"]
    assert [(split.revision, split.weight) for split in app.splits] == [(2, 0.9), (1, 0.1)]
    set_traffic(app, revisions, {2: 1, 1: 1}, header=("X-Beta", "1"))
    assert app.splits[1].header == ("x-beta", "1")
    assert app.splits[1].weight == 0.5
    set_traffic(app, revisions, {2: 1})
    settle(app)
    assert versions(app) == ["v2"]


def test_a_rollback_after_an_old_revision_was_promoted_goes_to_what_it_replaced() -> None:
    revisions = Revisions()
    app = Application(revisions.add(revision(0, deployment("a", "v1"))), new_id())
    settle(app)
    app.deploy(revisions.add(revision(0, deployment("a", "v2"))))
    settle(app)
    set_traffic(app, revisions, {1: 1, 2: 1})
    settle(app)
    app.promote()
    settle(app)
    assert versions(app) == ["v1"]
    back = way_back(app, revisions, None)
    assert back is not None
    assert back.revision == 2


def test_a_second_revision_is_served_where_the_first_is() -> None:
    revisions = Revisions()
    app = Application(revisions.add(revision(0, deployment("a", "v1"))), new_id())
    settle(app)
    elsewhere = ApplicationSpec("default", "a", (deployment("a", "v2"),), route_prefix="/other")
    with pytest.raises(ValueError, match="is served where the first one is"):
        stage({"default": app}, revisions, elsewhere, Traffic(0.5))
    with pytest.raises(ValueError, match="there is no application 'default'"):
        stage({}, revisions, elsewhere, Traffic(0.5))
    assert len(revisions.of("default")) == 1


@pytest.mark.parametrize(
    ("weights", "header", "shadow", "expected"),
    [
        ({2: 0.1}, None, None, (2, Traffic(0.1))),
        ({1: 3, 2: 1}, None, None, (2, Traffic(0.25))),
        ({1: 1.0}, None, None, (None, Traffic())),
        ({}, None, 2, (2, Traffic(0.0, None, shadow=True))),
        ({2: 0}, ("X-Canary", "yes"), None, (2, Traffic(0.0, ("x-canary", "yes")))),
    ],
)
def test_shares(
    weights: dict[int, float],
    header: tuple[str, str] | None,
    shadow: int | None,
    expected: tuple[int | None, Traffic],
) -> None:
    assert share(weights, 1, header=header, shadow=shadow) == expected


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({1: 0.5, 2: 0.25, 3: 0.25}, {}, "not 2 and 3"),
        ({2: -1}, {}, "must be 0 or more"),
        ({2: float("nan")}, {}, "must be 0 or more"),
        ({1: 0, 2: 0}, {}, "add up to nothing"),
        ({2: 0.5}, {"shadow": 2}, "give it no weight"),
        ({1: 1}, {"header": ("a", "b")}, "name the revision"),
        ({}, {"shadow": 1}, "name the revision"),
    ],
)
def test_shares_that_make_no_sense(weights: dict[int, float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share(weights, 1, **options)  # type: ignore[arg-type]


# -- which request goes where -----------------------------------------------------------------------------------------

ID = DeploymentID("a")


@settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0, 1), st.integers(0, 999))
def test_weights_are_kept_over_evenly_spread_draws(weight: float, offset: int) -> None:
    route = Route("/", "default", (Split(1, ID, "v1", 1 - weight), Split(2, ID, "v2", weight)))
    count = sum(choose_split(route, {}, (number + offset / 1000) / 1000).revision == 2 for number in range(1000))
    assert abs(count - 1000 * weight) <= 1


def test_a_header_leads_to_its_revision_and_a_shadow_answers_nobody() -> None:
    canary = Route("/", "default", (Split(1, ID, "v1", 1.0), Split(2, ID, "v2", 0.0, ("x-beta", "1"))))
    assert choose_split(canary, {"x-beta": "1"}, 0.0).revision == 2
    assert choose_split(canary, {"x-beta": "2"}, 0.999).revision == 1
    shadowed = Route("/", "default", (Split(1, ID, "v1", 1.0), Split(2, ID, "v2", 0.0, shadow=True)))
    assert choose_split(shadowed, {}, 0.999999).revision == 1
    assert [split.revision for split in shadows(shadowed)] == [2]


# -- in any order -----------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Deploys, canaries, promotions, deaths: whatever comes, requests have somewhere to go, and it ends as wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.app = running(deployment("a", "v1"), deployment("b", "v1"))
        self.number = 1
        self.now = 0.0

    def next(self, a: str, b: str) -> ApplicationSpec:
        self.number += 1
        return revision(self.number, deployment("a", a), deployment("b", b))

    def act(self) -> None:
        served = bool(self.app.deployments["a"].running)
        actions = self.app.plan(self.now)
        assert bool(self.app.deployments["a"].running) >= served
        for action in actions:
            if isinstance(action, Reconfigure):
                perform(self.app, [action])

    @rule(a=st.sampled_from("xyz"), b=st.sampled_from("xyz"), weight=st.sampled_from([0.0, 0.1, 1.0]))
    def stage(self, a: str, b: str, weight: float) -> None:
        if self.app.good is self.app.spec:
            self.app.stage(self.next(a, b), Traffic(weight))
            self.act()

    @rule(a=st.sampled_from("xyz"), b=st.sampled_from("xyz"))
    def deploy(self, a: str, b: str) -> None:
        self.app.deploy(self.next(a, b))
        self.act()

    @precondition(lambda self: self.app.candidate is not None)
    @rule()
    def promote(self) -> None:
        self.app.promote()
        self.act()

    @rule()
    def drop(self) -> None:
        self.app.drop()
        self.act()

    @rule(data=st.data(), what=st.sampled_from(["start", "stop", "die"]))
    def happen(self, data: st.DataObject, what: str) -> None:
        wanted = {"start": ReplicaState.STARTING, "stop": ReplicaState.STOPPING, "die": ReplicaState.RUNNING}[what]
        machines = list(self.app.machines())
        able = [each for machine in machines for each in machine.replicas.values() if each.state is wanted]
        if not able:
            return
        replica_id = data.draw(st.sampled_from(sorted(replica.replica_id for replica in able)))
        machine = self.app.machine_of(replica_id)
        assert machine is not None
        if what == "start":
            machine.started(replica_id)
        elif what == "stop":
            machine.stopped(replica_id)
        else:
            machine.died(replica_id, self.now, "killed")
        self.act()

    @rule()
    def settle(self) -> None:
        for _ in range(80):
            self.now += 20.0
            for machine in list(self.app.machines()):
                for replica in list(machine.replicas.values()):
                    if replica.state is ReplicaState.STARTING:
                        machine.started(replica.replica_id)
                    elif replica.state is ReplicaState.STOPPING:
                        machine.stopped(replica.replica_id)
            self.act()
        assert self.app.status is ApplicationStatus.RUNNING
        assert self.app.good is self.app.spec
        expected = {(each.id.name, each.version) for each in self.app.spec.deployments}
        if self.app.candidate is not None:
            expected |= {(each.id.name, each.version) for each in self.app.candidate.spec.deployments}
            assert [split.revision for split in self.app.splits] == [
                self.app.spec.revision,
                self.app.candidate.spec.revision,
            ]
        running = [(machine.id.name, each.version) for machine in self.app.machines() for each in machine.running]
        assert sorted(running) == sorted(expected)

    @invariant()
    def requests_have_somewhere_to_go(self) -> None:
        serving = {(machine.id.name, each.version) for machine in self.app.serving() for each in machine.running}
        for split in self.app.splits[1:]:
            for name, version in split.versions.items():
                assert (name, version) in serving

    @invariant()
    def a_replica_has_one_owner(self) -> None:
        names = [replica_id for machine in self.app.machines() for replica_id in machine.replicas]
        assert len(names) == len(set(names))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
