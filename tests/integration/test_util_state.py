"""What ``core.util.state`` tells of a running session."""

from __future__ import annotations

import os

import pytest

import core
from core.util import placement_group
from core.util.metrics import Counter, expose
from core.util.state import (
    RayStateApiException,
    get_actor,
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
from tests.conformance.rendezvous import wait_until


@core.remote
class Greeter:
    def greet(self) -> int:
        return os.getpid()


@core.remote
class Other:
    def greet(self) -> int:
        return os.getpid()


@core.remote
def length(value: bytes) -> int:
    return len(value)


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
    assert summarize_actors()["summary"]["Other"]["state_counts"] == {"ALIVE": 2}
    assert summarize_actors()["total_actors"] == 3
    core.kill(named)
    wait_until(lambda: list_actors(filters=[("name", "=", "known"), ("state", "=", "alive")]) == [])


@pytest.mark.usefixtures("session")
def test_nodes_workers_objects_and_groups() -> None:
    actor = Greeter.remote()
    pid = core.get(actor.greet.remote())
    assert pid in {worker.pid for worker in list_workers()}
    assert len(list_nodes()) == 1
    large = core.put(bytes(1_000_000))
    # An object that no other process has read may not have been announced yet.
    assert core.get(length.remote(large)) == 1_000_000
    wait_until(lambda: large.hex() in {row.object_id for row in list_objects()})
    assert summarize_objects()["total_size_bytes"] >= 1_000_000
    group = placement_group([{"CPU": 1}], name="listed")
    assert group.wait()
    (row,) = list_placement_groups(filters=[("name", "=", "listed")])
    assert (row.placement_group_id, row.state) == (group.id.hex(), "CREATED")
    assert list_tasks() == []
    assert summarize_tasks()["total_tasks"] == 0


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
