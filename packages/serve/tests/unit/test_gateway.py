"""The gateway: rates, lines, keys and the table as machines; the middleware on plain ASGI applications."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI, Request, WebSocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.websockets import WebSocketDisconnect

from serve.api.assembly import Assembled, assemble
from serve.config import APIKey, DeploymentConfig, GatewayConfig
from serve.gateway import APIKeys, Gateway, Priorities, RateLimits, TimeLimits, hash_key, new_key
from serve.gateway.judge import Judge
from serve.gateway.keys import KeyRing
from serve.gateway.line import PriorityLine
from serve.gateway.marks import VERDICT
from serve.gateway.rates import ALGORITHMS, Gcra, Rate, State, TokenBucket
from serve.gateway.table import ProcessMemory, SharedMemory
from serve.http.headers import JUDGED, OURS
from serve.proxy.judges import Judges, judged_line
from serve.proxy.request import RequestHead
from serve.schema.deploy import ServeApplicationSchema
from serve.specs import DeploymentID, Route, Split

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer releases of Starlette would rather have another client library than httpx
    from fastapi.testclient import TestClient

#: the same examples each time, however slow the machine
drawn = settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# -- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, 60)),
        ("5/s", Rate(5, 1)),
        ("5 / Seconds", Rate(5, 1)),
        ("1000/24h", Rate(1000, 86400)),
        ("7/1.5minutes", Rate(7, 90)),
        ("2/day", Rate(2, 86400)),
    ],
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    GatewayConfig.model_validate({"rate_limits": [{"rate": text}]})


@pytest.mark.parametrize("text", ["", "5", "5/", "0/s", "-1/s", "5/fortnight", "5/0s", "x/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="looks like"):
        Rate.parse(text)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_burst_and_then_evenly(name: str) -> None:
    rate, state, algorithm = Rate(60, 60, burst=3), None, ALGORITHMS[name]
    seen = []
    for now in (0.0, 0.0, 0.0, 0.0, 0.9, 1.0, 1.5, 2.0, 100.0, 100.0, 100.0, 100.0):
        decision, state = algorithm.take(rate, state, now)
        seen.append((decision.allowed, decision.remaining))
    T, F = True, False
    assert seen == [
        (T, 2), (T, 1), (T, 0), (F, 0), (F, 0), (T, 0), (F, 0), (T, 0), (T, 2), (T, 1), (T, 0), (F, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_who_waits_as_long_as_he_is_told_gets_in_and_not_before(name: str) -> None:
    rate, state, now, algorithm = Rate(10, 3, burst=4), None, 0.0, ALGORITHMS[name]
    for _ in range(4):
        _, state = algorithm.take(rate, state, now)
    refused, _ = algorithm.take(rate, state, now)
    assert refused.retry_after_s == pytest.approx(0.3)
    assert not algorithm.take(rate, state, now + 0.299)[0].allowed
    assert algorithm.take(rate, state, now + refused.retry_after_s)[0].allowed


# whole milliseconds: on the edge of a fraction either answer is right
_GAPS = st.lists(st.integers(0, 3000), min_size=1, max_size=150)
_RATES = st.builds(Rate, st.sampled_from([1, 2, 5, 10]), st.sampled_from([1.0, 2.0, 10.0]), st.integers(0, 5))


@drawn
@given(_GAPS, _RATES)
def test_both_algorithms_let_the_same_requests_through_and_never_too_many(gaps: list[int], rate: Rate) -> None:
    now, let_through = 0, []
    one: State | None = None
    other: State | None = None
    for gap in gaps:
        now += gap
        first, one = Gcra().take(rate, one, now / 1000)
        second, other = TokenBucket().take(rate, other, now / 1000)
        assert first.allowed == second.allowed
        assert first.remaining == second.remaining
        assert first.reset_s == pytest.approx(second.reset_s, abs=1e-6)
        assert first.retry_after_s == pytest.approx(second.retry_after_s, abs=1e-6)
        assert 0 <= first.remaining <= first.limit
        if first.allowed:
            let_through.append(now / 1000)
    for start, since in enumerate(let_through):
        for end in range(start, len(let_through)):
            most = rate.capacity + (let_through[end] - since) / rate.interval_s
            assert end - start + 1 <= most + 1e-6


# -- the line ---------------------------------------------------------------------------------------------------------


def test_higher_classes_overtake_what_came_shortly_before() -> None:
    line: PriorityLine[str] = PriorityLine(ageing_s=5)
    for item, rank, now in (("a", 0, 0.0), ("b", -1, 1.0), ("c", 1, 4.0), ("d", 0, 4.5), ("e", 1, 9.0)):
        line.push(item, rank, now)
    assert [line.pop() for _ in range(len(line))] == ["c", "a", "e", "d", "b"]
    with pytest.raises(IndexError):
        line.pop()


def test_a_full_line_sends_the_last_one_away() -> None:
    line: PriorityLine[str] = PriorityLine(ageing_s=5)
    assert line.push("old low", -1, 0.0, 2) is None
    assert line.push("normal", 0, 1.0, 2) is None
    assert line.push("late low", -1, 2.0, 2) == "late low"
    assert line.push("high", 1, 3.0, 2) == "old low"
    assert [line.pop(), line.pop()] == ["high", "normal"]
    assert line.push("none", 0, 0.0, 0) == "none"


@drawn
@given(
    st.lists(st.tuples(st.sampled_from(["push", "pop", "remove"]), st.integers(-1, 1), st.floats(0, 3)), max_size=80)
)
def test_nobody_is_lost_and_nobody_starves(steps: list[tuple[str, int, float]]) -> None:
    line: PriorityLine[tuple[int, int, float]] = PriorityLine(ageing_s=2)
    waiting: list[tuple[int, int, float]] = []
    now = 0.0
    for number, (kind, rank, gap) in enumerate(steps):
        now += gap
        if kind == "push":
            item = (number, rank, now)
            sent_away = line.push(item, rank, now, 10)
            waiting.append(item)
            if sent_away is not None:
                waiting.remove(sent_away)
        elif kind == "remove" and waiting:
            assert line.remove(waiting[0])
            assert not line.remove(waiting.pop(0))
        elif waiting:
            served = line.pop()
            waiting.remove(served)
            for other in waiting:
                # overtaken only by what is of a higher class and came less than the classes' difference later
                assert served[2] <= other[2] + 2 * max(0, served[1] - other[1]) + 1e-9
        assert len(line) == len(waiting)


# -- the table --------------------------------------------------------------------------------------------------------


def take_one(known: list[State | None]) -> tuple[bool, list[State] | None]:
    decision, state = Gcra().take(Rate(100, 1e6), known[0], 0.0)
    return decision.allowed, [state]


TAKE_MANY = """
import sys
from serve.gateway.rates import Gcra, Rate
from serve.gateway.table import SharedMemory

def take_one(known):
    decision, state = Gcra().take(Rate(100, 1e6), known[0], 0.0)
    return decision.allowed, [state]

memory = SharedMemory(sys.argv[1], patience_s=60)
print("ready", flush=True)
sys.stdin.readline()
print(sum(memory.update([b"x"], take_one) for _ in range(200)))
"""


def test_the_table_is_exact_over_processes(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    command = [sys.executable, "-c", TAKE_MANY, path]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert sum(int(worker.communicate(timeout=60)[0]) for worker in workers) == 100
    memory = SharedMemory(path)
    assert not memory.update([b"x"], take_one), "whoever opens it later sees the same"
    assert memory.update([b"y"], take_one)
    memory.close()


def test_a_full_table_forgets_whom_it_can(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path / "table", slots=8)
    for number in range(30):
        memory.update([b"%d" % number], lambda known, number=number: (None, [(float(number), 0.0, float(number))]))
    kept = [n for n in range(30) if memory.update([b"%d" % n], lambda known: (known[0] is not None, None))]
    memory.close()
    assert kept == list(range(22, 30)), "those are kept that could be forgotten last"


def test_a_process_forgets_whom_it_saw_longest_ago() -> None:
    memory = ProcessMemory(size=3)
    for number in range(5):
        memory.update([b"%d" % number], lambda known: (None, [(1.0, 0.0, 1.0)]))
    assert [n for n in range(5) if memory.update([b"%d" % n], lambda known: (known[0] is not None, None))] == [2, 3, 4]


def test_requests_that_one_limit_refuses_are_not_counted_by_another() -> None:
    config = GatewayConfig.model_validate(
        {"rate_limits": [{"rate": "1/hour", "per": ["route"]}, {"rate": "3/hour", "per": []}]}
    )
    judge = Judge(config, ProcessMemory())
    statuses = [judge.judge(path, [], "c", 0.0).status for path in ("/a", "/a", "/a", "/b", "/c", "/d")]
    assert statuses == [0, 429, 429, 0, 0, 429]


# -- keys -------------------------------------------------------------------------------------------------------------


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    key, hashed = new_key()
    monkeypatch.setenv("BOBS_KEY", "secret of bob")
    alice = APIKey(name="alice", hash=hashed, rate_limit="5/s")
    ring = KeyRing([alice, APIKey(name="bob", env="BOBS_KEY")])
    holder = ring.holder(key.encode())
    assert holder is not None
    assert (holder.name, holder.rate) == ("alice", Rate(5, 1))
    assert ring.holder(b"secret of bob").name == "bob"  # type: ignore[union-attr]
    assert ring.holder(b"") is None
    assert ring.holder(key.encode() + b"x") is None
    assert new_key()[0] != key
    assert hash_key(key) == hashed
    with pytest.raises(ValueError, match="the same"):
        KeyRing([alice, APIKey(name="again", hash=hashed)])
    with pytest.raises(ValueError, match="NO_SUCH_VARIABLE, which is not set"):
        KeyRing([APIKey(name="carol", env="NO_SUCH_VARIABLE")])


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ({"api_keys": {"keys": [{"name": "a"}]}}, "either hash or env"),
        ({"api_keys": {"keys": [{"name": "a", "hash": "secret"}]}}, "hash"),
        ({"api_keys": {"keys": []}}, "keys"),
        ({"rate_limits": [{"rate": "fast"}]}, "rate"),
        ({"rate_limits": [{"rate": "1/s", "per": ["user"]}]}, "per"),
        ({"cors": {"allow_origins": ["*"], "allow_credentials": True}}, "name them"),
        ({"priorities": {"default": "medium"}}, "none of the classes"),
        ({"api_keys": {"keys": [{"name": "a", "env": "A", "priority": "high"}]}}, "none are configured"),
        ({"time": 3}, "unknown option"),
        ({"timeouts": [{"seconds": 0}]}, "seconds"),
    ],
)
def test_wrong_options_are_refused(gateway: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DeploymentConfig.of("deployment 'd'", {"gateway": gateway})


# -- the middleware ---------------------------------------------------------------------------------------------------


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    async def who(request: Request) -> str | None:
        return request.scope.get("serve.api_key")

    @app.get("/open")
    async def open() -> str:
        return "open"

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(600)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    return app


def test_api_keys() -> None:
    key, hashed = new_key()
    app = application()
    app.add_middleware(
        APIKeys, keys=[{"name": "alice", "hash": hashed, "rate_limit": "3/hour", "priority": "high"}], exempt=["/op*"]
    )
    client = TestClient(app)
    assert client.get("/open").text == '"open"'
    refused = client.get("/who")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "x-api-key" in refused.text
    assert client.get("/who", headers={"x-api-key": "wrong"}).status_code == 401
    assert client.get("/who", headers={"authorization": "Basic YTpi"}).status_code == 401
    assert client.get("/who", headers={"x-api-key": key}).json() == "alice"
    assert client.get("/who", headers={"authorization": f"bearer {key}"}).json() == "alice"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws"):
        pass
    with client.websocket_connect("/ws", headers={"x-api-key": key}) as socket:
        assert socket.receive_text() == "hello"
    assert client.get("/who", headers={"x-api-key": key}).status_code == 429


def test_rate_limits() -> None:
    app = application()
    app.add_middleware(RateLimits, limits=["2/hour", {"rate": "1/hour", "routes": ["/open"], "per": []}])
    client = TestClient(app)
    first = client.get("/open")
    assert first.status_code == 200
    assert first.headers["ratelimit-limit"] == "1"
    assert first.headers["ratelimit-remaining"] == "0"
    refused = client.get("/open")
    assert refused.status_code == 429
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert client.get("/who").status_code == 200
    assert client.get("/who").status_code == 429
    assert TestClient(app, client=("10.0.0.9", 1)).get("/who").status_code == 200


@pytest.mark.parametrize(
    ("client", "forwarded", "counted"),
    [
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("8.8.8.8", "1.2.3.4", "8.8.8.8"),
        ("10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("10.0.0.1", "::ffff:1.2.3.4", "1.2.3.4"),
    ],
)
def test_whose_address_counts(client: str, forwarded: str, counted: str) -> None:
    judge = Judge(GatewayConfig(trusted_proxies=["10.0.0.0/8"]), ProcessMemory())
    assert judge._address(client, [(b"x-forwarded-for", forwarded.encode())]) == counted


def test_time_limits() -> None:
    app = application()
    app.add_middleware(TimeLimits, seconds=600, routes={"/sl*": 0.01})
    client = TestClient(app)
    answer = client.get("/slow")
    assert (answer.status_code, answer.text) == (504, "no answer within 0.01 s\n")
    assert client.get("/open").status_code == 200


def test_pages_of_other_origins_can_read_refusals_and_need_no_key_for_preflights() -> None:
    app = application()
    _, hashed = new_key()
    app.add_middleware(
        Gateway,
        config={
            "api_keys": {"keys": [{"name": "a", "hash": hashed}]},
            "cors": {"allow_origins": ["https://a.example"], "allow_headers": ["x-api-key"]},
        },
    )
    client = TestClient(app)
    asked = {"origin": "https://a.example", "access-control-request-method": "GET"}
    assert client.options("/who", headers=asked).status_code == 200
    refused = client.get("/who", headers={"origin": "https://a.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in client.get("/who", headers={"origin": "https://b.example"}).headers


def test_priorities() -> None:
    """One at a time; of those that wait, the urgent ones first; the last one goes when the line is full."""
    served: list[str] = []

    async def run() -> dict[str, int]:
        go = asyncio.Event()
        inside = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            served.append(scope["path"])
            inside.set()
            await go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        guarded = _Asking(Priorities(app, 1, max_waiting=3, ageing_s=1000))
        transport = httpx.ASGITransport(guarded)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def ask(path: str, priority: str | None) -> int:
                headers = {} if priority is None else {"x-priority": priority}
                return (await client.get(path, headers=headers)).status_code

            async def ask_and_wait(path: str, priority: str | None) -> asyncio.Task[int]:
                before = guarded.asked
                task = asyncio.create_task(ask(path, priority))
                while guarded.asked == before:
                    await asyncio.sleep(0)
                return task

            tasks = {"/first": await ask_and_wait("/first", None)}
            await inside.wait()
            for path, priority in (("/low", "low"), ("/normal", None), ("/left", None)):
                tasks[path] = await ask_and_wait(path, priority)
            tasks["/left"].cancel()
            await asyncio.wait([tasks.pop("/left")])
            for path, priority in (("/boast", "high"), ("/lowest", "low")):
                tasks[path] = await ask_and_wait(path, priority)
            go.set()
            return {path: await task for path, task in tasks.items()}

    statuses = asyncio.run(asyncio.wait_for(run(), 60))
    assert served == ["/first", "/normal", "/boast", "/low"], "without a key nobody is more than normal"
    assert statuses == {"/first": 200, "/low": 200, "/normal": 200, "/boast": 200, "/lowest": 503}


class _Asking:
    """Counts the requests that have come."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        work = asyncio.ensure_future(self.app(scope, receive, send))
        await asyncio.sleep(0)  # it is in line now
        self.asked += 1
        try:
            await work
        except asyncio.CancelledError:
            work.cancel()
            raise


@drawn
@given(st.binary(max_size=40), st.sampled_from([b"x-api-key", b"authorization", b"x-priority", b"x-forwarded-for"]))
def test_no_header_upsets_it(value: bytes, name: bytes) -> None:
    config = GatewayConfig.model_validate(
        {
            "api_keys": {"keys": [{"name": "a", "hash": hash_key("k"), "priority": "high"}]},
            "priorities": {},
            "rate_limits": [{"rate": "1000/s", "per": ["ip", "route"]}],
            "trusted_proxies": ["0.0.0.0/0"],
        }
    )
    judge = Judge(config, ProcessMemory())
    for fields in ([(name, value)], [(b"x-api-key", b"k"), (name, value)]):
        assert judge.judge("/", fields, "127.0.0.1", time.monotonic()).status in (0, 401)


# -- in proxies -------------------------------------------------------------------------------------------------------


def test_what_a_proxy_decides_is_not_decided_again() -> None:
    options = {"rate_limits": [{"rate": "1/day"}], "cors": {"allow_origins": ["https://a.example"]}}
    split = Split(1, DeploymentID("d"), None, 1.0)
    route = Route("/app", "a", (split,), gateway=GatewayConfig.model_validate(options).model_dump(mode="json"))
    judges = Judges()
    judges.update([route])
    client = ("10.0.0.1", 1)

    def head(*fields: tuple[bytes, bytes]) -> RequestHead:
        return RequestHead(b"GET", b"/app", "/app", "1.1", list(fields))

    assert judges.judge("other", "/", head(), client) is None
    assert judges.judge("a", "/", head((b"origin", b"https://a.example")), client) is None, "left to the replica"
    passed = judges.judge("a", "/", head(), client)
    assert passed.status == 0
    assert judges.judge("a", "/", head(), client).status == 429

    name, value = judged_line(passed).rstrip().split(b": ", 1)
    assert name == JUDGED
    assert name in OURS, "clients cannot say so themselves"
    app = application()
    app.add_middleware(Gateway, config=options)

    async def from_proxy(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, VERDICT: value}, receive, send)

    for _ in range(3):
        answer = TestClient(from_proxy).get("/who")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-remaining"] == "0"

    judges.update([])
    assert judges.judge("a", "/", head(), client) is None


def test_keys_that_only_replicas_have_are_left_to_them() -> None:
    keys = {"api_keys": {"keys": [{"name": "carol", "env": "NO_SUCH_VARIABLE"}]}}
    judges = Judges()
    judges.update([Route("/", "a", (), gateway=GatewayConfig.model_validate(keys).model_dump(mode="json"))])
    assert judges.judge("a", "/", RequestHead(b"GET", b"/", "/", "1.1", []), None) is None


# -- in config files --------------------------------------------------------------------------------------------------

GUARDED = """
import serve

@serve.deployment
def detail() -> str:
    return "detail"

@serve.deployment
class Front:
    def __init__(self, detail) -> None:
        pass

app = Front.bind(detail.bind())
"""


def test_a_config_file_sets_the_gateway_of_the_ingress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guarded_application.py").write_text(GUARDED)
    monkeypatch.syspath_prepend(str(tmp_path))
    gateway = {"rate_limits": [{"rate": "5/s"}], "priorities": {}}
    app = ServeApplicationSchema.model_validate({"import_path": "guarded_application:app", "gateway": gateway})
    assembled = msgspec.msgpack.decode(assemble(app.model_dump_json(exclude_unset=True).encode(), ""), type=Assembled)
    assert assembled.spec is not None, assembled.error
    assert assembled.spec.declared is not None
    assert assembled.spec.declared["gateway"] == gateway
    gateways = {each.id.name: each.config["gateway"] for each in assembled.spec.deployments}
    assert gateways["detail"] is None
    assert gateways["Front"]["rate_limits"][0]["rate"] == "5/s"
    assert gateways["Front"]["priorities"]["classes"] == ["high", "normal", "low"]
    with pytest.raises(ValueError, match="rate"):
        ServeApplicationSchema.model_validate({"import_path": "a:b", "gateway": {"rate_limits": [{"rate": "fast"}]}})
