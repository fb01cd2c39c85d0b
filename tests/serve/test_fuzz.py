"""Bytes that are no requests, by the thousand: each gets a 4xx (or what a good part of it deserved), and none hangs."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.http.limits import RequestLimits
from tests.serve.http_servers import direct, relayed
from tests.serve.test_malformed import CHUNKED, GOOD, H, ask, echo, get, post, status

#: nothing is kept open for long: a batch ends when the server has closed all of its connections
LIMITS = RequestLimits(body_bytes=1 << 16, header_timeout_s=1, body_timeout_s=1, idle_timeout_s=2)
KEEP_ALIVE_S = 0.0
#: what a server may answer to bytes like these
ALLOWED = {200, 400, 404, 405, 408, 411, 413, 414, 417, 422, 426, 431, 501, 505}

#: what random streams are made of, beside random bytes
PIECES = [
    *(b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"X", b" ", b"  ", b"\t", b"/", b"/echo"),
    *(
        b"http://a/",
        b"*",
        b"?q=%00",
        b"%",
        b"\xff\xfe",
        b"\x00",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/2.0",
        b" HTTP/9.9",
    ),
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", H, b"Host:", b"Host: b\r\n", b"Host: [::1\r\n", b"abc", b"A" * 5000),
    *(b"Content-Length: 3\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"),
    *(CHUNKED + b"\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: host\r\n", b": x\r\n"),
    *(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"),
    *(b"X-Serve-Full: 1\r\n", b"X-Serve-Root-Path: /x\r\n", b"X-Serve-Client: 1.1.1.1 1 https\r\n"),
    *(b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, chunked\r\n", b"Sec-WebSocket-Key: x\r\n"),
]
GOOD_ONES = [GOOD, post(b"Content-Length: 3", body=b"abc"), post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), get(b"X: y")]
STREAM = st.lists(st.sampled_from(PIECES + GOOD_ONES) | st.binary(max_size=12), max_size=10).map(b"".join)


@pytest.fixture(scope="module", params=["direct", "relayed"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory: Path = tmp_path_factory.mktemp("s")
    served: Any = (
        direct(echo(), LIMITS, KEEP_ALIVE_S)
        if request.param == "direct"
        else relayed(echo(), LIMITS, directory, KEEP_ALIVE_S)
    )
    with served as number:
        yield number


def answers(port: int, streams: list[bytes], *, half_close: bool) -> list[bytes]:
    """Send each stream over a connection of its own; return what came back until the server closed."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in streams]
    try:
        for client, stream in zip(clients, streams, strict=True):
            try:
                client.sendall(stream)
                if half_close:
                    client.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before it was all there
        return [_all_of(client) for client in clients]
    finally:
        for client in clients:
            client.close()


def _all_of(client: socket.socket) -> bytes:
    """Return what comes until the server closes; a server that does neither in time fails the test."""
    received = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def check(answer: bytes) -> None:
    if answer and not answer.startswith(b"HTTP/1.1 100 "):
        assert status(answer) in ALLOWED, answer[:200]


def serves(port: int) -> bool:
    """Tell whether a good request is answered; a connection that this loaded machine let idle may be closed."""
    return any(status(ask(port, GOOD)) == 200 for _ in range(5))


@settings(max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams=st.lists(STREAM, min_size=17, max_size=17))
def test_random_bytes_get_a_4xx_or_a_closed_connection(port: int, streams: list[bytes]) -> None:
    for answer in answers(port, streams, half_close=True):
        check(answer)
    assert serves(port)


def test_clients_that_go_on_waiting_are_answered_or_left(port: int) -> None:
    rng = random.Random(4)
    for _ in range(2):
        streams = [b"".join(rng.choices(PIECES + GOOD_ONES, k=rng.randrange(1, 10))) for _ in range(200)]
        for _ in range(200):  # good requests with one byte changed
            stream = bytearray(rng.choice(GOOD_ONES))
            stream[rng.randrange(len(stream))] = rng.randrange(256)
            streams.append(bytes(stream))
        for answer in answers(port, streams, half_close=False):
            check(answer)
        assert serves(port)
