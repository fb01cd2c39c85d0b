"""The machine of one deployment, and the application around it: rollouts, failures, rollbacks."""

from __future__ import annotations

import itertools

import pytest

from serve.config import DeploymentConfig
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec
from serve.state.application import Application, ApplicationStatus
from serve.state.backoff import Backoff
from serve.state.deployment import Action, Deployment, DeploymentStatus, Reconfigure, Start, Stop

ID = DeploymentID("d")


def spec(version: str, **options: object) -> DeploymentSpec:
    return DeploymentSpec(ID, version, b"", DeploymentConfig.of("test", options).model_dump(mode="json"))


def machine() -> Deployment:
    numbers = itertools.count(1)
    return Deployment(ID, lambda: f"r{next(numbers)}")


def starts(actions: list[Action]) -> list[str]:
    return [action.replica_id for action in actions if isinstance(action, Start)]


def stops(actions: list[Action]) -> list[str]:
    return [action.replica_id for action in actions if isinstance(action, Stop)]


def running(version: str, count: int) -> Deployment:
    deployment = machine()
    deployment.aim(spec(version), count)
    for replica_id in starts(deployment.plan(0.0)):
        deployment.started(replica_id)
    assert deployment.status is DeploymentStatus.HEALTHY
    return deployment


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_rollout_never_has_fewer_than_wanted(count: int) -> None:
    deployment = running("v1", count)
    deployment.aim(spec("v2"), count)
    for _ in range(50):
        actions = deployment.plan(0.0)
        assert len(deployment.running) >= count
        assert len(deployment.replicas) <= 2 * count + 3
        for replica_id in stops(actions):
            deployment.stopped(replica_id)
        for replica_id in starts(actions):
            deployment.started(replica_id)
        if deployment.status is DeploymentStatus.HEALTHY:
            break
    assert deployment.states() == {"RUNNING": count}
    assert {replica.version for replica in deployment.running} == {"v2"}


def test_a_version_that_cannot_start_is_given_up_and_the_old_one_stays() -> None:
    deployment = running("v1", 1)
    deployment.aim(spec("v2", max_constructor_retry_count=2), 1)
    now = 0.0
    for _ in range(2):
        (replica_id,) = starts(deployment.plan(now))
        deployment.start_failed(replica_id, now, "boom")
        now = deployment.deadline or now
    assert deployment.status is DeploymentStatus.DEPLOY_FAILED
    assert deployment.message == "boom"
    assert deployment.plan(now + 100) == []
    assert [replica.version for replica in deployment.running] == ["v1"]


def test_a_dead_replica_is_replaced_at_once_and_a_crash_loop_slows_down() -> None:
    deployment = running("v1", 1)
    (replica,) = deployment.running
    waits = []
    now = 0.0
    replica_id = replica.replica_id
    for _ in range(5):
        deployment.died(replica_id, now, "killed")
        waits.append((deployment.deadline or now) - now)
        now += waits[-1]
        (replica_id,) = starts(deployment.plan(now))
        deployment.started(replica_id)
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] > 0.5


def test_options_that_need_no_restart_are_applied_to_what_runs() -> None:
    deployment = running("v1", 2)
    changed = spec("v1", user_config={"a": 1})
    deployment.aim(changed, 2)
    assert deployment.plan(0.0) == [Reconfigure(name, changed.config) for name in ("r1", "r2")]
    deployment.aim(changed, 1)
    assert len(stops(deployment.plan(0.0))) == 1


def test_an_application_goes_back_to_its_last_good_revision() -> None:
    numbers = itertools.count(1)

    def new_id(_id: DeploymentID) -> str:
        return f"r{next(numbers)}"

    app = Application(ApplicationSpec("default", "d", (spec("v1"),)), new_id)
    for replica_id in starts(app.plan(0.0)):
        app.deployments["d"].started(replica_id)
    app.plan(0.0)
    assert app.status is ApplicationStatus.RUNNING
    app.deploy(ApplicationSpec("default", "d", (spec("v2", max_constructor_retry_count=1),), revision=2))
    assert app.status is ApplicationStatus.DEPLOYING
    (replica_id,) = starts(app.plan(0.0))
    app.deployments["d"].start_failed(replica_id, 0.0, "no weights")
    assert starts(app.plan(0.0)) == []
    assert app.status is ApplicationStatus.RUNNING
    assert app.spec.revision == 1
    assert app.message == "revision 2 was rolled back to 1: deployment d: no weights"
    app.delete()
    (replica_id,) = stops(app.plan(0.0))
    app.deployments["d"].stopped(replica_id)
    app.plan(0.0)
    assert app.gone


def test_failures_are_forgotten_after_a_while() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.failed(0.0)
    assert backoff.until == pytest.approx(0.4)
    backoff.failed(100.0)
    assert backoff.until == 100.0
