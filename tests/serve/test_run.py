"""Applications with real replicas: what Ray Serve's users write, with only the import changed."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import StreamingResponse
from websockets.sync.client import connect

import core
import serve
from serve.handle import DeploymentHandle, DeploymentResponse
from tests.serve.conftest import url

pytestmark = pytest.mark.usefixtures("apps")


def test_a_function() -> None:
    @serve.deployment
    def hello(request: Request) -> str:
        return f"Hello {request.query_params['name']}!"

    serve.run(hello.bind())
    assert httpx.get(url("/?name=Theodore")).text == "Hello Theodore!"


def test_a_class_with_arguments_and_a_handle() -> None:
    @serve.deployment
    class Greeter:
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        async def __call__(self, request: Request) -> dict[str, str]:
            return {"greeting": self.greeting}

        def greet(self, name: str, mark: str = "!") -> str:
            return f"{self.greeting} {name}{mark}"

    handle = serve.run(Greeter.bind("Hi"))
    assert httpx.get(url()).json() == {"greeting": "Hi"}
    assert handle.greet.remote("you", mark="?").result() == "Hi you?"
    assert serve.get_app_handle("default").greet.remote("a").result(timeout_s=10) == "Hi a!"
    assert (
        serve.get_deployment_handle("Greeter", "default").options(method_name="greet").remote("b").result() == "Hi b!"
    )


def test_fastapi() -> None:
    app = FastAPI(title="Adder")

    @serve.deployment
    @serve.ingress(app)
    class Adder:
        def __init__(self, increment: int) -> None:
            self.increment = increment

        @app.get("/add/{number}")
        async def add(self, number: int, twice: bool = False) -> int:
            return number + self.increment * (1 + twice)

        @app.post("/sum")
        def sum(self, numbers: list[int]) -> int:
            return sum(numbers) + self.increment

        @app.websocket("/ws")
        async def chat(self, socket: WebSocket) -> None:
            await socket.accept()
            while (text := await socket.receive_text()) != "bye":
                await socket.send_text(f"{text} {self.increment}")
            await socket.close()

    serve.run(Adder.bind(3), route_prefix="/calc")
    assert httpx.get(url("/calc/add/4")).json() == 7
    assert httpx.get(url("/calc/add/4?twice=1")).json() == 10
    assert httpx.post(url("/calc/sum"), json=[1, 2]).json() == 6
    assert httpx.post(url("/calc/sum"), json=["x"]).status_code == 422
    assert httpx.get(url("/calc/openapi.json")).json()["info"]["title"] == "Adder"
    assert httpx.get(url("/elsewhere")).status_code == 404
    with connect(url("/calc/ws").replace("http", "ws")) as socket:
        socket.send("one")
        assert socket.recv(timeout=10) == "one 3"
        socket.send("bye")


def test_composition_passes_responses_on() -> None:
    @serve.deployment
    class Adder:
        def __init__(self, increment: int) -> None:
            self.increment = increment

        def add(self, number: int) -> int:
            return number + self.increment

    @serve.deployment
    class Combiner:
        def combine(self, first: int, second: int) -> int:
            return first * second

    @serve.deployment
    class Ingress:
        def __init__(
            self, one: DeploymentHandle[object], two: DeploymentHandle[object], join: DeploymentHandle[object]
        ):
            self.one, self.two, self.join = one, two, join

        async def __call__(self, request: Request) -> int:
            number = int(request.query_params["number"])
            response: DeploymentResponse[int] = self.join.combine.remote(
                self.one.add.remote(number), second=self.two.add.remote(number)
            )
            return await response

    handle = serve.run(Ingress.bind(Adder.bind(1), Adder.bind(2), Combiner.bind()))
    assert httpx.get(url("/?number=3")).json() == 4 * 5
    assert set(serve.status().applications["default"].deployments) == {"Ingress", "Adder", "Adder_1", "Combiner"}
    assert handle.app_name == "default"


def test_errors_of_user_code() -> None:
    @serve.deployment
    class Fragile:
        async def __call__(self, request: Request) -> str:
            raise KeyError("http")

        def lookup(self, key: str) -> str:
            raise KeyError(key)

    handle = serve.run(Fragile.bind())
    assert httpx.get(url()).status_code == 500
    with pytest.raises(KeyError, match="shoe"):
        handle.lookup.remote("shoe").result()
    with pytest.raises(AttributeError, match="lookup"):
        handle.nothing.remote().result()
    with pytest.raises(TypeError, match="pickle"):
        handle.lookup.remote(threading.Lock())


def test_streams_by_http_and_by_handle() -> None:
    @serve.deployment
    class Streamer:
        def generate(self, limit: int) -> Iterator[str]:
            for number in range(limit):
                yield f"{number},"

        async def agenerate(self, limit: int) -> AsyncIterator[int]:
            for number in range(limit):
                yield number

        async def fail(self) -> AsyncIterator[int]:
            yield 1
            raise KeyError("later")

        def __call__(self, request: Request) -> StreamingResponse:
            return StreamingResponse(self.generate(int(request.query_params["limit"])), media_type="text/plain")

    handle = serve.run(Streamer.bind()).options(stream=True)
    with httpx.stream("GET", url("/?limit=50")) as response:
        assert "".join(response.iter_text()) == "".join(f"{number}," for number in range(50))
    assert list(handle.generate.remote(3)) == ["0,", "1,", "2,"]
    assert list(handle.agenerate.remote(5)) == [0, 1, 2, 3, 4]
    failing = handle.fail.remote()
    assert next(failing) == 1
    with pytest.raises(KeyError, match="later"):
        next(failing)

    async def collect() -> list[int]:
        return [item async for item in handle.agenerate.remote(4)]

    assert asyncio.run(collect()) == [0, 1, 2, 3]


def test_batches() -> None:
    @serve.deployment
    class Model:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.2)
        async def predict(self, items: list[int]) -> list[object]:
            self.sizes.append(len(items))
            return [ValueError("odd one out") if item < 0 else item * 2 for item in items]

        async def __call__(self, item: int) -> object:
            return await self.predict(item)

        def seen(self) -> list[int]:
            return self.sizes

    handle = serve.run(Model.bind())
    responses = [handle.remote(item) for item in (1, 2, -3, 4)]
    assert [response.result() for response in (responses[0], responses[1], responses[3])] == [2, 4, 8]
    with pytest.raises(ValueError, match="odd one out"):
        responses[2].result()
    assert handle.remote(5).result() == 10
    assert handle.seen.remote().result() == [4, 1]


def test_multiplexed_models() -> None:
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

    handle = serve.run(Models.bind())
    for model_id in ("a", "b", "a", "c", "b"):
        assert handle.options(multiplexed_model_id=model_id).ask.remote().result() == f"model {model_id}"
    assert handle.loaded.remote().result() == ["a", "b", "c", "b"]
    assert httpx.get(url(), headers={"serve_multiplexed_model_id": "c"}).text == "model c"


def test_user_config_changes_without_a_restart() -> None:
    @serve.deployment(user_config={"threshold": 1})
    class Configured:
        def reconfigure(self, config: dict[str, int]) -> None:
            self.threshold = config["threshold"]

        def __call__(self) -> tuple[int, int]:
            return self.threshold, os.getpid()

    handle = serve.run(Configured.bind())
    threshold, pid = handle.remote().result()
    assert threshold == 1
    serve.run(Configured.options(user_config={"threshold": 2}).bind())
    deadline = time.monotonic() + 20
    while handle.remote().result() != (2, pid):
        assert time.monotonic() < deadline, "the new user_config did not arrive"


def test_several_applications_share_the_port() -> None:
    @serve.deployment
    def one() -> str:
        return "one"

    @serve.deployment(num_replicas=2)
    def two() -> str:
        return f"two {serve.get_replica_context().app_name}"

    serve.run(one.bind(), name="first", route_prefix="/first")
    with httpx.Client() as client:
        assert client.get(url("/first")).text == "one"
        serve.run(two.bind(), name="second", route_prefix="/second")
        assert client.get(url("/first")).text == "one"
        assert client.get(url("/second")).text == "two second"
    assert httpx.get(url("/-/routes")).json() == {"/first": "first", "/second": "second"}
    with pytest.raises(ValueError, match="belongs to application 'first'"):
        serve.run(one.bind(), name="third", route_prefix="/first")
    serve.delete("second")
    assert httpx.get(url("/second")).status_code == 404
    assert list(serve.status().applications) == ["first"]


def test_cancelled_requests_stop_in_the_replica() -> None:
    @serve.deployment
    class Sleeper:
        def __init__(self) -> None:
            self.cancelled = 0

        async def __call__(self, request: Request | None = None) -> None:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        def count(self) -> int:
            return self.cancelled

    handle = serve.run(Sleeper.bind())

    def wait_for(number: int) -> None:
        deadline = time.monotonic() + 20
        while handle.count.remote().result() < number:
            assert time.monotonic() < deadline, "the replica's code was not cancelled"

    response = handle.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.5)
    response.cancel()
    with pytest.raises(serve.errors.RequestCancelledError):
        response.result()
    wait_for(1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(url(), timeout=0.5)
    wait_for(2)


def test_a_full_line_refuses() -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
    class Slow:
        def __init__(self) -> None:
            self.go = asyncio.Event()

        async def __call__(self) -> str:
            await self.go.wait()
            return "done"

    handle = serve.run(Slow.bind(), route_prefix=None)
    first, second, third = handle.remote(), handle.remote(), handle.remote()
    with pytest.raises(serve.errors.BackPressureError, match="max_queued_requests"):
        third.result(timeout_s=10)
    second.cancel()
    with pytest.raises(serve.errors.RequestCancelledError):
        second.result()
    first.cancel()
    with pytest.raises(serve.errors.RequestCancelledError):
        first.result()


def test_a_constructor_that_raises_is_reported_and_the_old_version_goes_on() -> None:
    @serve.deployment(name="app")
    def good() -> str:
        return "good"

    @serve.deployment(name="app")
    class Bad:
        def __init__(self) -> None:
            raise LookupError("no such weights")

    with pytest.raises(RuntimeError, match="no such weights"):
        serve.run(Bad.bind(), name="bad", route_prefix=None)
    status = serve.status().applications["bad"]
    assert status.status == "DEPLOY_FAILED"
    assert "LookupError: no such weights" in status.message
    serve.run(good.bind(), name="kept")
    with pytest.raises(RuntimeError, match="revision 1 goes on"):
        serve.run(Bad.bind(), name="kept")
    assert httpx.get(url()).text == "good"
    status = serve.status().applications["kept"]
    assert status.status == "RUNNING"
    assert "rolled back" in status.message


def test_the_processes_are_few() -> None:
    @serve.deployment
    def app() -> int:
        return os.getpid()

    assert core.is_initialized()
    handle = serve.run(app.bind())
    assert handle.remote().result() != os.getpid()


def test_several_applications_at_a_time() -> None:
    @serve.deployment
    class Named:
        def __init__(self, name: str) -> None:
            if name == "broken":
                raise OSError("disk on fire")
            self.name = name

        async def __call__(self) -> str:
            return self.name

    targets = [serve.RunTarget(Named.bind(name), name, f"/{name}") for name in ("one", "two")]
    assert [handle.remote().result() for handle in serve.run_many(targets)] == ["one", "two"]
    assert httpx.get(url("/two")).text == "two"
    with pytest.raises(ValueError, match="there are several named 'one'"):
        serve.run_many([*targets, serve.RunTarget(Named.bind("one"), "one", "/three")])
    broken = serve.RunTarget(Named.bind("broken"), "broken", "/broken")
    with pytest.raises(RuntimeError, match="disk on fire"):
        serve.run_many([serve.RunTarget(Named.bind("three"), "three", "/three"), broken])
    assert httpx.get(url("/three")).text == "three"


def test_who_asks_for_what_is_not_there_is_told_what_is() -> None:
    @serve.deployment
    def hello() -> str:
        return "hello"

    serve.run(hello.bind(), route_prefix=None)
    with pytest.raises(serve.RayServeException, match="no application 'nobody'; there are: 'default'"):
        serve.get_app_handle("nobody")
    with pytest.raises(serve.RayServeException, match="no deployment default#nobody; there are: default#hello"):
        serve.get_deployment_handle("nobody").remote().result()
