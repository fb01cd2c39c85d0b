"""Processes that are killed or hang while clients ask, bodies that are too large, headers that are forged."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

import core
import serve
from core.util.state import list_actors
from serve import session
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.load import Load

#: seconds within which anything must come about, on however slow a machine
PATIENCE = 60
#: bytes of a body; the limit of the session
LARGE = 100 * 1024 * 1024

api = FastAPI()


@serve.deployment(name="app", health_check_period_s=0.1)
@serve.ingress(api)
class App:
    @api.get("/")
    async def root(self) -> str:
        return "ok"

    @api.get("/pid")
    async def pid(self) -> int:
        return os.getpid()

    @api.post("/die")
    async def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @api.post("/hang")
    async def hang(self) -> None:
        time.sleep(3600)  # the event loop with it

    @api.get("/sleep")
    async def sleep(self) -> None:
        await asyncio.Event().wait()

    @api.post("/length")
    async def length(self, request: Request) -> int:
        total = 0
        async for piece in request.stream():
            total += len(piece)
        return total

    @api.get("/headers")
    async def headers(self, request: Request) -> dict[str, str]:
        return {
            **request.headers,
            "client": request.client.host if request.client else "",
            "root": request.scope["root_path"],
        }

    @api.get("/inject")
    async def inject(self) -> Response:
        return Response("x", headers={"x-a": "1\r\nx-injected: yes"})


@pytest.fixture(scope="module", params=[2, 0], ids=["relayed", "direct"])
def proxies(request: pytest.FixtureRequest) -> Iterator[int]:
    """A Serve with two proxies, and one whose replica accepts clients itself."""
    number: int = request.param
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(http_options={"port": 0, "num_proxies": number, "max_body_bytes": LARGE})
    try:
        yield number
    finally:
        serve.shutdown()
        core.shutdown()


#: For what only happens with proxies.
relayed_only = pytest.mark.parametrize("proxies", [2], ids=["relayed"], indirect=True, scope="module")


def pids(class_name: str) -> set[int]:
    """Return the processes of living actors of a class."""
    return {
        row["pid"] for row in list_actors(limit=1000) if row["class_name"] == class_name and row["state"] == "ALIVE"
    }


def run(replicas: int = 1, *, check_timeout_s: float = 30) -> None:
    """Have so many replicas; those that an earlier test left stay."""
    period_s = 0.5 if check_timeout_s < 10 else 10
    checks = {"health_check_period_s": period_s, "health_check_timeout_s": check_timeout_s}
    serve.run(App.options(num_replicas=replicas, **checks).bind())


def answered(load: Load, more: int = 50) -> None:
    """Wait until so many more requests were answered well."""
    seen = load.answers["200"]
    eventually(lambda: load.answers["200"] > seen + more, timeout=PATIENCE)


def ongoing() -> int:
    """Return what the replicas are working on."""
    actors = [
        core.get_actor(row["name"], namespace="serve")
        for row in list_actors()
        if row["class_name"] == "Replica" and row["state"] == "ALIVE"
    ]
    return sum(core.get(actor.stats.remote()).ongoing for actor in actors)


def test_our_own_header_fields_are_no_clients(proxies: int) -> None:
    run()
    forged = {"x-serve-client": "6.6.6.6 6 https", "x-serve-root-path": "/forged", "x-serve-full": "1"}
    seen = httpx.get(url("/headers"), headers={**forged, "connection": "close, x-hop, host", "x-hop": "1"}).json()
    assert seen["client"] == "127.0.0.1"
    assert seen["root"] == ""
    if proxies:
        assert not any(name.startswith("x-serve") for name in seen)
        assert "x-hop" not in seen
    assert seen["host"].startswith("127.0.0.1")


def test_header_injection_is_an_error_of_the_application(proxies: int) -> None:
    run()
    response = httpx.get(url("/inject"))
    assert response.status_code == 500
    assert "x-injected" not in response.headers


def test_a_request_has_its_time_limit(proxies: int) -> None:
    run()
    response = httpx.get(url("/sleep"), headers={"x-request-timeout-seconds": "0.2"}, timeout=PATIENCE)
    assert response.status_code == 504
    assert "0.2 s" in response.text
    assert httpx.get(url()).status_code == 200


def test_clients_that_leave_in_the_middle_leave_nothing_behind(proxies: int) -> None:
    run()
    port = serve.get_http_port()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: ongoing() == 0, timeout=PATIENCE)
    assert httpx.get(url()).status_code == 200


def test_a_large_body_passes_through_and_a_larger_one_is_refused(proxies: int) -> None:
    run()
    weighed = [psutil.Process(pid) for pid in pids("Proxy") | pids("Replica")]
    before = sum(process.memory_info().rss for process in weighed)
    peak = 0
    piece = bytes(1 << 20)

    def pieces() -> Iterator[bytes]:
        nonlocal peak
        for number in range(LARGE // len(piece)):
            if number % 10 == 9:
                peak = max(peak, sum(process.memory_info().rss for process in weighed))
            yield piece

    def too_much() -> Iterator[bytes]:
        yield from pieces()
        yield b"x"

    with httpx.Client(base_url=url(), timeout=PATIENCE) as client:
        length = {"content-length": str(LARGE)}
        assert client.post("/length", content=pieces(), headers=length).json() == LARGE
        assert client.post("/length", content=pieces()).json() == LARGE  # in chunks
        assert peak - before < LARGE / 2
        try:
            assert client.post("/length", content=too_much()).status_code == 413
        except httpx.WriteError:
            pass  # closed while it was still sending
        assert client.get("/").status_code == 200
    with socket.create_connection(("127.0.0.1", serve.get_http_port()), timeout=PATIENCE) as announcing:
        announcing.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (LARGE + 1))
        assert announcing.recv(100).startswith(b"HTTP/1.1 413 ")


@relayed_only
def test_a_killed_proxy_costs_only_what_it_had(proxies: int) -> None:
    run()
    before = pids("Proxy")
    assert len(before) == 2
    with Load(url(), clients=4) as load:
        answered(load)
        os.kill(min(before), signal.SIGKILL)
        answered(load)
        eventually(lambda: len(pids("Proxy")) == 2 and pids("Proxy") != before, timeout=PATIENCE)
        answered(load)
    # a connection to the dead proxy is reset, with or without a request on it; the next one goes to another proxy
    assert sum(count for answer, count in load.answers.items() if answer != "200") <= 4, load.answers


@relayed_only
def test_all_proxies_killed_come_back(proxies: int) -> None:
    run()
    before = pids("Proxy")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert httpx.get(url(), timeout=PATIENCE).status_code == 200  # it waited in the socket's queue
    eventually(lambda: len(pids("Proxy") - before) == 2, timeout=PATIENCE)


def test_a_request_that_kills_its_replica_gets_502_and_the_next_an_answer(proxies: int) -> None:
    run()
    with httpx.Client(base_url=url(), timeout=PATIENCE) as client:
        if proxies:
            assert client.post("/die").status_code == 502
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/die")
        assert client.get("/").status_code == 200


@relayed_only
def test_the_only_replica_hangs_and_is_replaced(proxies: int) -> None:
    serve.delete("default")  # so that the replica is checked like this from its start
    run(check_timeout_s=1.5)
    with httpx.Client(base_url=url(), timeout=PATIENCE) as client:
        before = client.get("/pid").json()
        assert client.post("/hang").status_code == 502
        assert client.get("/pid").json() != before


@relayed_only
def test_a_hanging_replica_is_replaced_and_takes_no_idempotent_request_with_it(proxies: int) -> None:
    run(2, check_timeout_s=1.5)
    answers: list[int] = []
    with httpx.Client(base_url=url(), timeout=PATIENCE) as client, Load(url(), clients=4) as load:
        answered(load)
        hanging = threading.Thread(target=lambda: answers.append(client.post("/hang").status_code))
        hanging.start()
        answered(load)  # the other replica goes on
        hanging.join(PATIENCE)
        answered(load)
    assert answers == [502]
    assert set(load.answers) == {"200"}, load.answers
