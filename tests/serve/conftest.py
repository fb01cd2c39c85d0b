"""A running Serve on a free port, for tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import uvloop

import core
import serve

# libuv keeps a pipe for the life of the process from the first loop on; made here, it is no leak of a module's
uvloop.new_event_loop().close()


@pytest.fixture(scope="module")
def served() -> Iterator[None]:
    """A session with Serve on a free port, shared by the tests of a module."""
    core.init(num_cpus=2)
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
