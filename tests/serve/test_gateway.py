"""The gateway of applications, with real replicas: whoever is refused never reaches the user's code.

The first tests have replicas that accept clients themselves; from the second application on there is a proxy.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

import serve
from serve.gateway import new_key
from tests.eventually import eventually
from tests.serve.conftest import url

pytestmark = pytest.mark.usefixtures("apps")

ALICE, ALICES_HASH = new_key()
BOB, BOBS_HASH = new_key()


def counting(**options: Any) -> serve.Application:
    """An application that counts the requests that reach it."""

    @serve.deployment(name="app", **options)
    class Counting:
        def __init__(self) -> None:
            self.count = 0

        async def __call__(self, request: Request) -> str:
            self.count += 1
            return serve.context.get_request_context().api_key

        async def seen(self) -> int:
            return self.count

    return Counting.bind()


@serve.deployment
def neighbour() -> str:
    """Another application: with it there is a proxy."""
    return "neighbour"


KEYS = {"keys": [{"name": "alice", "hash": ALICES_HASH}, {"name": "bob", "hash": BOBS_HASH}]}


def urgent_requests_go_first(go: Path) -> None:
    key = {"keys": [{"name": "alice", "hash": ALICES_HASH, "priority": "high"}, {"name": "bob", "hash": BOBS_HASH}]}

    @serve.deployment(
        max_ongoing_requests=1,
        max_queued_requests=3,
        gateway={"api_keys": key, "priorities": {"ageing_s": 1000}},
    )
    class OneByOne:
        def __init__(self, go: Path) -> None:
            self.go = go
            self.served: list[str] = []

        async def __call__(self, request: Request) -> list[str]:
            self.served.append(serve.context.get_request_context().api_key)
            while not self.go.exists():
                await asyncio.sleep(0.01)
            return self.served

    serve.run(OneByOne.bind(go))
    statuses: list[int] = []

    def ask(key: str) -> None:
        statuses.append(httpx.get(url(), headers={"x-api-key": key, "x-priority": "high"}, timeout=60).status_code)

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask, BOB) for _ in range(5)]
        eventually(lambda: statuses == [503], 60, "one is served, three wait, one is sent away")
        asking.append(threads.submit(ask, ALICE))
        eventually(lambda: statuses == [503, 503], 60, "the last one is sent away for the urgent one")
        go.touch()
        for each in asking:
            each.result()
    assert Counter(statuses) == {200: 4, 503: 2}
    served = httpx.get(url(), headers={"x-api-key": BOB}).json()
    assert served == ["bob", "alice", "bob", "bob", "bob"]


def test_urgent_requests_go_first_where_a_replica_accepts_itself(tmp_path: Path) -> None:
    urgent_requests_go_first(tmp_path / "go")


def test_cors_and_time_limits() -> None:
    @serve.deployment(
        gateway={
            "cors": {"allow_origins": ["https://page.example"]},
            "timeouts": [{"seconds": 0.05, "routes": ["/slow"]}],
            "rate_limits": [{"rate": "1/day", "routes": ["/rare"]}],
        }
    )
    class App:
        def __init__(self) -> None:
            self.cancelled = 0

        async def __call__(self, request: Request) -> str:
            if request.url.path.endswith("/slow"):
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            return "here"

        async def interrupted(self) -> int:
            return self.cancelled

    handle = serve.run(App.bind(), route_prefix="/app")
    page = {"origin": "https://page.example"}
    answer = httpx.get(url("/app/fast"), headers=page)
    assert answer.text == "here"
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert httpx.get(url("/app/slow")).status_code == 504
    eventually(lambda: handle.interrupted.remote().result() == 1, 60)
    assert httpx.get(url("/app/rare")).status_code == 200
    refused = httpx.get(url("/app/rare"), headers=page)
    assert refused.status_code == 429
    assert refused.headers["access-control-allow-origin"] == "https://page.example"


def test_options_change_without_a_restart() -> None:
    app = counting()
    handle = serve.run(app)
    assert httpx.get(url()).status_code == 200
    with_gateway = app.deployment.options(gateway={"api_keys": KEYS, "timeouts": [{"seconds": 60}]}).bind()
    serve.run(with_gateway)
    eventually(lambda: httpx.get(url()).status_code == 401, 60)
    assert httpx.get(url(), headers={"x-api-key": ALICE}).text == "alice"
    assert handle.seen.remote().result() >= 2, "the replica was replaced"
    serve.run(app)
    eventually(lambda: httpx.get(url()).status_code == 200, 60)


def test_a_key_in_a_variable_that_is_not_set_fails_the_deploy() -> None:
    keys = {"keys": [{"name": "carol", "env": "NO_SUCH_VARIABLE"}]}
    with pytest.raises(RuntimeError, match="NO_SUCH_VARIABLE, which is not set"):
        serve.run(counting(gateway={"api_keys": keys}, max_constructor_retry_count=1))


def test_keys_open_an_application_whoever_accepts_its_clients() -> None:
    handle = serve.run(counting(gateway={"api_keys": KEYS}))

    def check() -> None:
        assert httpx.get(url()).status_code == 401
        assert httpx.get(url(), headers={"x-api-key": "wrong"}).status_code == 401
        before = handle.seen.remote().result()
        assert httpx.get(url(), headers={"x-api-key": ALICE}).text == "alice"
        assert httpx.get(url(), headers={"authorization": f"Bearer {BOB}"}).text == "bob"
        assert handle.seen.remote().result() == before + 2

    check()  # the replica accepts itself
    serve.run(neighbour.bind(), name="neighbour", route_prefix="/neighbour")
    assert httpx.get(url("/neighbour")).text == "neighbour"
    check()  # a proxy does, from now on


def test_limits_are_exact_over_replicas_and_outlive_them() -> None:
    limits = {"rate_limits": [{"rate": "10/day", "per": ["ip"]}]}
    serve.run(counting(num_replicas=3, gateway=limits))
    with httpx.Client() as client:
        answers = [client.get(url()) for _ in range(15)]
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 5}
    assert [answer.headers["ratelimit-remaining"] for answer in answers[:10]] == [str(n) for n in range(9, -1, -1)]
    assert int(answers[-1].headers["retry-after"]) > 60
    serve.run(counting(num_replicas=1, gateway=limits, ray_actor_options={"num_cpus": 0.1}))  # new replicas
    assert httpx.get(url()).status_code == 429


def test_urgent_requests_go_first_where_a_proxy_accepts(tmp_path: Path) -> None:
    serve.run(neighbour.bind(), name="neighbour", route_prefix="/neighbour")
    urgent_requests_go_first(tmp_path / "go")
