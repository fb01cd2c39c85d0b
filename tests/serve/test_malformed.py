"""Requests that no client should send: each gets the right status, soon, and the server goes on serving."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request

from serve.http.limits import RequestLimits
from tests.serve.http_servers import direct, relayed

#: short, so that waiting for them is short
LIMITS = RequestLimits(body_bytes=1 << 20, header_timeout_s=0.5, body_timeout_s=0.5, idle_timeout_s=5)
#: seconds within which anything must be answered
SOON = 10

H = b"Host: a\r\n"
GOOD = b"GET / HTTP/1.1\r\n" + H + b"\r\n"


def get(*fields: bytes, target: bytes = b"/", host: bytes = H) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\n" + H + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"

#: name, what is sent, the status that is due
CASES: list[tuple[str, bytes, int]] = [
    # -- the request line
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ("binary zeros", b"\x00" * 64 + b"\r\n\r\n", 400),
    ("text", b"hello there\r\n\r\n", 400),
    ("no version", b"GET /\r\n" + H + b"\r\n", 505),
    ("lower-case method", b"get / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("unknown method", b"FROBNICATE / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("method with a bracket", b"G[T / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("HTTP/3.7", b"GET / HTTP/3.7\r\n" + H + b"\r\n", 400),
    ("HTTP/1.1 misspelt", b"GET / HTTZ/1.1\r\n" + H + b"\r\n", 400),
    ("version without a dot", b"GET / HTTP/11\r\n" + H + b"\r\n", 400),
    ("huge version", b"GET / HTTP/99999.1\r\n" + H + b"\r\n", 400),
    ("two spaces", b"GET  / HTTP/1.1 x\r\n" + H + b"\r\n", 400),
    ("space in the target", b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("tab in the target", b"GET /a\tb HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("zero in the target", b"GET /a\x00b HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("eight bits in the target", b"GET /\xff\xfe HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("no target", b"GET  HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("target without a slash", b"GET nothing HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("asterisk", b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("CONNECT", b"CONNECT a:80 HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("target of 20 kB", get(target=b"/" + b"a" * 20_000), 414),
    ("query of 20 kB", get(target=b"/?" + b"a" * 20_000), 414),
    # -- the header
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", get(b"Host: b"), 400),
    ("Host with a space", get(host=b"Host: a b\r\n"), 400),
    ("Host with a user", get(host=b"Host: u@a\r\n"), 400),
    ("Host with a path", get(host=b"Host: a/b\r\n"), 400),
    ("Host with a bad port", get(host=b"Host: a:x\r\n"), 400),
    ("field without a colon", get(b"nonsense"), 400),
    ("field without a name", get(b": value"), 400),
    ("space before the colon", get(b"X-A : 1"), 400),
    ("space in a name", get(b"X A: 1"), 400),
    ("bracket in a name", get(b"X(A): 1"), 400),
    ("zero in a name", get(b"X\x00A: 1"), 400),
    ("zero in a value", get(b"X-A: 1\x002"), 400),
    ("bare carriage return in a value", get(b"X-A: 1\r2"), 400),
    ("folded line", get(b"X-A: 1", b"  2"), 400),
    ("first line folded", b"GET / HTTP/1.1\r\n  X: 1\r\n" + H + b"\r\n", 400),
    ("200 kB in one field", get(b"X-A: " + b"a" * 200_000), 431),
    ("20,000 fields", get(*(b"X-%d: 1" % i for i in range(20_000))), 431),
    ("129 fields", get(*(b"X-%d: 1" % i for i in range(129))), 431),
    ("unknown expectation", post(b"Expect: miracles", b"Content-Length: 0"), 417),
    # -- lengths and codings
    ("length is not a number", post(b"Content-Length: ten"), 400),
    ("negative length", post(b"Content-Length: -1"), 400),
    ("length with a sign", post(b"Content-Length: +1", body=b"x"), 400),
    ("length in hexadecimal", post(b"Content-Length: 0x1", body=b"x"), 400),
    ("empty length", post(b"Content-Length:"), 400),
    ("two lengths in one", post(b"Content-Length: 1, 2", body=b"x"), 400),
    ("two lengths", post(b"Content-Length: 1", b"Content-Length: 2", body=b"x"), 400),
    ("93 GiB announced", post(b"Content-Length: 99857989632"), 413),
    ("length beyond 64 bits", post(b"Content-Length: 99999999999999999999999"), 400),
    ("length and chunked (smuggling)", post(b"Content-Length: 4", CHUNKED, body=b"0\r\n\r\n"), 400),
    ("chunked and length (smuggling)", post(CHUNKED, b"Content-Length: 4", body=b"0\r\n\r\n"), 400),
    ("unknown coding", post(b"Transfer-Encoding: zip"), 501),
    ("chunked is not last", post(b"Transfer-Encoding: chunked, gzip"), 400),
    ("coding before chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    ("chunked twice", post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    ("chunk size is not a number", post(CHUNKED, body=b"zz\r\nabc\r\n0\r\n\r\n"), 400),
    ("negative chunk size", post(CHUNKED, body=b"-1\r\nabc\r\n0\r\n\r\n"), 400),
    ("chunk size beyond 64 bits", post(CHUNKED, body=b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), 400),
    ("chunk longer than it says", post(CHUNKED, body=b"1\r\nabc\r\n0\r\n\r\n"), 400),
    ("chunks beyond the limit", post(CHUNKED, body=b"200000\r\n" + b"a" * 0x200000 + b"\r\n0\r\n\r\n"), 413),
    # -- clients that stop
    ("half a request line", b"GET /", 408),
    ("half a header", b"GET / HTTP/1.1\r\nHost: a\r\nX-", 408),
    ("half a body", post(b"Content-Length: 100", body=b"half"), 408),
    ("half a chunk", post(CHUNKED, body=b"64\r\nhalf"), 408),
    ("no last chunk", post(CHUNKED, body=b"4\r\nhalf\r\n"), 408),
]


def echo() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "ok"

    @app.post("/echo")
    async def length(request: Request) -> int:
        return len(await request.body())

    return app


@pytest.fixture(scope="module", params=["direct", "relayed"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory: Path = tmp_path_factory.mktemp("s")
    served: Any = direct(echo(), LIMITS) if request.param == "direct" else relayed(echo(), LIMITS, directory)
    with served as number:
        yield number


def ask(port: int, data: bytes) -> bytes:
    """Send, and return all that is answered until the server closes or has answered whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as client:
        try:
            client.sendall(data)
        except OSError:
            pass  # refused before it had read all: the answer is there to be read
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                piece = client.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            answer += piece
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_there_are_sixty_of_them() -> None:
    assert len(CASES) >= 60
    assert len({name for name, _, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("data", "due"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_malformed_request_gets_its_status(port: int, data: bytes, due: int) -> None:
    assert status(ask(port, data)) == due
    assert status(ask(port, GOOD)) == 200


@pytest.mark.parametrize(
    ("data", "due"),
    [
        (GOOD, 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"\r\n" + GOOD, 200),
        (get(target=b"http://a/"), 200),
        (get(host=b"Host: [::1]:8000\r\n"), 200),
        (get(host=b"Host: a-b.example:80\r\n"), 200),
        (b"HEAD / HTTP/1.1\r\n" + H + b"\r\n", 405),
        (post(b"Content-Length: 3", body=b"abc"), 200),
        (post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), 200),
        (post(CHUNKED, body=b"3;x=y\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n"), 200),
        (get(target=b"/%zz"), 404),
        (get(target=b"/../../etc/passwd"), 404),
        (get(*(b"X-%d: 1" % i for i in range(100))), 200),
    ],
)
def test_odd_but_right_requests_are_served(port: int, data: bytes, due: int) -> None:
    assert status(ask(port, data)) == due


def test_dripping_a_header_does_not_extend_its_time(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        answer = b""
        client.settimeout(0.02)
        for number in range(int(SOON / 0.02)):
            try:
                client.sendall(b"X-%d: 1\r\n" % number if number < 100 else b"")
                answer = client.recv(4096)
                break
            except TimeoutError:
                continue
            except OSError:
                break
    assert status(answer) in (408, 0)


def test_five_hundred_slow_clients_do_not_keep_others_out(port: int) -> None:
    clients = []
    try:
        for _ in range(500):
            client = socket.create_connection(("127.0.0.1", port), timeout=SOON)
            client.sendall(b"GET / HTTP/1.1\r\nX-A: ")
            clients.append(client)
        assert status(ask(port, GOOD)) == 200
        for client in clients:
            assert status(client.recv(4096)) == 408
            assert client.recv(1) == b""
    finally:
        for client in clients:
            client.close()


def test_a_body_of_100_mb_is_refused_or_served_without_being_kept(port: int) -> None:
    assert status(ask(port, post(b"Content-Length: 104857600", body=b"a" * 4096))) == 413
