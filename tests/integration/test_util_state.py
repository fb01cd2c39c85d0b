"""What ``core.util.state`` tells of a running session."""

from __future__ import annotations

import importlib
import os
import signal
import time
from pathlib import Path

import cloudpickle
import pytest

import core
from core.runtime.history import REMEMBERED
from core.util import placement_group
from core.util.metrics import Counter, expose
from core.util.state import (
    RayStateApiException,
    get_actor,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    list_actors,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)
from tests.conformance.rendezvous import Gate, Tally, wait_until

cloudpickle.register_pickle_by_value(importlib.import_module("tests.conformance.rendezvous"))


@core.remote
class Greeter:
    def greet(self) -> int:
        return os.getpid()


@core.remote
class Other:
    def greet(self) -> int:
        return os.getpid()


@pytest.mark.usefixtures("session")
def test_actors_can_be_listed_filtered_and_summed_up() -> None:
    named = Greeter.options(name="known").remote()
    others = [Other.remote() for _ in range(2)]
    pid = core.get(named.greet.remote())
    core.get([other.greet.remote() for other in others])
    (row,) = list_actors(filters=[("name", "=", "known")])
    assert row.class_name == row["class_name"] == "Greeter"
    assert (row.state, row.pid) == ("ALIVE", pid)
    assert get_actor(row.actor_id) == row
    assert {other.class_name for other in list_actors(filters=[("class_name", "!=", "Greeter")])} == {"Other"}
    assert len(list_actors(limit=2)) == 2
    summary = summarize_actors()["cluster"]
    assert summary["summary"]["Other"] == {"class_name": "Other", "state_counts": {"ALIVE": 2}}
    assert summary["total_actors"] == 3
    core.kill(named)
    wait_until(lambda: list_actors(filters=[("name", "=", "known"), ("state", "=", "alive")]) == [])


@pytest.mark.usefixtures("session")
def test_nodes_workers_objects_and_groups() -> None:
    actor = Greeter.remote()
    pid = core.get(actor.greet.remote())
    assert pid in {worker.pid for worker in list_workers()}
    assert len(list_nodes()) == 1
    assert get_node(list_nodes()[0].NodeID) is not None
    large = core.put(bytes(1_000_000))
    # Nobody has read it, so the daemon has not heard of it yet.
    (row,) = get_objects(large.hex())
    assert row.object_size >= 1_000_000
    summary = summarize_objects()["cluster"]
    assert summary["total_objects"] == len(list_objects())
    assert summary["total_size_mb"] >= 0.9
    group = placement_group([{"CPU": 1}], name="listed")
    assert group.wait()
    (row,) = list_placement_groups(filters=[("name", "=", "listed")])
    assert (row.placement_group_id, row.state) == (group.id.hex(), "CREATED")
    assert get_placement_group(group.id.hex()) == row


@core.remote(num_cpus=1)
def hold(tally: Tally, gate: Gate) -> str:
    tally.add("holding")
    gate.wait()
    return "held"


@core.remote(num_cpus=0.5)
def parent(tally: Tally, gate: Gate) -> str:
    return core.get(hold.options(name="inner").remote(tally, gate))


@core.remote(max_retries=1, retry_exceptions=True)
def fail() -> None:
    raise ValueError("as planned")


@core.remote
def after(value: str) -> str:
    return value


def states() -> dict[str, str]:
    return {row.name: row.state for row in list_tasks(limit=1000)}


@pytest.mark.usefixtures("session")
def test_tasks_of_every_process_in_every_state(tmp_path: Path) -> None:
    tally, gate = Tally(str(tmp_path / "tally")), Gate(str(tmp_path / "gate"))
    started_ms = time.time() * 1000 - 1
    with pytest.raises(ValueError, match="as planned"):
        core.get(fail.remote())
    actor = Greeter.remote()
    pid = core.get(actor.greet.remote())
    core.kill(actor)
    outer = parent.remote(tally, gate)
    other = hold.remote(tally, gate)
    wait_until(lambda: tally.count() == 2, what="two tasks to hold both CPUs")
    queued = hold.options(name="queued").remote(tally, gate)
    behind = after.remote(queued)
    assert states() == {
        "parent": "RUNNING",
        "inner": "RUNNING",
        "hold": "RUNNING",
        "queued": "PENDING_NODE_ASSIGNMENT",
        "after": "PENDING_ARGS_AVAIL",
        "fail": "FAILED",
        "Greeter.greet": "FINISHED",
    }
    inner = list_tasks(filters=[("name", "=", "inner")])[0]
    assert inner.func_or_class_name == "hold"
    assert inner.parent_task_id == outer.task_id().hex()
    assert inner.worker_pid in {worker.pid for worker in list_workers()}
    assert inner.node_id == list_nodes()[0].NodeID
    assert started_ms <= inner.start_time_ms <= time.time() * 1000 + 1
    assert inner.required_resources == {"CPU": 1.0}
    attempts = list_tasks(filters=[("name", "=", "fail")])
    assert sorted(row.attempt_number for row in attempts) == [0, 1]
    assert {(row.error_type, row.error_message) for row in attempts} == {("ValueError", "ValueError: as planned")}
    (greeting,) = list_tasks(filters=[("type", "=", "ACTOR_TASK")])
    assert (greeting.worker_pid, greeting.actor_id) == (pid, actor._actor_id.hex())
    summary = summarize_tasks()["cluster"]
    assert summary["summary"]["fail"]["state_counts"] == {"FAILED": 2}
    assert (summary["total_tasks"], summary["total_actor_tasks"], summary["total_actor_scheduled"]) == (7, 1, 1)
    gate.open()
    assert core.get([outer, other, behind]) == ["held", "held", "held"]
    wait_until(lambda: states()["after"] == "FINISHED")
    assert get_task(behind).end_time_ms >= get_task(behind).start_time_ms >= inner.start_time_ms


@pytest.mark.usefixtures("session")
def test_a_stopped_worker_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    tally, gate = Tally(str(tmp_path / "tally")), Gate(str(tmp_path / "gate"))
    ref = hold.remote(tally, gate)
    wait_until(tally.count)
    (running,) = list_tasks(filters=[("state", "=", "RUNNING")])
    os.kill(running.worker_pid, signal.SIGSTOP)
    try:
        (row,) = list_tasks(filters=[("name", "=", "hold")])
        assert row.state == "SUBMITTED_TO_WORKER"
    finally:
        os.kill(running.worker_pid, signal.SIGCONT)
    gate.open()
    assert core.get(ref) == "held"


@pytest.mark.usefixtures("session")
def test_what_ended_long_ago_is_forgotten() -> None:
    refs = [after.remote("") for _ in range(REMEMBERED + 100)]
    core.get(refs)
    assert len(list_tasks(limit=10_000)) == 10_000
    assert get_task(refs[0]) is None
    assert get_task(refs[-1]).state == "FINISHED"


@pytest.mark.usefixtures("session")
def test_wrong_questions() -> None:
    Greeter.options(name="one").remote()
    wait_until(list_actors)
    with pytest.raises(ValueError, match="no column"):
        list_actors(filters=[("colour", "=", "red")])
    with pytest.raises(ValueError, match="filter"):
        list_actors(filters=[("name", "<", "a")])
    with pytest.raises(ValueError, match="limit"):
        list_actors(limit=0)
    with pytest.raises(RayStateApiException, match="only the session of this process"):
        list_actors(address="10.0.0.1:6379")
    with pytest.raises(AttributeError, match="colour"):
        _ = list_actors()[0].colour


def test_state_never_starts_a_session() -> None:
    with pytest.raises(RayStateApiException, match="init"):
        list_actors()
    assert not core.is_initialized()


@pytest.mark.usefixtures("session")
def test_a_metric_sent_to_a_worker_counts_there() -> None:
    counter = Counter("sent_to_workers", tag_keys=("where",)).set_default_tags({"where": "here"})
    counter.inc()

    @core.remote
    def count() -> str:
        counter.inc(5)
        return expose()

    assert 'sent_to_workers_total{where="here"} 5.0' in core.get(count.remote())
    assert 'sent_to_workers_total{where="here"} 1.0' in expose()
