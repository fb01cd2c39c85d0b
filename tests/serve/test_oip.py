"""The Open Inference Protocol with its usual client (tritonclient), by HTTP and by gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import gevent
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

import core
import serve
from serve import session
from serve.errors import ModelLoadError, RayServeException
from tests.eventually import eventually
from tests.serve import grpc_services  # noqa: F401 - before the first session: it opens grpc's own descriptors
from tests.serve.conftest import url
from tests.serve.oip_models import Broken, Counter, Echo, Everything, Store

# gevent, which the client's HTTP part uses, keeps descriptors for the life of the process; made here, they are no leak
gevent.sleep(0)

#: seconds that a request may take before a test fails; only failing tests wait that long
PATIENCE = 60


@pytest.fixture(scope="module", autouse=True)
def _served() -> Iterator[None]:
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    try:
        serve.run(
            serve.deployment(serve.oip.Models).bind(
                Everything.bind(), Broken.bind(), mirror=Echo.bind(), steps=Counter.bind()
            )
        )
        serve.run(Store.options(num_replicas=2).bind(), name="store", route_prefix="/store")
        yield
    finally:
        serve.shutdown()
        core.shutdown()


class Client:
    """A client of one application by one of the two ways."""

    def __init__(self, way: str, app: str = "default", prefix: str = "") -> None:
        self.kind: ModuleType
        if way == "http":
            self.kind = tritonclient.http
            self.client = self.kind.InferenceServerClient(
                f"127.0.0.1:{serve.get_http_port()}{prefix}", network_timeout=PATIENCE
            )
            self._more: dict[str, Any] = {}
        else:
            self.kind = tritonclient.grpc
            self.client = self.kind.InferenceServerClient(f"127.0.0.1:{serve.get_grpc_port()}")
            self._more = {"headers": {"application": app}}

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: getattr(self.client, name)(*args, **kwargs, **self._more)

    def tensor(self, name: str, array: Any, datatype: str, shape: Any = None, **options: Any) -> Any:
        """Return an input."""
        made = self.kind.InferInput(name, list(array.shape if shape is None else shape), datatype)
        made.set_data_from_numpy(array, **options)
        return made


@pytest.fixture(params=["http", "grpc"])
def way(request: pytest.FixtureRequest) -> str:
    """One of the two ways."""
    return str(request.param)


@pytest.fixture
def client(way: str) -> Iterator[Client]:
    """A client of the application of several models."""
    made = Client(way)
    yield made
    made.client.close()


@pytest.fixture
def store(way: str) -> Iterator[Client]:
    """A client of the repository."""
    made = Client(way, "store", "/store")
    yield made
    made.client.close()


X = np.arange(6, dtype=np.float32).reshape(2, 3)
TEXT = np.array([b"\xff\x00", "größer".encode()], dtype=object)


def one(number: int) -> Any:
    """Return a tensor of one whole number."""
    return np.array([number], dtype=np.int32)


def test_server_and_models_tell_what_they_are(client: Client, way: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mirror", "2")
    server, model = client.get_server_metadata(), client.get_model_metadata("mirror")
    if way == "grpc":
        assert list(server.extensions) == ["binary_tensor_data", "model_repository"]
        assert list(model.versions) == ["1", "2"]
        assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [
            ("x", "FP32", [-1, 3]),
            ("text", "BYTES", [-1]),
        ]
    else:
        assert server["extensions"] == ["binary_tensor_data", "model_repository"]
        assert model["versions"] == ["1", "2"]
        assert model["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [-1, 3]}


def test_inference(client: Client) -> None:
    inputs = [client.tensor("x", X, "FP32"), client.tensor("text", TEXT, "BYTES")]
    result = client.infer("mirror", inputs, model_version="2", request_id="r7")
    assert np.array_equal(result.as_numpy("y"), 2 * X)
    assert list(result.as_numpy("said")) == list(TEXT)
    answer = result.get_response()
    version, request_id = (
        (answer["model_version"], answer["id"]) if isinstance(answer, dict) else (answer.model_version, answer.id)
    )
    assert (version, request_id) == ("2", "r7")
    only = client.infer("mirror", inputs, outputs=[client.kind.InferRequestedOutput("said")])
    assert only.as_numpy("y") is None
    assert list(only.as_numpy("said")) == list(TEXT)


def test_all_datatypes_and_parameters(client: Client) -> None:
    kinds = {
        "BOOL": np.bool_, "UINT8": np.uint8, "INT16": np.int16, "UINT64": np.uint64, "INT64": np.int64,
        "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
    }  # fmt: skip
    inputs = [client.tensor(name.lower(), np.ones((3, 2), dtype=kind), name) for name, kind in kinds.items()]
    inputs.append(client.tensor("bytes", np.array([[b"a", b""]], dtype=object), "BYTES"))
    result = client.infer("Everything", inputs, request_id="id", parameters={"level": "high"})
    assert list(result.as_numpy("text")) == [b"50 high id"]


@pytest.mark.parametrize(
    ("model", "inputs", "http", "grpc", "text"),
    [
        ("nobody", {}, 404, "NOT_FOUND", "there is no model 'nobody'; there are Broken, Everything, mirror"),
        ("mirror", {"x": (X, "FP32")}, 400, "INVALID_ARGUMENT", "model 'mirror' needs input 'text'"),
        ("mirror", {"z": (X, "FP32")}, 400, "INVALID_ARGUMENT", "model 'mirror' has no input 'z'; it has x, text"),
        ("mirror", {"x": (X.T, "FP32")}, 400, "INVALID_ARGUMENT", "input 'x' has shape [-1, 3] (-1: any), not [3, 2]"),
        ("Broken", {"x": (X, "FP32")}, 400, "INVALID_ARGUMENT", "input 'x' is INT32, not FP32"),
        ("Broken", {"x": (one(0), "INT32")}, 500, "INTERNAL", "RuntimeError: out of order"),
        ("Broken", {"x": (one(1), "INT32")}, 500, "INTERNAL", "predict()'s output 'y' has shape [1]"),
        ("Broken", {"x": (one(2), "INT32")}, 500, "INTERNAL", "predict() returned <U1 for output 'y'"),
        ("Broken", {"x": (one(3), "INT32")}, 503, "UNAVAILABLE", "the sensor sleeps"),
        ("steps", {"n": (one(3), "INT32")}, 501, "UNIMPLEMENTED", "model 'steps' answers in streams"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    client: Client, way: str, model: str, inputs: Any, http: int, grpc: str, text: str
) -> None:
    tensors = [client.tensor(name, np.ascontiguousarray(array), datatype) for name, (array, datatype) in inputs.items()]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, tensors)
    assert caught.value.status() == (str(http) if way == "http" else f"StatusCode.{grpc}")
    assert text in caught.value.message()


def test_a_version_that_is_not_there(client: Client) -> None:
    with pytest.raises(InferenceServerException, match="has no version '9'; it has 1, 2"):
        client.infer("mirror", [client.tensor("x", X, "FP32"), client.tensor("text", TEXT, "BYTES")], model_version="9")
    with pytest.raises(InferenceServerException, match="there is no output 'other'; there are y, said"):
        wanted = [client.kind.InferRequestedOutput("other")]
        client.infer("mirror", [client.tensor("x", X, "FP32"), client.tensor("text", TEXT, "BYTES")], outputs=wanted)


def test_json_without_binary_data() -> None:
    body = {
        "id": "1",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [[1, 2.5, 3]]},
            {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["größer"]},
        ],
    }
    with httpx.Client(base_url=url(), timeout=PATIENCE) as plain:
        assert plain.post("/v2/models/mirror/infer", json=body).json() == {
            "model_name": "mirror",
            "model_version": "2",
            "id": "1",
            "outputs": [
                {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 5.0, 6.0]},
                {"name": "said", "datatype": "BYTES", "shape": [1], "data": ["größer"]},
            ],
        }
        assert plain.get("/v2").json()["name"] == "skate-serve"
        assert plain.get("/v2/models/mirror/ready").json() == {"name": "mirror", "ready": True}
        assert plain.get("/v2/models/mirror/infer").status_code == 405
        assert plain.get("/v2/elsewhere").status_code == 404
        for wrong in (b"{", b"[]", b'{"inputs": 1}', b"\xff"):
            answer = plain.post("/v2/models/mirror/infer", content=wrong)
            assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_streams_of_answers() -> None:
    """They are in gRPC alone."""
    client = Client("grpc")
    answers: list[Any] = []
    done = threading.Event()
    stub = client.client

    def callback(result: Any, error: Any) -> None:
        answers.append(error or int(result.as_numpy("i")[0]))
        if len(answers) == 5:
            done.set()

    stub.start_stream(callback, headers={"application": "default"})
    for number in (3, 1):
        stub.async_stream_infer("steps", [client.tensor("n", one(number), "INT32")])
    stub.async_stream_infer("nobody", [client.tensor("n", one(1), "INT32")])
    assert done.wait(PATIENCE)
    stub.stop_stream()
    stub.close()
    assert answers[:4] == [0, 1, 2, 0]
    assert "there is no model 'nobody'" in str(answers[4])


def index(store: Client) -> dict[str, str]:
    """Return the repository's models and their states."""
    found = store.get_model_repository_index()
    entries = found if isinstance(found, list) else [{"name": each.name, "state": each.state} for each in found.models]
    return {entry["name"]: entry["state"] for entry in entries}


def test_models_are_loaded_and_unloaded(store: Client, way: str) -> None:
    ten = np.array([10.0])
    assert index(store) == {"2": "UNAVAILABLE", "3": "UNAVAILABLE"}
    with pytest.raises(InferenceServerException, match="model '2' is not loaded"):
        store.infer("2", [store.tensor("x", ten, "FP64")])
    store.load_model("2")
    assert index(store) == {"2": "READY", "3": "UNAVAILABLE"}
    assert store.is_model_ready("2")
    for _ in range(4):  # whichever replica answers
        assert store.infer("2", [store.tensor("x", ten, "FP64")]).as_numpy("y")[0] == 20.0
    with pytest.raises(InferenceServerException) as caught:
        store.load_model("wrong")
    assert "ValueError: could not convert string to float: 'wrong'" in caught.value.message()
    assert "Traceback" not in caught.value.message()
    assert index(store)["wrong"] == "UNAVAILABLE"
    store.unload_model("2")
    store.unload_model("wrong")
    assert index(store) == {"2": "UNAVAILABLE", "3": "UNAVAILABLE"}
    with pytest.raises(InferenceServerException, match="holds no model '2'"):
        store.unload_model("2")


def test_models_in_python_and_loading_keeps_nobody_waiting() -> None:
    serve.run(Store.bind(), name="python", route_prefix=None)
    handle = serve.get_app_handle("python")
    serve.load_model("3", app_name="python", timeout_s=PATIENCE)
    for seconds in (0.2, 2, 20):  # on a slow machine it may be over before the order is given
        with pytest.raises(TimeoutError, match="it goes on"):
            serve.load_model("slow", app_name="python", timeout_s=seconds)
        if any(each.model_id == "slow" for each in listed()):
            break
    eventually(lambda: {each.model_id: each.state for each in listed()} == {"3": "READY", "slow": "LOADING"}, PATIENCE)
    request = serve.oip.InferRequest("3", [serve.oip.Tensor("x", "FP64", np.array([2.0]))])
    assert handle.infer.remote(request).result(PATIENCE).outputs[0].array[0] == 6.0
    handle.let_go.remote().result(PATIENCE)
    serve.load_model("slow", app_name="python", timeout_s=PATIENCE)
    (slow,) = [each for each in listed() if each.model_id == "slow"]
    assert (slow.state, slow.ordered, set(slow.replicas.values())) == ("READY", True, {"READY"})
    with pytest.raises(ModelLoadError, match="could not convert string to float"):
        serve.load_model("wrong", app_name="python", timeout_s=PATIENCE)
    assert "in get_model" in next(each.reason for each in listed() if each.model_id == "wrong")
    serve.unload_model("slow", app_name="python", timeout_s=PATIENCE)
    assert {each.model_id for each in listed()} == {"3", "wrong"}
    serve.delete("python")
    with pytest.raises(RayServeException, match="there is no application 'python'"):
        serve.list_models(app_name="python")


def listed() -> list[Any]:
    """Return the models of the application that the test above uses."""
    return serve.list_models(app_name="python")


def test_a_new_replica_loads_what_was_ordered() -> None:
    serve.run(Store.bind(), name="python", route_prefix=None)
    serve.load_model("3", app_name="python", timeout_s=PATIENCE)
    serve.run(Store.options(num_replicas=2).bind(), name="python", route_prefix=None)

    def both() -> bool:
        (three,) = listed()
        return three.state == "READY" and len(three.replicas) == 2

    eventually(both, PATIENCE)
    serve.delete("python")
    serve.run(Store.bind(), name="python", route_prefix=None)
    assert listed() == []
    serve.delete("python")


def test_a_deployment_without_a_loader() -> None:
    with pytest.raises(RayServeException, match=r"needs exactly one method with @serve.multiplexed"):
        serve.load_model("a", timeout_s=PATIENCE)
    with pytest.raises(ValueError, match="str that is not empty"):
        serve.load_model("")


def test_a_repository_in_the_tests_own_process() -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [4]}]}
    with serve.testing.local(Store.bind()) as store:
        client = store.client()
        assert client.post("/v2/models/2/infer", json=body).status_code == 404
        assert client.post("/v2/repository/models/2/load").status_code == 200
        assert client.post("/v2/models/2/infer", json=body).json()["outputs"][0]["data"] == [8.0]
        wrong = client.post("/v2/repository/models/wrong/load")
        assert (wrong.status_code, wrong.json()["error"].splitlines()) == (
            400,
            ["model 'wrong' cannot be loaded: ValueError: could not convert string to float: 'wrong'"],
        )
        index = {each["name"]: each["state"] for each in client.post("/v2/repository/index").json()}
        assert index == {"2": "READY", "3": "UNAVAILABLE", "wrong": "UNAVAILABLE"}
        assert client.get("/v2/health/ready").status_code == 503
        assert client.post("/v2/repository/models/wrong/unload").status_code == 200
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.post("/v2/repository/models/2/unload").status_code == 200
        assert client.post("/v2/repository/models/2/unload").status_code == 400
