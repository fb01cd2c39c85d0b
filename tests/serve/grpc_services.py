"""gRPC for the tests: the service of `protos/greet.proto`, generated where it is needed, and clients of it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc

import serve

# grpc keeps some descriptors for the life of the process from the first channel on; made here, they are no leak
with grpc.insecure_channel("127.0.0.1:9") as _first, contextlib.suppress(grpc.RpcError):
    _first.unary_unary("/no/one")(b"", timeout=5)


def generate() -> tuple[Any, Any]:
    """Generate Python code for the service, make it importable here and in workers, and return its two modules."""
    if "greet_pb2" not in sys.modules:
        out = tempfile.mkdtemp(prefix="greet-")
        source = Path(__file__).parent / "protos"
        arguments = [f"--proto_path={source}", f"--python_out={out}", f"--grpc_python_out={out}", "greet.proto"]
        assert protoc.main(["protoc", *arguments]) == 0
        sys.path.insert(0, out)
    import greet_pb2  # it was not there before
    import greet_pb2_grpc

    return greet_pb2, greet_pb2_grpc


@contextlib.contextmanager
def channel() -> Iterator[grpc.Channel]:
    """Connect to the proxy."""
    with grpc.insecure_channel(f"127.0.0.1:{serve.get_grpc_port()}") as made:
        yield made
