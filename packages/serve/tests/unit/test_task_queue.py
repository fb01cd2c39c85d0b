"""The queue of background tasks: every transition, by table and by Hypothesis, on real files."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from serve.tasks import lifecycle
from serve.tasks.errors import TaskNotFoundError, TaskStateError
from serve.tasks.lifecycle import Policy, TaskRecord, TaskStatus, backoff
from serve.tasks.owner import is_gone, this_process
from serve.tasks.payload import decode, encode
from serve.tasks.queue import Claim, TaskQueue, open_queue
from serve.tasks.scaling import scale_by_backlog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Any:
    queue = TaskQueue(tmp_path / "q.sqlite3", clock, lambda: 0.5)
    yield queue
    queue.close()


ME = this_process()


def add(queue: TaskQueue, name: str = "f", **options: Any) -> str:
    return queue.submit(name, b"j[[],{}]", options.pop("policy", Policy()), **options).id


def take(queue: TaskQueue, limit: int = 1, names: tuple[str, ...] = ("f",)) -> list[Claim]:
    return queue.claim(names, limit, ME)


def test_a_task_that_succeeds(queue: TaskQueue, clock: Clock) -> None:
    task_id = add(queue)
    assert task_id.startswith("q.")
    (claim,) = take(queue)
    assert (claim.task.id, claim.task.attempts, claim.arguments) == (task_id, 1, b"j[[],{}]")
    assert take(queue) == []
    assert queue.succeed(task_id, claim.task.token, b"j7")
    task, result = queue.get_with_result(task_id)
    assert (task.status, result) == (TaskStatus.SUCCEEDED, b"j7")
    clock.now += Policy().result_ttl_s or 0
    assert queue.purge() == 1
    with pytest.raises(TaskNotFoundError):
        queue.get(task_id)


def test_the_order(queue: TaskQueue, clock: Clock) -> None:
    late = add(queue, delay_s=10, priority=9)
    low = add(queue, priority=-1)
    first, second = add(queue), add(queue)
    urgent = add(queue, priority=5)
    other = add(queue, "g")
    assert [claim.task.id for claim in take(queue, 10)] == [urgent, first, second, low]
    clock.now += 10
    assert [claim.task.id for claim in take(queue, 10, ("f", "g"))] == [late, other]


def test_retries_wait_longer_and_longer_until_it_is_a_dead_letter(queue: TaskQueue, clock: Clock) -> None:
    task_id = add(queue, policy=Policy(max_retries=2, retry_backoff_s=4))
    for wait in (4, 8):
        (claim,) = take(queue)
        assert queue.fail(task_id, claim.task.token, "boom")
        assert queue.get(task_id).run_at == clock.now + wait
        assert take(queue) == []
        clock.now += wait
    (claim,) = take(queue)
    queue.fail(task_id, claim.task.token, "boom at last", cause=encode(ValueError("x")))
    assert [task.error for task in queue.dead_letters()] == ["boom at last"]
    clock.now += 1e9
    assert queue.purge() == 0
    queue.requeue(task_id)
    (claim,) = take(queue)
    assert claim.task.attempts == 1
    with pytest.raises(TaskStateError, match="RUNNING"):
        queue.requeue(task_id)


def test_a_failure_that_no_retry_mends(queue: TaskQueue) -> None:
    task_id = add(queue)
    (claim,) = take(queue)
    queue.fail(task_id, claim.task.token, "never", retry=False)
    assert queue.get(task_id).status is TaskStatus.FAILED
    assert queue.counts()[TaskStatus.FAILED] == 1
    queue.remove(task_id)
    assert queue.dead_letters() == []


def test_a_lease_that_is_over_goes_to_another_and_the_first_is_not_heard(queue: TaskQueue, clock: Clock) -> None:
    task_id = add(queue, policy=Policy(lease_s=30))
    (first,) = take(queue)
    clock.now += 20
    assert queue.extend({task_id: first.task.token}) == set()
    clock.now += 20
    assert queue.reap() == 0
    clock.now += 20
    assert queue.reap() == 1
    (second,) = take(queue)
    assert not queue.succeed(task_id, first.task.token, b"j1")
    assert queue.extend({task_id: first.task.token}) == {task_id}
    assert queue.succeed(task_id, second.task.token, b"j2")
    assert queue.get_with_result(task_id)[1] == b"j2"


def test_what_a_dead_process_had_is_taken_back_at_once(queue: TaskQueue, clock: Clock) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "from serve.tasks.owner import this_process; print(this_process())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert is_gone(dead)
    assert not is_gone(ME)
    assert not is_gone("")
    boot, _, rest = ME.partition("/")
    assert is_gone("another-boot/" + rest)
    assert not is_gone(f"{boot}/pid:[1] 7 12345"), "another container cannot be judged"
    task_id = add(queue, policy=Policy(max_retries=1, retry_backoff_s=5))
    for run_at in (clock.now, None):
        queue.claim(("f",), 1, dead)
        assert queue.reap() == 1
        if run_at is not None:
            assert queue.get(task_id).run_at == run_at
    task = queue.get(task_id)
    assert task.status is TaskStatus.FAILED
    assert "worker" in task.error


def test_cancelling(queue: TaskQueue) -> None:
    waiting, running, done = add(queue), add(queue, priority=1), add(queue, priority=2)
    finished, begun = take(queue, 2)
    queue.succeed(done, finished.task.token, b"j1")
    assert queue.cancel(waiting).status is TaskStatus.CANCELLED
    assert queue.cancel(running).cancel_requested
    assert queue.cancel(done).status is TaskStatus.SUCCEEDED
    assert queue.cancel_requests({running: begun.task.token}) == {running}
    assert queue.cancel_requests({running: begun.task.token - 1}) == set()
    assert queue.succeed(running, begun.task.token, b"j1")
    assert queue.get(running).status is TaskStatus.CANCELLED
    queue.requeue(running)
    assert not queue.get(running).cancel_requested


def test_giving_back_is_no_attempt(queue: TaskQueue) -> None:
    task_id = add(queue, policy=Policy(max_retries=0))
    for _ in range(3):
        (claim,) = take(queue)
        assert claim.task.attempts == 1
        assert queue.give_back(task_id, claim.task.token)


def test_changes_together_are_made_all_or_none(queue: TaskQueue) -> None:
    first, second = add(queue), add(queue)
    claims = {claim.task.id: claim.task.token for claim in take(queue, 2)}
    with pytest.raises(LookupError), queue.together():
        assert queue.succeed(first, claims[first], b"j1")
        raise LookupError
    assert queue.get(first).status is TaskStatus.RUNNING
    with queue.together():
        assert queue.succeed(first, claims[first], b"j1")
        assert queue.fail(second, claims[second], "boom", retry=False)
        assert not queue.succeed(first, claims[first], b"j2"), "what came before is seen"
    assert [queue.get(task_id).status for task_id in (first, second)] == [TaskStatus.SUCCEEDED, TaskStatus.FAILED]


def test_a_key_adds_a_task_once(queue: TaskQueue, clock: Clock) -> None:
    first = add(queue, key="order 7", policy=Policy(result_ttl_s=10))
    assert add(queue, key="order 7") == first
    assert add(queue, "g", key="order 7") != first
    (claim,) = take(queue)
    queue.succeed(first, claim.task.token, b"j1")
    assert add(queue, key="order 7") == first
    clock.now += 11
    queue.purge()
    assert add(queue, key="order 7") != first


def test_it_is_all_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "q.sqlite3"
    queue = TaskQueue(path)
    task_id = add(queue)
    queue.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = TaskQueue(path)
    assert again.get(task_id).status is TaskStatus.PENDING
    again.close()


def test_files_that_are_no_queue(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite3").write_text("not a database " * 100)
    with pytest.raises(OSError, match="cannot be used as a queue"):
        TaskQueue(tmp_path / "text.sqlite3")
    db = sqlite3.connect(tmp_path / "later.sqlite3")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(OSError, match="later release"):
        TaskQueue(tmp_path / "later.sqlite3")
    with pytest.raises(ValueError, match="a queue's name"):
        open_queue("../etc", tmp_path)
    assert open_queue("a", tmp_path) is not None


CLAIM_ALL = """
import sys
from pathlib import Path
from serve.tasks.queue import TaskQueue

queue = TaskQueue(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
while claims := queue.claim(("f",), 3, "somebody"):
    for claim in claims:
        print(claim.task.id)
"""


def test_processes_that_claim_at_the_same_time_never_get_the_same(tmp_path: Path) -> None:
    queue = TaskQueue(tmp_path / "q.sqlite3")
    ids = {add(queue) for _ in range(60)}
    command = [sys.executable, "-c", CLAIM_ALL, str(queue.path)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [task_id for worker in workers for task_id in worker.communicate(timeout=60)[0].split()]
    queue.close()
    assert sorted(claimed) == sorted(ids)


@pytest.mark.parametrize("value", [None, 1, 1.5, "text", [1, "a", None], {"a": [True]}])
def test_json_stays_json(value: Any) -> None:
    assert encode(value)[:1] == b"j"
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, b"bytes", {"a": {1}}, [Path("x")]])
def test_what_json_would_change_is_pickled(value: Any) -> None:
    assert encode(value)[:1] == b"p"
    assert decode(encode(value)) == value


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(TypeError, match="kept in a file"):
        encode(threading.Lock())


def test_the_backoff_doubles_up_to_its_limit() -> None:
    policy = Policy(retry_backoff_s=1, retry_backoff_max_s=60)
    assert [backoff(policy, failures) for failures in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]


class QueueMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: no task is lost, none ends twice, and old leases change nothing."""

    tasks: Any = Bundle("tasks")
    leases: Any = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.queue = TaskQueue(Path(self.directory.name) / "q.sqlite3", self.clock, lambda: 0.5)
        self.queue._db.execute("PRAGMA synchronous=OFF")  # the disk's part is not what is tested here
        self.known: dict[str, TaskStatus] = {}
        self.tokens: dict[str, int] = {}

    def teardown(self) -> None:
        self.queue.close()
        self.directory.cleanup()

    @rule(target=tasks, priority=st.integers(-2, 2), delay=st.sampled_from([0, 5]), retries=st.integers(0, 2))
    def submit(self, priority: int, delay: float, retries: int) -> str:
        policy = Policy(max_retries=retries, retry_backoff_s=2, lease_s=10, result_ttl_s=None)
        task_id = add(self.queue, priority=priority, delay_s=delay, policy=policy)
        self.tokens[task_id] = 0
        return task_id

    @rule(target=leases, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        claims = take(self.queue, limit)
        for claim in claims:
            assert claim.task.run_at <= self.clock.now
            assert claim.task.token == self.tokens[claim.task.id] + 1
            self.tokens[claim.task.id] = claim.task.token
        return multiple(*((claim.task.id, claim.task.token) for claim in claims))

    def _holds(self, lease: tuple[str, int]) -> bool:
        task = self.queue.get(lease[0])
        return task.status is TaskStatus.RUNNING and task.token == lease[1]

    @rule(lease=leases)
    def succeed(self, lease: tuple[str, int]) -> None:
        held = self._holds(lease)
        assert self.queue.succeed(*lease, b"j1") == held

    @rule(lease=leases, retry=st.booleans())
    def fail(self, lease: tuple[str, int], retry: bool) -> None:
        held, before = self._holds(lease), self.queue.get(lease[0])
        assert self.queue.fail(*lease, "boom", retry=retry) == held
        after = self.queue.get(lease[0])
        if not held:
            assert after == before
        elif after.status is TaskStatus.FAILED:
            assert not retry or before.attempts > before.policy.max_retries

    @rule(lease=consumes(leases))
    def give_back(self, lease: tuple[str, int]) -> None:
        held = self._holds(lease)
        assert self.queue.give_back(*lease) == held

    @rule(lease=leases)
    def extend(self, lease: tuple[str, int]) -> None:
        held = self._holds(lease)
        assert (self.queue.extend(dict([lease])) == set()) == held

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        ended = self.queue.get(task_id).status.ended
        task = self.queue.cancel(task_id)
        assert ended or task.status is TaskStatus.CANCELLED or task.cancel_requested

    @rule(task_id=tasks)
    def requeue(self, task_id: str) -> None:
        if self.queue.get(task_id).status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
            assert self.queue.requeue(task_id).status is TaskStatus.PENDING
        else:
            with pytest.raises(TaskStateError):
                self.queue.requeue(task_id)

    @rule(seconds=st.sampled_from([1, 4, 11]))
    def time_goes_on(self, seconds: float) -> None:
        self.clock.now += seconds
        self.queue.reap()
        assert all(task.lease_until >= self.clock.now for task in self.queue.tasks(TaskStatus.RUNNING))

    @invariant()
    def nothing_is_lost_and_every_record_makes_sense(self) -> None:
        found = self.queue.tasks(limit=1000)
        assert {task.id for task in found} == set(self.tokens)
        assert sum(self.queue.counts().values()) == len(found)
        for task in found:
            _check(task)


def _check(task: TaskRecord) -> None:
    running = task.status is TaskStatus.RUNNING
    assert bool(task.owner) == running
    assert (task.lease_until > 0) == running
    assert (task.finished_at is not None) == task.status.ended
    assert 0 <= task.attempts <= task.policy.max_retries + 1
    assert task.token >= task.attempts
    assert running or not task.cancel_requested or task.status is TaskStatus.CANCELLED
    assert lifecycle.expires_at(task) is None


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Seen:
    """What an autoscaling policy looks at."""

    target_num_replicas = 2

    def __init__(self, **metrics: dict[str, float]) -> None:
        self.aggregated_metrics = metrics


def test_the_policy_asks_for_the_workers_that_the_backlog_needs() -> None:
    assert scale_by_backlog(Seen()) == 2
    both = {"a": 4.0, "b": 4.0}
    idle = {"a": 0.0, "b": 0.0}
    assert scale_by_backlog(Seen(task_concurrency=both, due_tasks=idle, running_tasks=idle)) == 1
    # all replicas see the same queue, and each its own tasks
    busy = {"a": 4.0, "b": 3.0}
    assert scale_by_backlog(Seen(task_concurrency=both, due_tasks={"a": 9.0, "b": 10.0}, running_tasks=busy)) == 5


def test_what_is_due(queue: TaskQueue, clock: Clock) -> None:
    add(queue, delay_s=5)
    add(queue)
    assert queue.due() == 1
    clock.now += 5
    assert queue.due() == 2
    take(queue)
    assert queue.due() == 1
