"""The real daemon, its real zygote and forked workers, spoken to over the real socket."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.node.launcher import NodeProcess
from core.protocol import from_node, to_node
from core.protocol.records import Bundle
from core.specs import RuntimeEnv, Strategy
from tests.eventually import eventually
from tests.integration import node_session
from tests.integration.node_session import Driver, spec


@pytest.fixture
def node() -> Iterator[NodeProcess]:
    node = node_session.start()
    yield node
    node.kill()


@pytest.fixture
def driver(node: NodeProcess) -> Iterator[Driver]:
    driver = Driver(node)
    yield driver
    driver.close()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def units(**amounts: float) -> tuple[tuple[str, int], ...]:
    return spec(**amounts).resources


# the session


def test_everything_is_private_and_no_port_is_open(node: NodeProcess, driver: Driver) -> None:
    driver.lease()
    for path in (node.session_dir, node.session_dir.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in node.session_dir.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0 or path.is_symlink(), path
    processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
    assert len(processes) >= 3
    assert not [connection for process in processes for connection in process.net_connections("inet")]


def test_the_welcome_carries_the_arena(driver: Driver) -> None:
    (fd,) = driver.fds
    assert os.fstat(fd).st_size >= driver.welcome.arena_bytes > 0


def test_goodbye_ends_every_process_and_removes_the_directory(node: NodeProcess, driver: Driver) -> None:
    driver.lease()
    family = psutil.Process(node.pid).children(recursive=True)
    driver.send(to_node.Goodbye())
    assert node.wait_gone(node_session.PATIENCE)
    assert not [process for process in family if process.is_running()]
    assert not node.session_dir.exists()


def test_the_end_of_the_drivers_connection_ends_the_session(node: NodeProcess) -> None:
    driver = Driver(node)
    driver.close()
    assert node.wait_gone(node_session.PATIENCE)
    assert not node.session_dir.exists()


def test_what_workers_started_themselves_is_ended_too(node: NodeProcess, driver: Driver) -> None:
    driver.create("LeavesAChild")
    child = int(driver.line("child ").split()[1])
    driver.send(to_node.Goodbye())
    assert node.wait_gone(node_session.PATIENCE)
    assert gone(child)


def test_a_killed_daemon_leaves_nothing(node: NodeProcess, driver: Driver) -> None:
    driver.lease()
    family = psutil.Process(node.pid).children(recursive=True)
    os.kill(node.pid, signal.SIGKILL)
    eventually(lambda: all(gone(process.pid) for process in family))
    eventually(lambda: not node.session_dir.exists())


def test_a_killed_zygote_ends_the_session_with_a_notice(node: NodeProcess, driver: Driver) -> None:
    (session,) = driver.query("session")
    os.kill(session["zygote_pid"], signal.SIGKILL)
    assert "zygote" in driver.expect(from_node.Notice, level="error").text
    assert node.wait_gone(node_session.PATIENCE)


def test_interrupts_are_the_drivers_business(node: NodeProcess, driver: Driver) -> None:
    os.kill(node.pid, signal.SIGINT)
    assert driver.query("session")[0]["node_pid"] == node.pid


def test_a_second_drivers_work_ends_with_it(node: NodeProcess, driver: Driver) -> None:
    pid = os.fork()
    if not pid:
        second = Driver(node)
        second.create("Plain", name="mortal", namespace="n")
        kept = second.create("Plain", name="kept", namespace="n", detached=True)
        second.state(kept, "ALIVE")
        os._exit(0)
    os.waitpid(pid, 0)

    def names() -> list[tuple[str, str]]:
        driver.send(to_node.ListNamedActors(1, "n", False))
        found: list[tuple[str, str]] = driver.expect(from_node.NamesReply).names
        return found

    eventually(lambda: names() == [("n", "kept")])


# leases


def test_leases_are_granted_returned_and_counted(driver: Driver) -> None:
    driver.demand(3)
    grants = [driver.expect(from_node.LeaseGrant) for _ in range(2)]
    assert {psutil.Process(grant.pid).is_running() for grant in grants} == {True}
    assert "CPU" not in driver.query("available_resources")[0]
    driver.send(to_node.ReturnLease(grants[0].lease_id))
    third = driver.expect(from_node.LeaseGrant)
    assert third.address == grants[0].address
    for grant in (grants[1], third):
        driver.send(to_node.ReturnLease(grant.lease_id))
    assert driver.query("available_resources")[0]["CPU"] == 2


def test_a_worker_gets_the_environment_it_was_asked_for(driver: Driver, tmp_path: Path) -> None:
    env = RuntimeEnv((("SKATE_TEST_VARIABLE", "set"),), str(tmp_path), ("/",))
    driver.create("TellsItsEnvironment", placement=spec(env=env))
    told = json.loads(driver.line("{"))
    assert told == {
        "cwd": str(tmp_path),
        "variable": "set",
        "path": "/",
        "threads": os.environ.get("OMP_NUM_THREADS", "1"),
        "descriptors": [0, 1, 2],
        "stdin": "",
        "sigint": True,
        "numpy": False,
    }


def test_a_driver_can_have_modules_preloaded(node: NodeProcess) -> None:
    driver = Driver(node, preload=["no_such_module_at_all", "numpy"])
    # Both workers of the pool may have been forked before; this one is forked after the import.
    driver.create("TellsItsEnvironment", placement=spec(env=RuntimeEnv((("A", "b"),))))
    assert json.loads(driver.line("{"))["numpy"]
    driver.close()


def test_a_missing_working_directory_is_refused(driver: Driver) -> None:
    driver.demand(1, of=spec(env=RuntimeEnv(working_dir="/no/such/place")))
    refused = driver.expect(from_node.LeaseRefused)
    assert refused.kind == "runtime_env"
    assert "/no/such/place" in refused.reason


def test_the_death_of_a_leased_worker_is_told_with_its_cause(driver: Driver) -> None:
    grant = driver.lease()
    os.kill(grant.pid, signal.SIGKILL)
    died = driver.expect(from_node.ProcessDied, address=grant.address)
    assert (died.cause.kind, died.cause.code, died.cause.pid) == ("signal", signal.SIGKILL, grant.pid)
    assert driver.lease().address != grant.address


def test_only_the_holder_of_a_lease_can_force_the_end_of_its_worker(node: NodeProcess, driver: Driver) -> None:
    grant = driver.lease()
    stranger = Driver(node)
    stranger.send(to_node.KillWorker(grant.address, "no business of mine"))
    assert stranger.query("session")
    assert not gone(grant.pid)
    driver.send(to_node.KillWorker(grant.address, "cancelled"), to_node.ReturnLease(grant.lease_id))
    cause = driver.expect(from_node.ProcessDied, address=grant.address).cause
    assert (cause.kind, cause.detail) == ("killed", "cancelled")
    stranger.close()


def test_idle_workers_above_the_number_of_cpus_are_asked_to_leave(driver: Driver) -> None:
    envs = [RuntimeEnv((("NUMBER", str(number)),)) for number in range(3)]
    grants = [driver.lease(number, spec(env=env, CPU=0.1)) for number, env in enumerate(envs)]
    for grant in grants:
        driver.send(to_node.ReturnLease(grant.lease_id))
    cause = driver.expect(from_node.ProcessDied).cause
    assert cause.kind == "intended"
    assert "pool" in cause.detail


def test_a_worker_that_keeps_objects_may_stay(driver: Driver) -> None:
    keep = driver.lease(0, spec(env=RuntimeEnv((("KEEP", "1"),)), CPU=0.1))
    others = [driver.lease(n, spec(env=RuntimeEnv((("N", str(n)),)), CPU=0.1)) for n in (1, 2, 3)]
    for grant in (keep, *others):
        driver.send(to_node.ReturnLease(grant.lease_id))
    for _ in range(2):
        driver.expect(from_node.ProcessDied)
    assert not gone(keep.pid)


# actors


def test_an_actor_comes_up_and_is_found_by_name(driver: Driver) -> None:
    actor = driver.create("Plain", name="n", namespace="here")
    info = driver.state(actor, "ALIVE")
    assert not gone(info.pid)
    driver.send(to_node.GetNamedActor(8, "n", "here"))
    assert driver.expect(from_node.ActorReply, request=8).info.address == info.address
    driver.send(to_node.GetNamedActor(9, "n", "elsewhere"))
    assert driver.expect(from_node.ActorReply, request=9).error == "missing"


def test_a_failing_init_is_told_with_its_error(driver: Driver) -> None:
    info = driver.state(driver.create("FailsInInit", max_restarts=-1), "DEAD")
    assert info.init_error == b"pickled"


def test_an_exiting_actor_is_told_with_code_and_last_lines(driver: Driver) -> None:
    cause = driver.state(driver.create("Exits"), "DEAD").cause
    assert (cause.kind, cause.code, cause.stderr_tail) == ("exit", 7, "about to exit")


def test_a_crashed_actor_is_restarted(driver: Driver) -> None:
    actor = driver.create("DiesOnce", max_restarts=1)
    cause = driver.state(actor, "RESTARTING").cause
    assert (cause.kind, cause.code) == ("signal", signal.SIGSEGV)
    assert "Segmentation fault" in cause.stderr_tail
    info = driver.state(actor, "ALIVE", restarts=1)
    driver.send(to_node.KillActor(actor.actor_id))
    assert driver.state(actor, "DEAD").cause.kind == "killed"
    driver.expect(from_node.ProcessDied, address=info.address)
    assert gone(info.pid)


def test_an_actor_without_handles_leaves_on_its_own(driver: Driver) -> None:
    actor = driver.create("Plain", max_restarts=-1)
    driver.state(actor, "ALIVE")
    driver.send(to_node.ActorOutOfScope(actor.actor_id))
    assert driver.state(actor, "DEAD").cause.kind == "intended"


def test_a_process_that_closes_its_connection_is_ended(driver: Driver) -> None:
    info = driver.state(driver.create("ClosesEverything"), "DEAD")
    assert info.cause.kind == "disconnected"


def test_actors_that_wait_for_each_other_are_told_so(driver: Driver) -> None:
    first = driver.create("Stalls")
    waiting = driver.state(first, "ALIVE").address
    second = driver.create("Stalls", methods=waiting)
    assert driver.state(second, "ALIVE")
    driver.send(to_node.Stall("a call", driver.address))
    assert "deadlock" in driver.expect(from_node.Notice).text


def test_what_can_not_be_served_is_explained(driver: Driver) -> None:
    driver.demand(1, of=spec(GPU=4), name="train")
    text = driver.expect(from_node.Notice, level="warning").text
    assert text == "task train waits for {GPU: 4}, no node has more than {GPU: 0}"


# placement groups


def test_a_group_is_placed_used_and_removed(driver: Driver) -> None:
    identifier = b"g" * 18
    bundles = [Bundle(units(CPU=1))]
    driver.send(to_node.CreatePlacementGroup(1, identifier, "pg", "PACK", bundles))
    assert driver.expect(from_node.PlacementGroupReply).info.state in ("PENDING", "CREATED")
    assert driver.expect(from_node.PlacementGroupUpdate).info.state == "CREATED"
    inside = spec(Strategy("placement_group", placement_group=identifier))
    grant = driver.lease(of=inside)
    assert driver.query("available_resources")[0]["CPU"] == 1
    driver.demand(1, of=inside)
    driver.send(to_node.RemovePlacementGroup(identifier))
    cause = driver.expect(from_node.ProcessDied, address=grant.address).cause
    assert cause.kind == "killed"
    assert identifier.hex() in cause.detail
    driver.demand(1, of=inside)
    assert driver.expect(from_node.LeaseRefused).kind == "placement_group_removed"
    assert driver.query("available_resources")[0]["CPU"] == 2
    assert driver.query("placement_groups")[0]["state"] == "REMOVED"


# logs and memory


def test_prints_reach_the_driver_with_their_actors_name(driver: Driver) -> None:
    actor = driver.create("Prints")
    pid = driver.state(actor, "ALIVE").pid
    lines = []
    while len(lines) < 2:
        lines += driver.expect(from_node.Log).lines
    assert sorted((line.stream, line.text) for line in lines) == [(1, "to stdout"), (2, "to stderr")]
    assert {(line.pid, line.name) for line in lines} == {(pid, "Prints")}


def test_a_driver_that_wants_no_logs_gets_none(node: NodeProcess) -> None:
    driver = Driver(node, log_to_driver=False)
    driver.state(driver.create("Prints"), "ALIVE")
    driver.state(driver.create("Exits"), "DEAD")
    driver.send(to_node.Query(1, "session"))
    while not isinstance(message := driver.receive(), from_node.QueryReply):
        assert not isinstance(message, from_node.Log)
    driver.close()


def test_a_flood_of_output_does_not_grow_the_daemon(node: NodeProcess, driver: Driver) -> None:
    driver.query("session")
    before = psutil.Process(node.pid).memory_info().rss
    driver.create("Floods")
    driver.line("flood is over")
    assert psutil.Process(node.pid).memory_info().rss - before < 32 * 1024 * 1024


def test_the_hog_is_ended_before_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = psutil.virtual_memory()
    room = 300 * 1024 * 1024
    monkeypatch.setenv("SKATE_memory_usage_threshold", str((memory.total - memory.available + room) / memory.total))
    node = node_session.start()
    driver = Driver(node)
    try:
        innocent = driver.state(driver.create("Plain"), "ALIVE")
        cause = driver.state(driver.create("Grows"), "DEAD").cause
        assert cause.kind == "oom"
        assert "MiB" in cause.detail
        assert not gone(innocent.pid)
    finally:
        driver.close()
        node.kill()


# what the API asks for


def test_queries_tell_the_state_in_natural_units(node: NodeProcess, driver: Driver) -> None:
    grant = driver.lease()
    (row,) = driver.query("nodes")
    assert row["Alive"] is True
    assert row["NodeID"] == driver.welcome.node_id.hex()
    assert row["Resources"] == {"CPU": 2, "node:127.0.0.1": 1, "node:__internal_head__": 1}
    leased = [worker for worker in driver.query("workers") if worker["state"] == "leased"]
    assert [(worker["pid"], worker["lease_holder"]) for worker in leased] == [(grant.pid, driver.address.hex())]
    assert driver.query("objects") == []
    assert driver.query("no such thing") == []


def test_the_daemon_is_lean(node: NodeProcess, driver: Driver) -> None:
    """It imports neither the public face nor anything that unpickles or computes."""
    maps = Path(f"/proc/{node.pid}/maps").read_text()
    assert "_pickle" not in maps
    assert "numpy" not in maps
    assert "msgspec" in maps
    assert sys.executable
