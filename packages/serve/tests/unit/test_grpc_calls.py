"""The parts of gRPC that need no server: descriptors, methods, statuses, uploads."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc.service_pb2 as triton
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from serve.config import GRPCOptions
from serve.errors import BackPressureError, DeploymentUnavailableError, RayServeException
from serve.grpc_calls import descriptors
from serve.grpc_calls.messages import OWN, find, need, own
from serve.grpc_calls.serving import status_of
from serve.grpc_ingress.methods import INFERENCE, Methods, load_functions
from serve.grpc_ingress.uploads import AHEAD, Uploads
from serve.grpc_util import RayServegRPCContext, gRPCInputStream, gRPCStatusError

GENERATOR = Path(__file__).parents[4] / ".ci/generate_descriptors.py"


def test_the_descriptors_are_those_of_the_protos() -> None:
    spec = importlib.util.spec_from_file_location("generate_descriptors", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    protos = sorted((generator.ROOM / "protos").glob("*.proto"))
    assert [proto.stem for proto in protos] == ["inference", "serve"]
    for proto in protos:
        committed = FileDescriptorSet.FromString(getattr(descriptors, proto.stem.upper()))
        assert committed == FileDescriptorSet.FromString(generator.compiled(proto))


def test_our_messages_are_those_of_the_protocol() -> None:
    """Each field has the name, number, type and message that the usual client's have."""

    def described(message: Any) -> dict[str, tuple[Any, ...]]:
        return {
            field.name: (field.number, field.type, field.is_repeated, getattr(field.message_type, "full_name", None))
            for field in message.fields
        }

    def compare(mine: Any, theirs: Any) -> None:
        theirs_described = described(theirs)
        for name, field in described(mine).items():
            assert theirs_described[name] == field, f"{mine.full_name}.{name}"
        for nested in mine.nested_types:
            compare(nested, theirs.nested_types_by_name[nested.name])

    file = own("inference.ModelInferRequest").DESCRIPTOR.file
    for name, message in file.message_types_by_name.items():
        compare(message, triton.DESCRIPTOR.message_types_by_name[name])
    service = triton.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in file.services_by_name["GRPCInferenceService"].methods:
        other = service.methods_by_name[method.name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            other.input_type.full_name,
            other.output_type.full_name,
        )
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)


def test_messages_are_found_by_name() -> None:
    assert find("inference.ModelInferRequest", OWN) is own("inference.ModelInferRequest")
    assert find("inference.ModelInferRequest", "nowhere") is triton.ModelInferRequest  # its module says a wrong name
    with pytest.raises(
        RayServeException, match=r"does not know the message no\.such: import its generated module \(a_pb2\)"
    ):
        find("no.such", "a_pb2")


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(ImportError, match=r"pip install 'skate-serve\[grpc\]'"):
        need("no_such_module_of_grpc")


def test_methods_are_found_with_their_messages() -> None:
    def add(servicer: Any, server: Any) -> None:
        handlers = {
            "Up": grpc.stream_unary_rpc_method_handler(
                servicer.Up, request_deserializer=triton.ModelInferRequest.FromString
            ),
            "Own": grpc.unary_stream_rpc_method_handler(servicer.Own, request_deserializer=bytes.decode),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
        server.add_registered_method_handlers("a.B", handlers)

    methods = Methods([add])
    assert methods.services == ["a.B"]
    up = methods.find("/a.B/Up")
    assert up is not None
    assert (up.name, up.client_streams, up.server_streams) == ("Up", True, False)
    assert (up.type_name, up.deserializer) == ("inference.ModelInferRequest", None)
    own_one = methods.find("/a.B/Own")
    assert own_one is not None
    assert (own_one.server_streams, own_one.type_name) == (True, "")
    assert own_one.deserializer is bytes.decode
    assert methods.find("/a.B/None") is None
    stream = methods.find(f"/{INFERENCE}/ModelStreamInfer")
    assert stream is not None
    assert (stream.client_streams, stream.server_streams, stream.module) == (True, True, OWN)


def test_functions_are_given_as_such_or_by_their_paths() -> None:
    options = GRPCOptions(grpc_servicer_functions=[load_functions, "json.loads"])
    assert options.grpc_servicer_functions == ["serve.grpc_ingress.methods:load_functions", "json.loads"]
    assert load_functions(options.grpc_servicer_functions)[0] is load_functions
    for path, text in [
        ("loads", "is no import path"),
        ("json.nothing", "cannot be imported"),
        ("json.decoder", "no function"),
    ]:
        with pytest.raises(ValueError, match=text):
            load_functions([path])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackPressureError("d", 3), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (DeploymentUnavailableError("d"), grpc.StatusCode.UNAVAILABLE),
        (gRPCStatusError(grpc.StatusCode.ABORTED, "text"), grpc.StatusCode.ABORTED),
        (TimeoutError("text"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (ValueError("text"), grpc.StatusCode.INTERNAL),
        (gRPCStatusError(grpc.StatusCode.OK, "no error"), grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_have_their_statuses(error: Exception, code: grpc.StatusCode) -> None:
    number, details = status_of(error)
    assert number == code.value[0]
    assert details


def test_long_texts_are_cut_to_what_clients_take() -> None:
    _, details = status_of(ValueError("ä" * 10_000))
    assert 4000 < len(details.encode()) <= 4096


def test_uploads_keep_order_and_stop_ahead() -> None:
    async def scenario() -> None:
        taken = 0

        async def messages() -> AsyncIterator[int]:
            nonlocal taken
            for number in range(3 * AHEAD):
                taken += 1
                yield number

        uploads = Uploads()
        number = uploads.begin(messages())
        got: list[int] = []
        ended = False
        while not ended:
            batch = await uploads.receive(number)
            got += batch.messages
            ended = batch.ended
            assert taken <= len(got) + AHEAD
            assert not batch.cancelled
        assert got == list(range(3 * AHEAD))
        assert (await uploads.receive(number)).ended
        uploads.end(number)
        assert (await uploads.receive(number)).cancelled

    asyncio.run(scenario())


def test_an_upload_that_is_over_lets_its_reader_go() -> None:
    async def scenario() -> None:
        async def messages() -> AsyncIterator[int]:
            yield 1
            await asyncio.Event().wait()

        uploads = Uploads()
        number = uploads.begin(messages())
        assert (await uploads.receive(number)).messages == (1,)
        reading = asyncio.create_task(uploads.receive(number))
        await asyncio.sleep(0)
        uploads.end(number)
        batch = await reading
        assert (batch.messages, batch.ended, batch.cancelled) == ((), True, True)

    asyncio.run(scenario())


def test_an_input_stream() -> None:
    batches = [([1, 2], False, False), ([], False, False), ([3], True, True)]

    async def scenario() -> None:
        left = list(batches)

        async def more() -> Any:
            return left.pop(0)

        stream: gRPCInputStream[int] = gRPCInputStream(more)
        assert not stream.is_exhausted
        assert [number async for number in stream] == [1, 2, 3]
        assert stream.is_exhausted
        assert stream.is_cancelled()
        left = list(batches)
        other: gRPCInputStream[int] = gRPCInputStream(more)
        assert await anext(other) == 1
        other.cancel()
        assert [number async for number in other] == []

    asyncio.run(scenario())


class Client:
    """What grpc hands a servicer, as far as a context is made of it."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("request_id", "r"), ("application", "a"), ("traceparent", "t")]

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, Any]:
        return {"key": [b"who"]}

    def peer_identities(self) -> list[bytes]:
        return [b"who"]

    def peer_identity_key(self) -> str:
        return "key"


def test_a_context_has_what_grpcs_has() -> None:
    context = RayServegRPCContext(Client())
    assert (context.request_id(), context.application(), context.traceparent()) == ("r", "a", "t")
    assert (context.multiplexed_model_id(), context.tracestate()) == (None, None)
    assert (context.peer(), context.auth_context()) == ("ipv4:127.0.0.1:1", {"key": [b"who"]})
    assert (context.peer_identities(), context.peer_identity_key()) == ([b"who"], "key")
    context.set_code(grpc.StatusCode.ABORTED)
    context.set_details("d")
    context.set_compression(grpc.Compression.Gzip)
    assert (context.code(), context.details(), context.compression()) == (
        grpc.StatusCode.ABORTED,
        "d",
        grpc.Compression.Gzip,
    )
    with pytest.raises(gRPCStatusError, match="NOT_FOUND: gone") as caught:
        context.abort(grpc.StatusCode.NOT_FOUND, "gone", [("a", "b")])
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert context.trailing_metadata() == [("a", "b")]
