"""A running Serve on a free port, for tests with real processes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

import core
import serve
from serve import session
from serve.controller import collector

# libuv keeps a pipe for the life of the process from the first loop on; made here, it is no leak of a module's
uvloop.new_event_loop().close()


@pytest.fixture(scope="module")
def served() -> Iterator[None]:
    """A session with Serve on a free port, shared by the tests of a module."""
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start(http_options={"port": 0})
    try:
        yield
    finally:
        serve.shutdown()
        core.shutdown()


@pytest.fixture
def apps(served: None) -> Iterator[None]:
    """Serve without applications: what a test deploys is deleted after it."""
    yield
    for name in serve.status().applications:
        serve.delete(name)


def url(path: str = "/") -> str:
    """Return the address of a path; Serve listens since the first application with a route."""
    return f"http://127.0.0.1:{serve.get_http_port()}{path}"


@pytest.fixture(scope="module")
def quick_collector() -> Iterator[None]:
    """Numbers are collected ten times a second, so that tests need not wait for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "PERIOD_S", 0.1)
        yield


@pytest.fixture
def raw(served: None) -> Callable[[bytes], bytes]:
    """Send bytes to Serve's port; returns all that comes back until it closes the connection."""

    def send(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", serve.get_http_port()), timeout=20) as connection:
            connection.sendall(data)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received

    return send
