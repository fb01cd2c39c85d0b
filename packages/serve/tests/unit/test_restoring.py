"""What a controller writes down, and what its successor makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import msgspec
import pytest

import core
from core.util import kv
from serve.config import DeploymentConfig
from serve.controller import chunks
from serve.controller.desired import Desired, ReplicaRecord
from serve.controller.restoring import Living, restore
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec, ReplicaInfo, Targets, Traffic
from serve.state.application import Application, ApplicationStatus
from serve.state.deployment import Start, Stop

ID = DeploymentID("d", "app")
NOTHING = Targets(0, (), {}, {})


@pytest.fixture(autouse=True)
def _session() -> Iterator[None]:
    core.init(engine="inline")
    yield
    core.shutdown()


@pytest.fixture
def new_id() -> Callable[[DeploymentID], str]:
    numbers = itertools.count(1)
    return lambda deployment: f"{deployment}#{next(numbers)}"


def spec(version: str, revision: int = 1, **options: object) -> ApplicationSpec:
    config = DeploymentConfig.of("test", {"num_replicas": 2, **options}).model_dump(mode="json")
    deployment = DeploymentSpec(ID, version, f"code of {version}".encode(), config)
    return ApplicationSpec("app", "d", (deployment,), revision=revision)


def run(app: Application) -> list[str]:
    """Let an application have what it wants; return the replicas that were started."""
    started: list[str] = []
    for _ in range(10):
        actions = app.plan(0.0)
        for action in actions:
            machine = app.machine_of(action.replica_id)
            assert machine is not None
            if isinstance(action, Start):
                started.append(action.replica_id)
                machine.started(action.replica_id)
            elif isinstance(action, Stop):
                machine.stopped(action.replica_id)
    return started


def living(app: Application) -> dict[str, Living]:
    return {
        key: Living(ReplicaRecord(msgspec.structs.replace(each, blob=b""), True, False), None)
        for machine in app.machines()
        for key, replica in machine.replicas.items()
        for each in [machine.spec]
        if each is not None and each.version == replica.version
    }


def published(*replica_ids: str) -> Targets:
    infos = tuple(ReplicaInfo(each, ID, "v1", each, "", 1, "", 1) for each in replica_ids)
    return Targets(1, (), {str(ID): infos}, {})


def reload(app: Application, revisions: list[ApplicationSpec], new_id: Callable[[DeploymentID], str]) -> Application:
    """Write an application down, and read it as the next controller does; its replicas live and are published."""
    Desired().save(app, revisions)
    ((record, read),) = Desired().load()
    assert read == revisions
    found = living(app)
    return restore(record, found, published(*found), new_id)


def test_what_runs_is_taken_over_and_nothing_is_started(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1"), new_id)
    started = run(app)
    again = reload(app, [app.spec], new_id)
    assert again.plan(0.0) == []
    assert again.status is ApplicationStatus.RUNNING
    assert set(again.deployments["d"].replicas) == set(started)
    assert again.good is again.spec
    assert again.spec == app.spec  # its code included


def test_who_has_died_meanwhile_is_replaced(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1"), new_id)
    first, second = run(app)
    Desired().save(app, [app.spec])
    ((record, _),) = Desired().load()
    found = living(app)
    del found[first]
    again = restore(record, found, published(first, second), new_id)
    (action,) = again.plan(0.0)
    assert isinstance(action, Start)


def test_what_has_run_is_tried_again_and_again_after_a_death_of_the_controller_too(
    new_id: Callable[[DeploymentID], str],
) -> None:
    app = Application(spec("v1", max_constructor_retry_count=2), new_id)
    run(app)
    Desired().save(app, [app.spec])
    ((record, _),) = Desired().load()
    machine = restore(record, {}, NOTHING, new_id).deployments["d"]
    now = 0.0
    for _ in range(10):
        starts = [action for action in machine.plan(now) if isinstance(action, Start)]
        assert starts
        for action in starts:
            machine.start_failed(action.replica_id, now, "the database is away")
        now = machine.backoff.until
    assert not machine.failed


def test_a_rollout_goes_on(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1"), new_id)
    old = run(app)
    app.deploy(spec("v2", 2))
    assert len(app.plan(0.0)) == 1  # one beyond the wanted two
    again = reload(app, [app.spec], new_id)
    machine = again.deployments["d"]
    assert again.good is not None
    assert again.good.revision == 1
    run(again)
    assert {replica.version for replica in machine.running} == {"v2"}
    assert not set(old) & set(machine.replicas)


def test_what_was_given_up_stays_given_up(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1", max_constructor_retry_count=1), new_id)
    for action in app.plan(0.0):
        app.deployments["d"].start_failed(action.replica_id, 0.0, "disk on fire")
    app.plan(0.0)
    assert app.rejected is not None
    again = reload(app, [app.spec], new_id)
    assert again.plan(1e9) == []
    assert again.status is ApplicationStatus.DEPLOY_FAILED
    assert "disk on fire" in again.message


def test_a_second_revision_is_taken_over(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1"), new_id)
    run(app)
    second = spec("v2", 2)
    app.stage(second, Traffic(0.5))
    run(app)
    again = reload(app, [second, app.spec], new_id)
    assert again.plan(0.0) == []
    assert again.splits == app.splits
    assert len(again.splits) == 2


def test_the_number_of_replicas_stays(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1"), new_id)
    app.deployments["d"].resize(5)
    run(app)
    again = reload(app, [app.spec], new_id)
    assert again.deployments["d"].wanted == 5
    assert again.plan(0.0) == []


def test_a_deletion_is_finished(new_id: Callable[[DeploymentID], str]) -> None:
    app = Application(spec("v1"), new_id)
    run(app)
    found = living(app)
    app.delete()
    Desired().save(app, [app.spec])
    ((record, _),) = Desired().load()
    again = restore(record, found, published(*found), new_id)
    stops = [action.replica_id for action in again.plan(0.0)]
    assert sorted(stops) == sorted(found)
    for replica_id in stops:
        again.deployments["d"].stopped(replica_id)
    again.plan(0.0)
    assert again.gone


def test_code_is_kept_once_and_as_long_as_a_revision_needs_it(new_id: Callable[[DeploymentID], str]) -> None:
    desired = Desired()
    app = Application(spec("v1"), new_id)
    desired.save(app, [spec("v1")])
    assert len(kv.keys("serve/blob/")) == 1
    app.deploy(spec("v2", 2))
    desired.save(app, [spec("v2", 2), spec("v1")])
    app.deploy(spec("v1", 3))
    desired.save(app, [spec("v1", 3), spec("v2", 2), spec("v1")])
    assert len(kv.keys("serve/blob/")) == 2
    desired.save(app, [spec("v1", 3)])
    assert len(kv.keys("serve/blob/")) == 1
    desired.forget("app")
    assert kv.keys() == []


def test_nothing_is_written_while_nothing_changes(new_id: Callable[[DeploymentID], str]) -> None:
    desired = Desired()
    app = Application(spec("v1"), new_id)
    run(app)
    desired.save(app, [app.spec])
    with kv.watch("", after_version=None) as changes:
        desired.save(app, [app.spec])
        assert changes.poll(0) is None


@pytest.mark.parametrize("size", [0, 1, chunks.PART, chunks.PART + 1, 3 * chunks.PART])
def test_bytes_of_any_length(size: int) -> None:
    chunks.put("here", bytes(size))
    assert len(chunks.get("here")) == size
    assert len(kv.keys("here/")) == max(1, -(-size // chunks.PART))
    chunks.delete("here")
    assert kv.keys() == []
