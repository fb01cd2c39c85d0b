"""Background tasks with real workers: they run, fail, wait, are cancelled, and outlive whoever had them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import serve
from serve.task_consumer import task_consumer, task_handler
from serve.tasks import (
    DoNotRetryError,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFoundError,
    TaskProcessorConfig,
    TaskStatus,
    instantiate_adapter_from_config,
    open_queue,
)
from tests.eventually import eventually
from tests.serve.conftest import url

pytestmark = pytest.mark.usefixtures("apps")

#: seconds that anything may take on a loaded machine
LONG = 60


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_functions_run_in_the_background(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path)
    def double(number: int, times: int = 1) -> int:
        return number * 2**times

    @serve.task(directory=tmp_path)
    async def me(word: str) -> tuple[str, int, int]:
        await asyncio.sleep(0)
        current = serve.tasks.current()
        assert current is not None
        return f"{word} {current.name}", current.attempt, os.getpid()

    assert double(3) == 6, "called, it runs here"
    early = double.submit(1)
    assert early.status() is TaskStatus.PENDING
    serve.run(serve.task_workers(double, me, concurrency=2), name="tasks", route_prefix=None)
    assert early.result(LONG) == 2
    assert double.submit(5, times=2).result(LONG) == 20
    text, attempt, pid = me.submit("hello").result(LONG)
    assert (text, attempt) == ("hello me", 1)
    assert pid != os.getpid()
    assert serve.tasks.get(early.id, tmp_path) == early
    assert serve.tasks.get(early.id, tmp_path).info().attempts == 1

    async def wait() -> int:
        return await double.submit(7)

    assert asyncio.run(wait()) == 14
    with pytest.raises(TypeError, match="unexpected keyword"):
        double.submit(1, wrong=2)
    with pytest.raises(TaskNotFoundError):
        serve.tasks.get("default.nothing", tmp_path)


def test_failures_are_tried_again_and_end_as_dead_letters(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path, max_retries=2, retry_backoff_s=0.01)
    def fragile(log: str, good_attempt: int) -> str:
        with open(log, "a") as file:
            file.write("x\n")
        attempt = len(Path(log).read_text().split())
        if attempt < good_attempt:
            raise ValueError(f"attempt {attempt}")
        return f"attempt {attempt}"

    @serve.task(directory=tmp_path)
    async def hopeless() -> None:
        raise DoNotRetryError("no such customer")

    @serve.task(directory=tmp_path, timeout_s=0.05, max_retries=0)
    async def slow() -> None:
        await asyncio.sleep(600)

    @serve.task(directory=tmp_path, timeout_s=0.05, max_retries=0)
    def stubborn() -> None:
        while not serve.tasks.current().cancelled:  # type: ignore[union-attr]
            time.sleep(0.01)

    @serve.task(directory=tmp_path)
    def unkept() -> Any:
        return threading.Lock()

    serve.run(
        serve.task_workers(fragile, hopeless, slow, stubborn, unkept, concurrency=4), name="tasks", route_prefix=None
    )
    assert fragile.submit(str(tmp_path / "a"), 3).result(LONG) == "attempt 3"
    failed = fragile.submit(str(tmp_path / "b"), 4)
    with pytest.raises(TaskFailedError, match=r"ValueError: attempt 3") as caught:
        failed.result(LONG)
    assert isinstance(caught.value.__cause__, ValueError)
    assert failed.info().attempts == 3
    queue = open_queue("default", tmp_path)
    assert [task.id for task in queue.dead_letters("fragile")] == [failed.id]
    queue.requeue(failed.id)
    assert failed.result(LONG) == "attempt 4"
    for task, words in (
        (hopeless, "no such customer"),
        (slow, "within 0.05 s"),
        (stubborn, "0.05 s"),
        (unkept, "kept"),
    ):
        run = task.submit()
        with pytest.raises(TaskFailedError, match=words):
            run.result(LONG)
        assert run.info().attempts == 1


def test_cancelling(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path)
    async def forever(log: str) -> None:
        try:
            Path(log).write_text("begun")
            await asyncio.sleep(600)
        finally:
            Path(log).write_text("interrupted")

    run = forever.submit(str(tmp_path / "log"))
    later = forever.options(delay_s=600).submit(str(tmp_path / "other"))
    serve.run(serve.task_workers(forever), name="tasks", route_prefix=None)
    eventually(lambda: lines(tmp_path / "log") == ["begun"], LONG)
    with pytest.raises(TimeoutError):
        run.result(0.01)
    assert run.cancel()
    with pytest.raises(TaskCancelledError):
        run.result(LONG)
    eventually(lambda: lines(tmp_path / "log") == ["interrupted"], LONG)
    assert later.cancel()
    assert later.status() is TaskStatus.CANCELLED


def test_a_killed_replica_loses_no_task(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path, retry_backoff_s=0.1)
    async def work(number: int, log: str) -> int:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        while number and not Path(log + ".go").exists():
            await asyncio.sleep(0.01)
        return number

    log = tmp_path / "log"
    serve.run(serve.task_workers(work, concurrency=3), name="tasks", route_prefix=None)
    runs = [work.submit(number, str(log)) for number in (1, 2, 3)]
    eventually(lambda: len(lines(log)) == 3, LONG)
    (pid,) = set(lines(log))
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: len(lines(log)) == 6, LONG, "the tasks did not begin again")
    (tmp_path / "log.go").touch()
    assert [run.result(LONG) for run in runs] == [1, 2, 3]
    assert {run.info().attempts for run in runs} == {2}


def test_a_replaced_replica_finishes_what_it_has(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path)
    async def work(log: str) -> str:
        Path(log).write_text("begun")
        while not Path(log + ".go").exists():
            await asyncio.sleep(0.01)
        return "done"

    log = tmp_path / "log"
    workers = {"name": "tasks", "route_prefix": None}
    serve.run(serve.task_workers(work, concurrency=1), **workers)
    run = work.submit(str(log))
    eventually(lambda: lines(log) == ["begun"], LONG)
    serve.run(serve.task_workers(work, concurrency=2), **workers)
    (tmp_path / "log.go").touch()
    assert run.result(LONG) == "done"
    assert run.info().attempts == 1


def test_a_replica_whose_time_is_over_leaves_its_tasks_to_others(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path, retry_backoff_s=0.1)
    async def work(log: str) -> str:
        with open(log, "a") as file:
            file.write("begun\n")
        while len(lines(Path(log))) < 2:
            await asyncio.sleep(0.01)
        return "done"

    log = tmp_path / "log"
    app = serve.task_workers(work, graceful_shutdown_timeout_s=0.1)
    serve.run(app, name="tasks", route_prefix=None)
    run = work.submit(str(log))
    eventually(lambda: lines(log) == ["begun"], LONG)
    serve.delete("tasks")
    serve.run(app, name="tasks", route_prefix=None)
    assert run.result(LONG) == "done"


def test_workers_follow_the_backlog(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path)
    async def work(go: str) -> None:
        while not Path(go).exists():
            await asyncio.sleep(0.01)

    go = tmp_path / "go"
    policy = {"min_replicas": 1, "max_replicas": 3, "upscale_delay_s": 0, "policy": serve.tasks.scale_by_backlog}
    app = serve.task_workers(work, concurrency=2, num_replicas="auto", autoscaling_config=policy)
    serve.run(app, name="tasks", route_prefix=None)
    runs = [work.submit(str(go)) for _ in range(6)]
    eventually(lambda: work.queue.counts()[TaskStatus.RUNNING] == 6, LONG, "three replicas of two tasks each")
    go.touch()
    for run in runs:
        run.result(LONG)


DRIVER = """
import os, sys, pathlib, time
import serve

@serve.task(directory=sys.argv[1])
def work(log):
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not pathlib.Path(log + ".go").exists():
        time.sleep(0.01)
    return "done"

if __name__ == "__main__":
    serve.start(http_options={"port": 0})
    serve.run(serve.task_workers(work), name="tasks", route_prefix=None)
    if len(sys.argv) > 2:
        print(work.submit(sys.argv[2]).id, flush=True)
    time.sleep(600)
"""


def test_a_killed_driver_loses_no_task(tmp_path: Path) -> None:
    """With its driver everything of Serve ends, replicas too, as when a machine goes down; the queue stays."""
    script, log = tmp_path / "driver.py", tmp_path / "log"
    script.write_text(DRIVER)
    first = subprocess.Popen([sys.executable, script, tmp_path, log], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        task_id = first.stdout.readline().strip()
        (worker,) = eventually(lambda: lines(log), LONG)
    finally:
        first.kill()
        first.communicate()
    eventually(lambda: not psutil.pid_exists(int(worker)), LONG, "the replica did not end with its driver")
    (tmp_path / "log.go").touch()
    second = subprocess.Popen([sys.executable, script, tmp_path])
    try:
        run = serve.tasks.get(task_id, tmp_path)
        assert run.result(LONG) == "done"
        assert len(lines(log)) == 2
    finally:
        second.terminate()
        second.wait()


def test_by_http(tmp_path: Path) -> None:
    @serve.task(directory=tmp_path, max_retries=0)
    def divide(first: int, second: int = 2) -> float:
        """Divide one number by another."""
        return first / second

    @serve.task(directory=tmp_path)
    def path() -> Path:
        return Path("x")

    @serve.task(directory=tmp_path)
    def kept() -> Any:
        return object

    serve.run(serve.task_workers(divide, path, kept, concurrency=2), name="tasks", route_prefix="/jobs")
    with httpx.Client(base_url=url(), timeout=LONG) as client:
        answer = client.post("/jobs/divide", json={"first": 9, "second": 3})
        assert answer.status_code == 202
        place = answer.headers["location"]
        assert place == f"/jobs/{answer.json()['id']}"
        result = client.get(f"{place}/result", params={"wait_s": 60})
        assert (result.status_code, result.json()) == (200, 3.0)
        assert client.get(place).json()["status"] == "SUCCEEDED"
        assert client.delete(place).status_code == 409
        assert client.post(f"{place}/retry").status_code == 409

        broken = client.post("/jobs/divide", json=[1, 0]).headers["location"]
        result = client.get(f"{broken}/result", params={"wait_s": 60})
        assert result.status_code == 500
        assert result.json()["detail"]["error"] == "ZeroDivisionError: division by zero"
        assert [task["id"] for task in client.get("/jobs/?status=FAILED").json()] == [broken.rpartition("/")[2]]
        assert client.post(f"{broken}/retry").status_code == 202

        later = client.post("/jobs/divide?delay_s=600", json=[1]).headers["location"]
        waiting = client.get(f"{later}/result")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (202, "1")
        assert client.delete(later).json()["status"] == "CANCELLED"
        assert client.get(f"{later}/result").status_code == 410

        same = [client.post("/jobs/path", headers={"idempotency-key": "k"}).json()["id"] for _ in range(2)]
        assert same[0] == same[1]
        assert client.get(f"/jobs/{same[0]}/result?wait_s=60").json() == "x"
        no_json = client.post("/jobs/kept").headers["location"]
        assert client.get(f"{no_json}/result?wait_s=60").status_code == 406

        for body, status in (({"third": 1}, 422), ("text", 422), ([1, 2, 3], 422)):
            assert client.post("/jobs/divide", json=body).status_code == status
        assert client.post("/jobs/divide", content=b"{").status_code == 422
        assert client.get("/jobs/default.nothing").status_code == 404
        assert "Divide one number" in client.get("/jobs/openapi.json").text


def test_rays_names(tmp_path: Path) -> None:
    config = TaskProcessorConfig(queue_name="rays", adapter_config={"directory": str(tmp_path)}, max_retries=0)

    @serve.deployment
    @task_consumer(task_processor_config=config)
    class Videos:
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        @task_handler(name="caption")
        def caption(self, path: str, mark: str = "!") -> str:
            if not path:
                raise LookupError("no film")
            return f"{self.greeting} {path}{mark}"

        @task_handler
        async def count(self) -> int:
            return 3

        def __call__(self) -> str:
            return "here too"

    handle = serve.run(Videos.bind("see"), name="videos", route_prefix=None)
    adapter = instantiate_adapter_from_config(config)

    def wait_for(task_id: str, status: str) -> Any:
        eventually(lambda: adapter.get_task_status_sync(task_id).status == status, LONG)
        return adapter.get_task_status_sync(task_id).result

    assert wait_for(adapter.enqueue_task_sync("caption", args=["film"]).id, "SUCCESS") == "see film!"
    assert wait_for(adapter.enqueue_task_sync("caption", kwargs={"path": "a", "mark": "?"}).id, "SUCCESS") == "see a?"
    assert wait_for(adapter.enqueue_task_sync("count").id, "SUCCESS") == 3
    assert "no film" in wait_for(adapter.enqueue_task_sync("caption", args=[""]).id, "FAILURE")
    unknown = adapter.enqueue_task_sync("unknown")
    assert unknown.status == "PENDING"
    assert adapter.cancel_task_sync(unknown.id)
    assert adapter.get_task_status_sync(unknown.id).status == "REVOKED"
    assert adapter.get_metrics_sync()["SUCCEEDED"] == 3
    assert handle.remote().result() == "here too"


def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown option 'retries'"):
        serve.task(retries=3)
    with pytest.raises(ValueError, match="timeout_s cannot be 0"):
        serve.task(timeout_s=0)
    with pytest.raises(TypeError, match="takes a function"):
        serve.task(3)

    @serve.task(directory=tmp_path)
    def one() -> None: ...

    @serve.task(directory=tmp_path, queue="other")
    def two() -> None: ...

    with pytest.raises(ValueError, match="several queues"):
        serve.task_workers(one, two)
    with pytest.raises(ValueError, match="concurrency"):
        serve.task_workers(one, concurrency=0)
    with pytest.raises(TypeError, match="decorated with @serve"):
        serve.task_workers(lambda: None)
    with pytest.raises(ValueError, match="delay_s"):
        one.options(delay_s=-1)
    with pytest.raises(ValueError, match="cannot be imported"):
        instantiate_adapter_from_config(TaskProcessorConfig(queue_name="a", adapter="no.such.Adapter"))
    with pytest.raises(ValueError, match="no method marked"):
        task_consumer(task_processor_config=TaskProcessorConfig(queue_name="a"))(type("Empty", (), {}))
