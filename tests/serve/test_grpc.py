"""gRPC with real processes: the user's own services, by clients as grpc makes them."""

from __future__ import annotations

import asyncio
import datetime
import os
import queue
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import core
import serve
from serve import session
from serve.config import GRPCOptions
from serve.controller.grpc_front import ACTOR_NAME
from serve.gateway.keys import new_key
from serve.grpc_calls.messages import own
from serve.grpc_ingress.actor import GRPCProxy
from serve.grpc_util import RayServegRPCContext, gRPCInputStream
from serve.handle import local_router
from serve.specs import Targets
from tests.eventually import eventually
from tests.serve.grpc_services import channel, generate

pb, pb_grpc = generate()
#: seconds that a call may take before a test fails; only failing tests wait that long
PATIENCE = 60


@pytest.fixture(scope="module", autouse=True)
def grpc_served() -> Iterator[None]:
    """A session with gRPC on a free port, shared by the tests of this module."""
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(
        http_options={"port": 0},
        grpc_options={"port": 0, "grpc_servicer_functions": [pb_grpc.add_GreeterServicer_to_server]},
    )
    try:
        yield
    finally:
        serve.shutdown()
        core.shutdown()


@pytest.fixture(scope="module")
def greeter(grpc_served: None) -> Iterator[Any]:
    """A stub of the running greeter."""
    serve.run(Greeter.bind(), route_prefix=None)
    with channel() as connected:
        yield pb_grpc.GreeterStub(connected)


@pytest.fixture
def _only_default() -> Iterator[None]:
    """What a test deploys beside the greeter is deleted after it."""
    yield
    for name in serve.status().applications.keys() - {"default"}:
        serve.delete(name)


@serve.deployment
class Greeter:
    """Does what the names in its requests say."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    def Hello(self, request: Any, grpc_context: RayServegRPCContext) -> Any:
        match request.name:
            case "raise":
                raise ValueError("no such name")
            case "abort":
                grpc_context.abort(grpc.StatusCode.ALREADY_EXISTS, "it is here", [("a", "b")])
            case "code":
                grpc_context.set_code(grpc.StatusCode.DATA_LOSS)
                grpc_context.set_details("half of it")
                raise RuntimeError("not told")
            case "wrong":
                return "no message"
            case "who":
                return pb.HelloReply(text=str(grpc_context.peer_identities()))
            case "pid":
                return pb.HelloReply(text=str(os.getpid()))
        grpc_context.set_trailing_metadata([("lang", "en"), ("raw-bin", b"\x00\xff")])
        asked = f"{serve.get_multiplexed_model_id()} {grpc_context.request_id()} {grpc_context.peer().split(':')[0]}"
        return pb.HelloReply(text=f"Hello {request.name} {asked}")

    async def Count(self, request: Any) -> AsyncIterator[Any]:
        try:
            for number in range(request.number):
                yield pb.HelloReply(text=str(number))
            if request.name == "fail":
                raise ValueError("in the middle")
            if request.name:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.name)
            raise

    async def Sum(self, request_stream: gRPCInputStream[Any]) -> Any:
        total = 0
        async for request in request_stream:
            total += request.number
        return pb.HelloReply(text=f"{total} {request_stream.is_cancelled()}")

    async def Chat(self, request_stream: gRPCInputStream[Any], grpc_context: RayServegRPCContext) -> AsyncIterator[Any]:
        grpc_context.set_trailing_metadata([("said", "bye")])
        async for request in request_stream:
            yield pb.HelloReply(text=request.name.upper())
        if request_stream.is_cancelled():
            self.cancelled.append("chat")

    async def Wait(self, request: Any) -> Any:
        self.begun.append(request.name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.name)
            raise

    def calls(self) -> tuple[list[str], list[str]]:
        return self.begun, self.cancelled


def begun() -> list[str]:
    """Return the calls of Wait that the greeter has."""
    names: list[str] = serve.get_app_handle("default").calls.remote().result()[0]
    return names


def cancelled() -> list[str]:
    """Return the calls that the greeter knows to be cancelled."""
    names: list[str] = serve.get_app_handle("default").calls.remote().result()[1]
    return names


def refused(call: Any) -> grpc.RpcError:
    """Return the error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def until_answered(call: Callable[[], Any], meanwhile: grpc.StatusCode) -> Any:
    """Call until there is an answer; until then it may end with this status alone."""

    def answer() -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() is not meanwhile:
                raise
            return None

    return eventually(answer, PATIENCE)


def test_metadata_go_both_ways(greeter: Any) -> None:
    metadata = [("request_id", "r1"), ("multiplexed_model_id", "m1"), ("application", "default")]
    reply, call = greeter.Hello.with_call(pb.HelloRequest(name="you"), metadata=metadata, timeout=PATIENCE)
    assert reply.text == "Hello you m1 r1 ipv4"
    assert dict(call.trailing_metadata()) == {"request_id": "r1", "lang": "en", "raw-bin": b"\x00\xff"}
    _, call = greeter.Hello.with_call(pb.HelloRequest(), timeout=PATIENCE)
    assert len(dict(call.trailing_metadata())["request_id"]) == 32


def test_streams_of_servers_and_of_clients(greeter: Any) -> None:
    assert [reply.text for reply in greeter.Count(pb.HelloRequest(number=3), timeout=PATIENCE)] == ["0", "1", "2"]
    numbers = (pb.HelloRequest(number=number) for number in range(500))
    assert greeter.Sum(numbers, timeout=PATIENCE).text == f"{sum(range(500))} False"


def test_a_conversation(greeter: Any) -> None:
    """Each request is sent after the answer to the one before."""
    said: queue.Queue[str | None] = queue.Queue()
    requests = (pb.HelloRequest(name=text) for text in iter(said.get, None))
    call = greeter.Chat(requests, timeout=PATIENCE)
    for text in ("a", "b", "c"):
        said.put(text)
        assert next(call).text == text.upper()
    said.put(None)
    assert list(call) == []
    assert dict(call.trailing_metadata())["said"] == "bye"


@pytest.mark.parametrize(
    ("name", "code", "details"),
    [
        ("raise", "INTERNAL", "ValueError: no such name"),
        ("abort", "ALREADY_EXISTS", "it is here"),
        ("code", "DATA_LOSS", "half of it"),
        ("wrong", "INTERNAL", "TypeError: the method for /greet.Greeter/Hello must return a message"),
    ],
)
def test_errors_become_statuses(greeter: Any, name: str, code: str, details: str) -> None:
    error = refused(lambda: greeter.Hello(pb.HelloRequest(name=name), timeout=PATIENCE))
    assert error.code().name == code
    assert error.details().startswith(details)
    assert dict(error.trailing_metadata()).get("a") == ("b" if name == "abort" else None)


def test_an_error_ends_a_stream_after_what_came_before(greeter: Any) -> None:
    call = greeter.Count(pb.HelloRequest(number=2, name="fail"), timeout=PATIENCE)
    assert [next(call).text, next(call).text] == ["0", "1"]
    error = refused(lambda: next(call))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "ValueError: in the middle")


def test_methods_that_are_missing(greeter: Any) -> None:
    error = refused(lambda: greeter.Missing(pb.HelloRequest(), timeout=PATIENCE))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "has no method 'Missing'; it has Chat, Count" in error.details()
    with channel() as connected:
        unknown = connected.unary_unary("/greet.Nobody/Hello")
        assert refused(lambda: unknown(b"", timeout=PATIENCE)).code() is grpc.StatusCode.UNIMPLEMENTED


def test_garbage_instead_of_a_message(greeter: Any) -> None:
    with channel() as connected:
        hello, count = connected.unary_unary("/greet.Greeter/Hello"), connected.unary_stream("/greet.Greeter/Count")
        for error in (
            refused(lambda: hello(b"\xff\xff", timeout=PATIENCE)),
            refused(lambda: list(count(b"\xff\xff", timeout=PATIENCE))),
        ):
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "is no greet.HelloRequest" in error.details()


def test_a_deadline_cancels_the_method(greeter: Any) -> None:
    request = pb.HelloRequest(name="deadline")
    for seconds in (0.2, 2, 20):  # on a slow machine it may be over before the method has begun
        with pytest.raises(grpc.RpcError) as caught:
            greeter.Wait(request, timeout=seconds)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if "deadline" in begun():
            break
    eventually(lambda: "deadline" in cancelled(), PATIENCE)


def test_a_client_that_cancels_cancels_the_method(greeter: Any) -> None:
    call = greeter.Wait.future(pb.HelloRequest(name="unary"), timeout=PATIENCE)
    stream = greeter.Count(pb.HelloRequest(name="stream", number=1), timeout=PATIENCE)
    assert next(stream).text == "0"
    eventually(lambda: "unary" in begun(), PATIENCE)
    assert not {"unary", "stream"} & set(cancelled())
    call.cancel()
    stream.cancel()
    eventually(lambda: {"unary", "stream"} <= set(cancelled()), PATIENCE)


def test_a_client_that_goes_away_while_it_streams(greeter: Any) -> None:
    said: queue.Queue[str | None] = queue.Queue()
    call = greeter.Chat((pb.HelloRequest(name=text) for text in iter(said.get, None)), timeout=PATIENCE)
    said.put("a")
    assert next(call).text == "A"
    call.cancel()
    said.put(None)
    assert greeter.Hello(pb.HelloRequest(name="you"), timeout=PATIENCE).text.startswith("Hello you")


@pytest.mark.usefixtures("_only_default")
def test_a_full_line_is_told_at_once(greeter: Any) -> None:
    narrow = Greeter.options(max_ongoing_requests=1, max_queued_requests=0)
    serve.run(narrow.bind(), name="narrow", route_prefix=None)
    where = {"timeout": PATIENCE, "metadata": [("application", "narrow")]}
    stream = greeter.Count(pb.HelloRequest(name="busy", number=1), **where)
    assert next(stream).text == "0"
    error = refused(lambda: greeter.Hello(pb.HelloRequest(), **where))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stream.cancel()
    until_answered(lambda: greeter.Hello(pb.HelloRequest(), **where), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_a_dead_replica_is_unavailable_and_replaced(greeter: Any) -> None:
    call = greeter.Count(pb.HelloRequest(name="victim", number=1), timeout=PATIENCE)
    assert next(call).text == "0"
    pid = int(greeter.Hello(pb.HelloRequest(name="pid"), timeout=PATIENCE).text)
    os.kill(pid, signal.SIGKILL)
    assert refused(lambda: next(call)).code() is grpc.StatusCode.UNAVAILABLE

    ask = pb.HelloRequest(name="pid")
    answer = until_answered(lambda: greeter.Hello(ask, timeout=PATIENCE), grpc.StatusCode.UNAVAILABLE)
    assert int(answer.text) != pid


def test_a_dead_proxy_is_replaced_at_the_same_port(greeter: Any) -> None:
    assert greeter.Hello(pb.HelloRequest(), timeout=PATIENCE)
    core.kill(core.get_actor(ACTOR_NAME, namespace="serve"))

    ask = pb.HelloRequest()
    until_answered(lambda: greeter.Hello(ask, timeout=PATIENCE, wait_for_ready=True), grpc.StatusCode.UNAVAILABLE)
    assert serve.status().proxies["grpc-proxy"] == "HEALTHY"


@pytest.mark.usefixtures("_only_default")
def test_applications_are_named_in_the_metadata(greeter: Any) -> None:
    @serve.deployment
    class Other:
        def Hello(self, request: Any) -> Any:
            return pb.HelloReply(text="other")

    serve.run(Other.bind(), name="other", route_prefix=None)
    error = refused(lambda: greeter.Hello(pb.HelloRequest(), timeout=PATIENCE))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "there are: default, other" in error.details()
    error = refused(lambda: greeter.Hello(pb.HelloRequest(), timeout=PATIENCE, metadata=[("application", "third")]))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert greeter.Hello(pb.HelloRequest(), timeout=PATIENCE, metadata=[("application", "other")]).text == "other"
    with channel() as connected:
        names = connected.unary_unary(
            "/ray.serve.RayServeAPIService/ListApplications",
            response_deserializer=own("ray.serve.ListApplicationsResponse").FromString,
        )(b"", timeout=PATIENCE)
        assert list(names.application_names) == ["default", "other"]
        healthy = connected.unary_unary(
            "/ray.serve.RayServeAPIService/Healthz", response_deserializer=own("ray.serve.HealthzResponse").FromString
        )
        assert healthy(b"", timeout=PATIENCE).message == "success"


@pytest.mark.usefixtures("_only_default")
def test_the_gateway_of_an_application_guards_grpc_too(greeter: Any) -> None:
    key, hashed = new_key()
    guarded = Greeter.options(
        gateway={
            "api_keys": {"keys": [{"name": "team", "hash": hashed}]},
            "rate_limits": [{"rate": "2/hour"}],
        }
    )
    serve.run(guarded.bind(), name="guarded", route_prefix=None)
    where = [("application", "guarded")]
    error = refused(lambda: greeter.Hello(pb.HelloRequest(), timeout=PATIENCE, metadata=where))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    where.append(("authorization", f"Bearer {key}"))
    for _ in range(2):
        assert greeter.Hello(pb.HelloRequest(name="you"), timeout=PATIENCE, metadata=where).text.startswith("Hello you")
    error = refused(lambda: list(greeter.Count(pb.HelloRequest(), timeout=PATIENCE, metadata=where)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(error.trailing_metadata())["retry-after"]) > 0


def test_calls_are_counted(greeter: Any) -> None:
    assert greeter.Hello(pb.HelloRequest(), timeout=PATIENCE)
    assert refused(lambda: greeter.Hello(pb.HelloRequest(name="raise"), timeout=PATIENCE))
    kinds = {'method="/greet.Greeter/Hello",status_code="OK"', 'method="/greet.Greeter/Hello",status_code="INTERNAL"'}

    metrics = f"{serve.status_page(port=0)}/metrics"

    def counted() -> bool:
        lines = httpx.get(metrics, timeout=PATIENCE).text.splitlines()
        found = [line for line in lines if line.startswith("serve_num_grpc_requests")]
        return all(any(kind in line for line in found) for kind in kinds)

    eventually(counted, PATIENCE)


@pytest.mark.usefixtures("_only_default")
def test_a_new_version_fails_no_call(greeter: Any) -> None:
    """One replica, under load."""

    def version(text: str) -> serve.Application[Any]:
        @serve.deployment(name="Versioned")
        class Versioned:
            async def Hello(self, request: Any) -> Any:
                await asyncio.sleep(0)
                return pb.HelloReply(text=text)

        return Versioned.bind()

    where = {"timeout": PATIENCE, "metadata": [("application", "versioned")]}
    serve.run(version("one"), name="versioned", route_prefix=None)
    answers: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                answers.append(greeter.Hello(pb.HelloRequest(), **where).text)
            except grpc.RpcError as error:
                answers.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(answers) > 20, PATIENCE)
        serve.run(version("two"), name="versioned", route_prefix=None)
        eventually(lambda: greeter.Hello(pb.HelloRequest(), **where).text == "two", PATIENCE)
        before = len(answers)
        eventually(lambda: len(answers) > before + 20, PATIENCE)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {"one", "two"}


def test_reflection(greeter: Any) -> None:
    with channel() as connected:
        database = ProtoReflectionDescriptorDatabase(connected)
        assert {"greet.Greeter", "inference.GRPCInferenceService"} <= set(database.get_services())
        pool = DescriptorPool(database)
        assert pool.FindMessageTypeByName("greet.HelloRequest").fields_by_name["number"].number == 2
        assert pool.FindServiceByName("inference.GRPCInferenceService").methods_by_name["ModelInfer"]


def test_what_cannot_be_served_is_said_where_it_is_asked_for(greeter: Any) -> None:
    proxy = core.remote(GRPCProxy).remote("another", GRPCOptions(), "127.0.0.1")
    with pytest.raises(OSError, match="the port may be taken"):
        core.get(proxy.start.remote(_nothing(), serve.get_grpc_port()))
    options = GRPCOptions(grpc_servicer_functions=["no_such_module.add_to_server"])
    other = core.remote(GRPCProxy).remote("another", options, "127.0.0.1")
    with pytest.raises(ValueError, match="cannot be imported: No module named 'no_such_module'"):
        core.get(other.start.remote(_nothing(), 0))
    with pytest.raises(ValueError, match="other grpc_options"):
        serve.start(grpc_options={"port": 1})
    core.kill(proxy)
    core.kill(other)


def _nothing() -> bytes:
    return msgspec.msgpack.encode(Targets(0, (), {}, {}))


def certificate(directory: Path, name: str) -> tuple[bytes, bytes]:
    """Make a key and a certificate that signs itself, as files too, and return them."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    (directory / f"{name}.key").write_bytes(private)
    (directory / f"{name}.pem").write_bytes(public)
    return private, public


def test_tls_and_who_the_client_is(greeter: Any, tmp_path: Path) -> None:
    _, trusted = certificate(tmp_path, "server")
    options = GRPCOptions(
        grpc_servicer_functions=[pb_grpc.add_GreeterServicer_to_server],
        ssl_keyfile=str(tmp_path / "server.key"),
        ssl_certfile=str(tmp_path / "server.pem"),
        ssl_ca_certs=str(tmp_path / "client.pem"),
    )
    pair = certificate(tmp_path, "client")
    proxy = core.remote(GRPCProxy).remote("tls", options, "127.0.0.1")
    address = f"127.0.0.1:{core.get(proxy.start.remote(msgspec.msgpack.encode(local_router.targets()), 0))}"
    named = (("grpc.ssl_target_name_override", "server"),)
    known = grpc.ssl_channel_credentials(trusted, *pair)
    with grpc.secure_channel(address, known, options=named) as connected:
        stub = pb_grpc.GreeterStub(connected)
        assert stub.Hello(pb.HelloRequest(name="who"), timeout=PATIENCE).text == "[b'client']"
    nobody = grpc.ssl_channel_credentials(trusted)
    with grpc.secure_channel(address, nobody, options=named) as connected:
        error = refused(lambda: pb_grpc.GreeterStub(connected).Hello(pb.HelloRequest(), timeout=PATIENCE))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    core.kill(proxy)
    with pytest.raises(ValueError, match="both ssl_keyfile and ssl_certfile"):
        GRPCOptions(ssl_certfile="a.pem")


def test_health_until_nothing_is_served(greeter: Any) -> None:
    """The last one: it deletes the application that the others share."""

    def status(connected: grpc.Channel, service: str) -> int:
        stub = health_pb2_grpc.HealthStub(connected)
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    with channel() as connected:
        assert {status(connected, name) for name in ("", "greet.Greeter", "default")} == {serving}
        assert refused(lambda: status(connected, "nobody")).code() is grpc.StatusCode.NOT_FOUND
        serve.delete("default")
        assert {status(connected, name) for name in ("", "greet.Greeter", "default")} == {not_serving}
        error = refused(lambda: greeter.Hello(pb.HelloRequest(), timeout=PATIENCE))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "no application is served")
