"""The port of applications that accept clients themselves, while there is none."""

from __future__ import annotations

import httpx
import pytest
from starlette.requests import Request

import serve
from tests.serve.conftest import url


@pytest.mark.usefixtures("apps")
def test_nobody_waits_at_the_port_of_deleted_applications() -> None:
    @serve.deployment
    def hello() -> str:
        return "hello"

    serve.run(hello.bind(), name="first")
    address = url("/")
    assert httpx.get(address).text == "hello"
    serve.delete("first")
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
    serve.run(hello.bind(), name="second")
    assert httpx.get(address).text == "hello"


@serve.deployment
class Versioned:
    def __init__(self, version: str) -> None:
        self.version = version

    def __call__(self, request: Request) -> str:
        return self.version


@pytest.mark.usefixtures("apps")
def test_the_next_connection_gets_the_version_that_runs() -> None:
    for version in range(8):
        serve.run(Versioned.bind(str(version)), route_prefix=f"/v{version % 2}")
        answers = [httpx.get(url(f"/v{version % 2}")) for _ in range(3)]
        assert [(each.status_code, each.text) for each in answers] == [(200, str(version))] * 3
