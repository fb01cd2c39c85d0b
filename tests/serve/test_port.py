"""The port of applications that accept clients themselves, while there is none."""

from __future__ import annotations

import httpx
import pytest

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
