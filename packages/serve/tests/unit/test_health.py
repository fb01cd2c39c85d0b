"""Sick replicas, refused options and sizes: what the machine of a deployment does about them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serve.config import DeploymentConfig
from serve.specs import DeploymentID, DeploymentSpec, ReplicaState
from serve.state.deployment import (
    UNHEALTHY_AFTER,
    Action,
    Deployment,
    DeploymentStatus,
    Reconfigure,
    Start,
    Stop,
)

ID = DeploymentID("d")


def spec(version: str = "v1", **options: object) -> DeploymentSpec:
    return DeploymentSpec(ID, version, b"", DeploymentConfig.of("test", options).model_dump(mode="json"))


def running(count: int, **options: object) -> Deployment:
    numbers = itertools.count(1)
    deployment = Deployment(ID, lambda: f"r{next(numbers)}")
    deployment.aim(spec(**options), count)
    for replica_id in starts(deployment.plan(0.0)):
        deployment.started(replica_id)
    return deployment


def starts(actions: list[Action]) -> list[str]:
    return [action.replica_id for action in actions if isinstance(action, Start)]


def fail(deployment: Deployment, replica_id: str, *, responds: bool = True) -> None:
    for _ in range(UNHEALTHY_AFTER):
        deployment.checked(replica_id, 0.0, "not today", responds=responds)


def test_the_only_replica_serves_on_until_another_is_there() -> None:
    deployment = running(1)
    fail(deployment, "r1")
    assert deployment.plan(0.0) == [Start("r2", spec())]
    assert [replica.replica_id for replica in deployment.running] == ["r1"]
    assert deployment.status is DeploymentStatus.UNHEALTHY
    assert deployment.message == "not today"
    deployment.started("r2")
    assert deployment.plan(0.0) == [Stop("r1", graceful=True)]
    deployment.stopped("r1")
    assert deployment.status is DeploymentStatus.HEALTHY
    assert not deployment.message


def test_a_sick_replica_among_others_finishes_what_it_has_and_goes() -> None:
    deployment = running(2)
    fail(deployment, "r1")
    actions = deployment.plan(0.0)
    assert Stop("r1", graceful=True) in actions
    assert starts(actions) == ["r3"]


def test_a_replica_that_does_not_answer_its_checks_is_killed() -> None:
    deployment = running(1)
    fail(deployment, "r1", responds=False)
    actions = deployment.plan(0.0)
    assert Stop("r1", graceful=False) in actions
    assert starts(actions) == ["r2"]


def test_a_check_that_fails_everywhere_takes_nothing_away() -> None:
    deployment = running(4)
    for replica_id in ("r1", "r2", "r3", "r4"):
        fail(deployment, replica_id)
    assert not any(isinstance(action, Stop) for action in deployment.plan(100.0))
    assert len(deployment.running) == 4


def test_one_failed_check_is_forgiven() -> None:
    deployment = running(1)
    for _ in range(10):
        deployment.checked("r1", 0.0, "a hiccup")
        deployment.checked("r1", 0.0, "another")
        deployment.checked("r1", 0.0)
        assert deployment.plan(0.0) == []
        assert deployment.status is DeploymentStatus.HEALTHY
        assert not deployment.message


def test_a_replica_that_recovers_stays_and_its_replacement_goes() -> None:
    deployment = running(1)
    fail(deployment, "r1")
    deployment.plan(0.0)
    deployment.checked("r1", 0.0)
    assert deployment.plan(0.0) == [Stop("r2", graceful=True)]


def test_replicas_whose_checks_fail_again_and_again_are_replaced_more_and_more_slowly() -> None:
    deployment = running(1)
    now, replica_id, waits = 0.0, "r1", []
    for _ in range(5):
        for _ in range(UNHEALTHY_AFTER):
            deployment.checked(replica_id, now, "never well")
        deployment.plan(now)
        waits.append(max(0.0, deployment.backoff.until - now))
        now += waits[-1]
        (new,) = starts(deployment.plan(now)) or [each for each in deployment.replicas if each != replica_id]
        deployment.started(new)
        deployment.plan(now)
        deployment.stopped(replica_id)
        replica_id = new
    assert waits == sorted(waits)
    assert waits[-1] > 0.5


def test_options_are_in_force_only_when_all_replicas_have_taken_them() -> None:
    deployment = running(2)
    changed = spec(user_config={"a": 1})
    deployment.aim(changed, 2)
    assert deployment.plan(0.0) == [Reconfigure(name, changed.config) for name in ("r1", "r2")]
    assert deployment.plan(0.0) == []
    assert deployment.status is DeploymentStatus.UPDATING
    deployment.reconfigured("r1")
    assert deployment.status is DeploymentStatus.UPDATING
    deployment.reconfigured("r2")
    assert deployment.status is DeploymentStatus.HEALTHY


def test_options_that_change_while_others_are_applied_come_next() -> None:
    deployment = running(1)
    deployment.aim(spec(user_config=1), 1)
    deployment.plan(0.0)
    newest = spec(user_config=2)
    deployment.aim(newest, 1)
    assert deployment.plan(0.0) == []
    deployment.reconfigured("r1", "the one before was refused")
    assert not deployment.failed
    assert deployment.plan(0.0) == [Reconfigure("r1", newest.config)]


def test_options_that_reconfigure_refuses_are_a_failed_deploy_until_others_come() -> None:
    deployment = running(1)
    deployment.aim(spec(user_config="bad"), 1)
    deployment.plan(0.0)
    deployment.reconfigured("r1", "ValueError: bad")
    assert deployment.status is DeploymentStatus.DEPLOY_FAILED
    assert deployment.message == "ValueError: bad"
    deployment.aim(spec(), 1)
    assert deployment.plan(0.0) == [Reconfigure("r1", spec().config)]
    deployment.reconfigured("r1")
    assert deployment.status is DeploymentStatus.HEALTHY


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 0), (0, 2)])
def test_a_change_of_size_starts_or_stops_the_difference(before: int, after: int) -> None:
    deployment = running(before)
    deployment.resize(after)
    actions = deployment.plan(0.0)
    assert len(starts(actions)) == max(0, after - before)
    assert sum(isinstance(action, Stop) for action in actions) == max(0, before - after)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, and in whatever order: somebody serves, there are never too many, and it ends as wanted."""

    def __init__(self) -> None:
        super().__init__()
        numbers = itertools.count(1)
        self.deployment = Deployment(ID, lambda: f"r{next(numbers)}")
        self.deployment.aim(spec(), 2)
        self.now = 0.0
        self.highest = 2
        self.settle()

    def act(self) -> None:
        before = len(self.deployment.running)
        hanging = sum(not replica.responds and replica.sick for replica in self.deployment.running)
        for action in self.deployment.plan(self.now):
            if isinstance(action, Reconfigure):
                self.deployment.reconfigured(action.replica_id)
        wanted = self.deployment.wanted
        # what answers is taken away only as far as the wanted number, and never altogether
        assert len(self.deployment.running) >= min(before - hanging, 1 if wanted else 0)

    @rule()
    def settle(self) -> None:
        """All that was ordered is done, and all are well."""
        for _ in range(60):
            self.now += 20.0
            for replica in list(self.deployment.replicas.values()):
                if replica.state is ReplicaState.STOPPING:
                    self.deployment.stopped(replica.replica_id)
                elif replica.state is ReplicaState.STARTING:
                    self.deployment.started(replica.replica_id)
                else:
                    self.deployment.checked(replica.replica_id, self.now)
            self.act()
            if self.deployment.status is DeploymentStatus.HEALTHY:
                break
        assert self.deployment.status is DeploymentStatus.HEALTHY
        assert len(self.deployment.running) == self.deployment.wanted
        assert {replica.version for replica in self.deployment.running} <= {self.deployment.spec.version}  # type: ignore[union-attr]
        self.highest = self.deployment.wanted

    @rule(version=st.sampled_from(["v1", "v2", "v3"]), count=st.integers(0, 5), config=st.integers(0, 2))
    def deploy(self, version: str, count: int, config: int) -> None:
        self.deployment.aim(spec(version, user_config=config), count)
        self.highest = max(self.highest, count)
        self.act()

    @rule(count=st.integers(0, 5))
    def resize(self, count: int) -> None:
        self.deployment.resize(count)
        self.highest = max(self.highest, count)
        self.act()

    @precondition(lambda self: self.deployment.replicas)
    @rule(data=st.data(), what=st.sampled_from(["started", "start_failed", "died", "stopped", "sick", "hangs", "well"]))
    def happen(self, data: st.DataObject, what: str) -> None:
        replica_id = data.draw(st.sampled_from(sorted(self.deployment.replicas)))
        state = self.deployment.replicas[replica_id].state
        if what == "started":
            self.deployment.started(replica_id)
        elif what == "start_failed" and state is ReplicaState.STARTING and self.deployment.proven:
            self.deployment.start_failed(replica_id, self.now, "no")
        elif what == "died":
            self.deployment.died(replica_id, self.now, "killed")
        elif what == "stopped" and state is ReplicaState.STOPPING:
            self.deployment.stopped(replica_id)
        elif what in {"sick", "hangs", "well"} and state is ReplicaState.RUNNING:
            for _ in range(3):
                reason = "" if what == "well" else what
                self.deployment.checked(replica_id, self.now, reason, responds=what == "sick")
        self.act()

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.act()

    @invariant()
    def never_too_many(self) -> None:
        living = [each for each in self.deployment.replicas.values() if each.state is not ReplicaState.STOPPING]
        assert len(living) <= 2 * self.highest + 2


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
