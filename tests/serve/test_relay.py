"""HTTP's finer points, the same whether a proxy stands between or not."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from serve.http.limits import RequestLimits
from tests.serve.http_servers import direct, relayed

H = b"Host: a\r\n"


def application() -> FastAPI:
    app = FastAPI()

    @app.api_route("/", methods=["GET", "HEAD"])
    async def root() -> PlainTextResponse:
        return PlainTextResponse("hello")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number

        return StreamingResponse(pieces())

    @app.get("/nothing")
    async def nothing() -> Response:
        return Response(status_code=204)

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(3_000_000))

    @app.get("/raise")
    async def fail() -> None:
        raise LookupError("on purpose")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise LookupError("on purpose")

        return StreamingResponse(pieces())

    @app.post("/early")
    async def early() -> str:
        return "no need to read"

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    return app


@pytest.fixture(scope="module", params=["direct", "relayed"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    limits = RequestLimits()
    directory: Path = tmp_path_factory.mktemp("s")
    served: Any = (
        direct(application(), limits) if request.param == "direct" else relayed(application(), limits, directory)
    )
    with served as number:
        yield number


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def until_closed(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


def ask(port: int, data: bytes) -> tuple[bytes, bytes]:
    """Send, and return head and body of what comes until the connection is closed."""
    with connect(port) as client:
        client.sendall(data)
        head, _, body = until_closed(client).partition(b"\r\n\r\n")
        return head.lower(), body


def test_a_client_of_http_1_0_gets_no_chunks_and_a_closed_connection(port: int) -> None:
    head, body = ask(port, b"GET /stream HTTP/1.0\r\n\r\n")
    assert body == b"012"
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    head, body = ask(port, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert body == b"hello"
    assert b"connection: close" in head


def test_connection_close_is_kept_to(port: int) -> None:
    head, body = ask(port, b"GET /stream HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert b"connection: close" in head
    assert body == b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n"


def test_requests_in_a_row_are_answered_in_a_row(port: int) -> None:
    echo = b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc"
    last = b"GET / HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n"
    _, rest = ask(port, b"HEAD / HTTP/1.1\r\n" + H + b"\r\n" + echo + b"GET /nothing HTTP/1.1\r\n" + H + b"\r\n" + last)
    first, second, third = rest.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200") and first.endswith(b"\r\n\r\nabc")
    assert second.startswith(b"204") and second.endswith(b"\r\n\r\n")
    assert third.startswith(b"200") and third.endswith(b"\r\n\r\nhello")


def test_head_has_a_length_and_no_body_and_the_connection_goes_on(port: int) -> None:
    with connect(port) as client:
        for _ in range(3):
            client.sendall(b"HEAD / HTTP/1.1\r\n" + H + b"\r\n")
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n")
            assert b"content-length: 5\r\n" in answer


def test_a_body_is_asked_for_when_the_client_waits_for_that(port: int) -> None:
    with connect(port) as client:
        client.sendall(
            b"POST /echo HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert until_closed(client).endswith(b"\r\n\r\nabc")


def test_an_answer_before_the_body_was_read_ends_nothing_else(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"POST /early HTTP/1.1\r\n" + H + b"Content-Length: 200000\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(bytes(200_000) + b"GET / HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        assert until_closed(client).endswith(b"\r\n\r\nhello")


def test_a_slow_reader_gets_all_of_a_large_answer(port: int) -> None:
    with connect(port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.sendall(b"GET /large HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        _, _, body = until_closed(client).partition(b"\r\n\r\n")
        assert len(body) == 3_000_000


def test_code_that_raises_is_a_500_and_the_server_goes_on(port: int) -> None:
    head, body = ask(port, b"GET /raise HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert head.startswith(b"http/1.1 500")
    assert body == b"Internal Server Error"
    assert ask(port, b"GET / HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")[1] == b"hello"


def test_half_an_answer_is_not_taken_for_a_whole_one(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"GET /half HTTP/1.1\r\n" + H + b"\r\n")
        received = b""
        try:
            received = until_closed(client)
        except ConnectionResetError:
            pass
    assert not received.endswith(b"0\r\n\r\n")
    assert ask(port, b"GET / HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")[1] == b"hello"
