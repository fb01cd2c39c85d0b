"""The same behaviours in the test's own process and in real replicas, and what the former has besides."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import StreamingResponse

import serve
from serve.handle import DeploymentHandle, DeploymentResponse, in_process
from serve.testing import LocalApplication, local
from tests.eventually import eventually
from tests.serve.conftest import url


class Mode(Protocol):
    """Where applications run."""

    def run(self, app: serve.Application, **options: Any) -> DeploymentHandle: ...

    def get(self, path: str, **options: Any) -> httpx.Response: ...

    def post(self, path: str, **options: Any) -> httpx.Response: ...


class InProcess:
    def run(self, app: serve.Application, **options: Any) -> DeploymentHandle:
        return serve.run(app, local_testing_mode=True, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._send("GET", path, options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._send("POST", path, options))

    async def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        app: Any = in_process.applications["default"]
        transport = httpx.ASGITransport(app.asgi, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **options)


class InReplicas:
    def run(self, app: serve.Application, **options: Any) -> DeploymentHandle:
        return serve.run(app, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(url(path), timeout=30, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(url(path), timeout=30, **options)


@pytest.fixture(params=["in this process", "in replicas"])
def mode(request: pytest.FixtureRequest) -> Iterator[Mode]:
    if request.param == "in replicas":
        request.getfixturevalue("apps")
        yield InReplicas()
        return
    yield InProcess()
    in_process.close_all()


# -- the same in both ------------------------------------------------------------------------------------


def test_plain_functions_and_classes(mode: Mode) -> None:
    @serve.deployment
    def hello(request: Request) -> str:
        return f"Hello {request.query_params['name']}!"

    @serve.deployment
    class Greeter:
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        async def __call__(self, request: Request) -> dict[str, str]:
            return {"greeting": self.greeting, "path": request.url.path}

        def greet(self, name: str, mark: str = "!") -> str:
            return f"{self.greeting} {name}{mark}"

    mode.run(hello.bind())
    assert mode.get("/?name=Ray").text == "Hello Ray!"
    handle = mode.run(Greeter.bind("Hi"), route_prefix="/greet")
    assert mode.get("/greet/you").json() == {"greeting": "Hi", "path": "/greet/you"}
    assert mode.get("/elsewhere").status_code == 404
    assert mode.get("/-/healthz").status_code == 200
    assert handle.greet.remote("you", mark="?").result() == "Hi you?"
    assert handle.options(method_name="greet").remote("me").result(timeout_s=20) == "Hi me!"
    assert serve.get_app_handle("default").greet.remote("a").result() == "Hi a!"
    assert serve.get_deployment_handle("Greeter", "default").greet.remote("b").result() == "Hi b!"


def test_fastapi_with_its_lifespan(mode: Mode) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        yield {"loaded": 7}

    api = FastAPI(lifespan=lifespan)

    @serve.deployment
    @serve.ingress(api)
    class Adder:
        def __init__(self, increment: int) -> None:
            self.increment = increment

        @api.get("/add/{number}")
        async def add(self, number: int) -> int:
            return number + self.increment

        @api.post("/sum")
        def sum(self, numbers: list[int]) -> int:
            return sum(numbers) + self.increment

        @api.get("/loaded")
        def loaded(self, request: Request) -> int:
            return int(request.state.loaded)

    mode.run(Adder.bind(3), route_prefix="/calc")
    assert mode.get("/calc/add/4").json() == 7
    assert mode.post("/calc/sum", json=[1, 2]).json() == 6
    assert mode.post("/calc/sum", json=["x"]).status_code == 422
    assert mode.get("/calc/loaded").json() == 7
    assert mode.get("/calc/openapi.json").status_code == 200


def test_composition(mode: Mode) -> None:
    @serve.deployment
    class Adder:
        def __init__(self, increment: int) -> None:
            self.increment = increment

        def add(self, number: int) -> int:
            return number + self.increment

    @serve.deployment
    class Ingress:
        def __init__(self, adders: dict[str, DeploymentHandle]) -> None:
            self.one, self.two = adders["one"], adders["two"]

        async def __call__(self, request: Request) -> int:
            return await self.both(int(request.query_params["number"]))

        async def both(self, number: int) -> int:
            return await self.two.add.remote(self.one.add.remote(number))

    handle = mode.run(Ingress.bind({"one": Adder.bind(1), "two": Adder.bind(10)}))
    assert mode.get("/?number=3").json() == 14
    assert handle.both.remote(handle.both.remote(0)).result() == 22
    assert serve.get_deployment_handle("Adder_1").add.remote(1).result() == 11


def test_another_deployment_becomes_the_ingress(mode: Mode) -> None:
    @serve.deployment
    class Inner:
        def __call__(self) -> str:
            return "inner"

    @serve.deployment
    class Outer:
        def __init__(self, inner: DeploymentHandle) -> None:
            self.inner = inner

        async def __call__(self) -> str:
            return f"outer, {await self.inner.remote()}"

    for app, answer in ((Inner.bind(), "inner"), (Outer.bind(Inner.bind()), "outer, inner"), (Inner.bind(), "inner")):
        mode.run(app)
        assert {mode.get("/").text for _ in range(5)} == {answer}
    mode.run(Inner.bind(), route_prefix="/there")
    assert (mode.get("/there").text, mode.get("/").status_code) == ("inner", 404)


def test_errors(mode: Mode) -> None:
    @serve.deployment
    class Fragile:
        async def __call__(self, request: Request) -> str:
            raise KeyError("http")

        def lookup(self, key: str) -> str:
            raise KeyError(key)

        async def wait(self) -> str:
            me = serve.get_app_handle("default")
            return str(me.lookup.remote("x").result())

        async def stream(self) -> AsyncIterator[int]:
            yield 1
            raise KeyError("later")

    handle = mode.run(Fragile.bind())
    assert mode.get("/").status_code == 500
    with pytest.raises(KeyError, match="shoe"):
        handle.lookup.remote("shoe").result()
    with pytest.raises(AttributeError, match="lookup"):
        handle.nothing.remote().result()
    with pytest.raises(TypeError, match="pickle"):
        handle.lookup.remote(threading.Lock())
    with pytest.raises(TypeError, match="stream=True"):
        handle.stream.remote().result()
    with pytest.raises(KeyError, match="shoe"):
        handle.lookup.remote(handle.lookup.remote("shoe")).result()
    failing = handle.options(stream=True).stream.remote()
    assert next(failing) == 1
    with pytest.raises(KeyError, match="later"):
        next(failing)


def test_a_constructor_that_raises(mode: Mode) -> None:
    @serve.deployment
    class Bad:
        def __init__(self) -> None:
            raise LookupError("no such weights")

    with pytest.raises(RuntimeError, match="no such weights"):
        mode.run(Bad.bind())


def test_streams(mode: Mode) -> None:
    @serve.deployment
    class Streamer:
        def generate(self, limit: int) -> Iterator[str]:
            for number in range(limit):
                yield f"{number},"

        async def agenerate(self, limit: int) -> AsyncIterator[int]:
            for number in range(limit):
                yield number

        def __call__(self, request: Request) -> StreamingResponse:
            return StreamingResponse(self.generate(int(request.query_params["limit"])), media_type="text/plain")

    handle = mode.run(Streamer.bind()).options(stream=True)
    assert mode.get("/?limit=5").text == "0,1,2,3,4,"
    assert list(handle.generate.remote(3)) == ["0,", "1,", "2,"]
    assert list(handle.agenerate.remote(5)) == [0, 1, 2, 3, 4]

    async def collect() -> list[int]:
        return [item async for item in handle.agenerate.remote(4)]

    assert asyncio.run(collect()) == [0, 1, 2, 3]


def test_batches(mode: Mode) -> None:
    @serve.deployment
    class Model:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        @serve.batch(max_batch_size=4, batch_wait_timeout_s=20)
        async def predict(self, items: list[int]) -> list[object]:
            self.sizes.append(len(items))
            return [ValueError("odd one out") if item < 0 else item * 2 for item in items]

        async def __call__(self, item: int) -> object:
            return await self.predict(item)

        def seen(self) -> list[int]:
            return self.sizes

    handle = mode.run(Model.bind())
    responses = [handle.remote(item) for item in (1, 2, -3, 4)]
    assert [response.result() for response in (responses[0], responses[1], responses[3])] == [2, 4, 8]
    with pytest.raises(ValueError, match="odd one out"):
        responses[2].result()
    assert handle.seen.remote().result() == [4]


def test_multiplexed_models(mode: Mode) -> None:
    @serve.deployment
    class Models:
        def __init__(self) -> None:
            self.loads: list[str] = []

        @serve.multiplexed(max_num_models_per_replica=2)
        async def get_model(self, model_id: str) -> str:
            self.loads.append(model_id)
            return f"model {model_id}"

        async def __call__(self, request: Request) -> str:
            return str(await self.get_model(serve.get_multiplexed_model_id()))

        async def ask(self) -> str:
            return str(await self.get_model())

        def loaded(self) -> list[str]:
            return self.loads

    handle = mode.run(Models.bind())
    for model_id in ("a", "b", "a", "c", "b"):
        assert handle.options(multiplexed_model_id=model_id).ask.remote().result() == f"model {model_id}"
    assert handle.loaded.remote().result() == ["a", "b", "c", "b"]
    assert mode.get("/", headers={"serve_multiplexed_model_id": "c"}).text == "model c"


def test_user_config_changes_without_a_new_object(mode: Mode) -> None:
    @serve.deployment(user_config={"threshold": 1})
    class Configured:
        def __init__(self) -> None:
            self.calls = 0

        def reconfigure(self, config: dict[str, int]) -> None:
            self.threshold = config["threshold"]

        def __call__(self) -> tuple[int, int]:
            self.calls += 1
            return self.threshold, self.calls

    handle = mode.run(Configured.bind())
    assert tuple(handle.remote().result()) == (1, 1)
    mode.run(Configured.options(user_config={"threshold": 2}).bind())
    _, calls = eventually(lambda: (seen := handle.remote().result())[0] == 2 and seen, 30, "the new user_config")
    assert calls > 1


def test_cancelling(mode: Mode) -> None:
    @serve.deployment
    class Sleeper:
        def __init__(self) -> None:
            self.counts = {"begun": 0, "cancelled": 0}

        async def __call__(self) -> None:
            self.counts["begun"] += 1
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self.counts["cancelled"] += 1
                raise

        async def forever(self) -> AsyncIterator[int]:
            yield 0
            await self()

        def count(self, what: str) -> int:
            return self.counts[what]

    handle = mode.run(Sleeper.bind())

    def wait_for(what: str, number: int) -> None:
        eventually(lambda: handle.count.remote(what).result() == number, 60, f"{number} calls {what}")

    response = handle.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.2)
    wait_for("begun", 1)
    response.cancel()
    assert response.cancelled()
    with pytest.raises(serve.errors.RequestCancelledError):
        response.result()
    wait_for("cancelled", 1)
    stream = handle.options(stream=True).forever.remote()
    assert next(stream) == 0
    wait_for("begun", 2)
    stream.cancel()
    with pytest.raises(serve.errors.RequestCancelledError):
        next(stream)
    wait_for("cancelled", 2)

    async def give_up() -> None:
        asked = asyncio.ensure_future(handle.remote())
        await asyncio.sleep(0)  # now somebody waits; the responses below may be there before anybody has to
        while await handle.count.remote("begun") < 3:
            pass
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(give_up())
    wait_for("cancelled", 3)


def test_a_full_line_refuses(mode: Mode) -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
    class Slow:
        async def __call__(self) -> None:
            await asyncio.Event().wait()

    handle = mode.run(Slow.bind(), route_prefix=None)
    first, second, third = handle.remote(), handle.remote(), handle.remote()
    with pytest.raises(serve.errors.BackPressureError, match="max_queued_requests"):
        third.result(timeout_s=30)
    for response in (second, first):
        response.cancel()
        with pytest.raises(serve.errors.RequestCancelledError):
            response.result()


def test_a_replica_knows_itself_and_its_requests(mode: Mode) -> None:
    @serve.deployment
    class Inner:
        def __call__(self) -> str:
            return serve.context.get_request_context().request_id

    @serve.deployment
    class Outer:
        def __init__(self, inner: DeploymentHandle) -> None:
            self.inner = inner
            self.named = serve.get_replica_context().deployment

        async def __call__(self, request: Request) -> list[Any]:
            context = serve.get_replica_context()
            mine = serve.context.get_request_context().request_id
            return [self.named, context.app_name, context.servable_object is self, mine, await self.inner.remote()]

    mode.run(Outer.bind(Inner.bind()))
    answer = mode.get("/", headers={"x-request-id": "r1"})
    assert answer.headers["x-request-id"] == "r1"
    assert answer.json() == ["Outer", "default", True, "r1", "r1"]
    with pytest.raises(serve.RayServeException, match="no replica"):
        serve.get_replica_context()


def test_responses_that_are_misused_are_refused_with_advice(mode: Mode) -> None:
    @serve.deployment
    class Inner:
        def __call__(self) -> int:
            return 1

    @serve.deployment
    class Outer:
        def __init__(self, inner: DeploymentHandle) -> None:
            self.inner = inner

        async def wrong(self) -> int:
            return self.inner.remote().result()

        def right(self) -> int:
            return self.inner.remote().result()

        async def forgotten(self) -> DeploymentResponse:
            return self.inner.remote()

        async def misused(self) -> object:
            return self.inner.remote().real

        async def nested(self) -> int:
            return await self.inner.remote([self.inner.remote()])

    handle = mode.run(Outer.bind(Inner.bind()))
    with pytest.raises(TypeError, match="can be no result and no part of an argument; await it"):
        handle.forgotten.remote().result()
    with pytest.raises(AttributeError, match="has no attribute 'real'; await it"):
        handle.misused.remote().result()
    with pytest.raises(TypeError, match="can be no result and no part of an argument; await it"):
        handle.nested.remote().result()
    with pytest.raises(RuntimeError, match="await the response"):
        handle.wrong.remote().result()
    assert handle.right.remote().result() == 1


def test_handles_travel(mode: Mode) -> None:
    @serve.deployment
    class Worker:
        async def ask(self, handle: DeploymentHandle, number: int) -> int:
            return await handle.remote(number)

        def __call__(self, number: int) -> int:
            return -number

    handle = mode.run(Worker.bind())
    assert handle.ask.remote(handle, 3).result() == -3


# -- in this process alone --------------------------------------------------------------------------------


class Box:
    """Cannot be pickled, like many a test double."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[object] = []

    def keep(self, value: object) -> None:
        self.seen.append(value)


@serve.deployment
class Keeper:
    def __init__(self, box: Box | None = None) -> None:
        self.box = box

    def keep(self, value: object) -> int:
        assert self.box is not None
        self.box.keep(value)
        return os.getpid()

    def fail(self) -> None:
        raise LookupError("here")


def test_no_process_and_no_port() -> None:
    before = set(threading.enumerate())
    with local(Keeper.bind(Box()), copies=False) as app:
        assert app.handle.keep.remote(1).result() == os.getpid()
    eventually(lambda: set(threading.enumerate()) <= before)  # idle threads of a pool leave by themselves


def test_test_doubles_are_handed_over_as_they_are() -> None:
    box, value = Box(), [1]
    with local(Keeper.bind(box), copies=False) as app:
        app.handle.keep.remote(value).result()
        assert box.seen[0] is value
        assert app.instance().box is box
    with pytest.raises(TypeError, match="copies=False"):
        local(Keeper.bind(box))
    with pytest.raises(serve.errors.DeploymentUnavailableError, match="no application"):
        app.handle.keep.remote(1).result()


def test_rays_name_of_the_mode() -> None:
    handle = serve.run(Keeper.bind(), _local_testing_mode=True, name="rays", route_prefix=None)
    with pytest.raises(LookupError, match="here"):
        handle.fail.remote().result()
    serve.shutdown()
    with pytest.raises(serve.errors.DeploymentUnavailableError, match="no application"):
        handle.fail.remote().result()


def test_errors_have_the_traceback_of_the_users_code() -> None:
    with local(Keeper.bind()) as app, pytest.raises(LookupError) as caught:
        app.handle.fail.remote().result()
    assert caught.traceback[-1].path == Path(__file__)
    assert caught.traceback[-1].name == "fail"


def test_websockets_and_errors_through_the_test_client() -> None:
    api = FastAPI()

    @serve.deployment
    @serve.ingress(api)
    class Chat:
        @api.websocket("/ws")
        async def chat(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text((await socket.receive_text()).upper())
            await socket.close()

        @api.get("/boom")
        async def boom(self) -> None:
            raise LookupError("boom")

    with local(Chat.bind()) as app:
        client = app.client()
        with client.websocket_connect("/ws") as socket:
            socket.send_text("hi")
            assert socket.receive_text() == "HI"
        with pytest.raises(LookupError, match="boom"):
            client.get("/boom")
        assert app.client(raise_server_exceptions=False).get("/boom").status_code == 500


def test_the_fixtures_end_what_they_start(
    serve_app: Callable[..., LocalApplication[Any]], serve_client: Callable[..., Any]
) -> None:
    @serve.deployment
    def hello() -> str:
        return "hello"

    assert serve_app(hello.bind(), name="one").handle.remote().result() == "hello"
    assert serve_client(hello.bind(), name="two").get("/").text == "hello"


def test_a_project_of_its_own_has_the_fixtures_and_loads_nothing_without_them(tmp_path: Path) -> None:
    (plugin,) = [each for each in importlib.metadata.entry_points(group="pytest11") if each.name == "serve"]
    assert plugin.value == "serve.pytest_plugin"
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_nothing_is_imported():\n"
        "    assert 'fastapi' not in sys.modules and 'core' not in sys.modules\n"
        "def test_one(serve_client):\n"
        "    import serve\n"
        "    @serve.deployment\n"
        "    def hello(): return 'hello'\n"
        "    assert serve_client(hello.bind()).get('/').text == 'hello'\n"
    )
    # the other plugins there are would load half of what is looked for
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin.value, tmp_path]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "2 passed" in done.stdout
