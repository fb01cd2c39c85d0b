"""The daemon's socket against strangers, garbage, half-open and slow peers."""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
import time
from collections.abc import Iterator

import psutil
import pytest

from core import ids
from core.node.launcher import NodeProcess
from core.protocol import VERSION, framing, from_node, to_node
from tests.integration import node_session
from tests.integration.node_session import Driver, spec


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    node = node_session.start()
    yield node
    node.kill()


@pytest.fixture(scope="module")
def driver(node: NodeProcess) -> Iterator[Driver]:
    driver = Driver(node)
    yield driver
    driver.close()


def dial(node: NodeProcess) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(node_session.PATIENCE)
    sock.connect(node.socket_path)
    return sock


def hello(**fields: object) -> to_node.Hello:
    return to_node.Hello(**({"version": VERSION, "address": ids.new_address(), "kind": "driver", "pid": 1} | fields))


def closed(sock: socket.socket) -> bytes:
    """Read until the daemon closes the connection; return what it said."""
    said = b""
    with sock:
        try:
            while data := sock.recv(65536):
                said += data
        except ConnectionResetError:
            pass
    return said


def test_the_socket_is_for_its_user_only(node: NodeProcess, driver: Driver) -> None:
    assert stat.S_IMODE(os.stat(node.socket_path).st_mode) == 0o600


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": "0"}, "protocol version"),
        ({"kind": "king"}, "malformed"),
        ({"address": b"short"}, "malformed"),
        ({"kind": "worker", "token": b"guessed"}, "not a worker that this daemon started"),
    ],
)
def test_who_cannot_join_is_told_why(node: NodeProcess, driver: Driver, fields: dict[str, object], reason: str) -> None:
    sock = dial(node)
    sock.sendall(framing.encode([hello(**fields)]))
    (refused,) = framing.Decoder(from_node.FromNode).feed(closed(sock))
    assert isinstance(refused, from_node.Refused)
    assert reason in refused.reason


def test_the_address_of_another_process_cannot_be_taken(node: NodeProcess, driver: Driver) -> None:
    sock = dial(node)
    sock.sendall(framing.encode([hello(address=driver.address)]))
    assert b"another process" in closed(sock)


@pytest.mark.parametrize("messages", [[to_node.Goodbye()], [hello(), hello()], [to_node.LeaseDemand(0, 1, 0, spec())]])
def test_messages_out_of_order_close_the_connection(node: NodeProcess, driver: Driver, messages: list[object]) -> None:
    sock = dial(node)
    sock.sendall(framing.encode(messages))
    closed(sock)
    assert driver.query("session")


def test_a_demand_for_an_unnamed_class_closes_the_connection(node: NodeProcess, driver: Driver) -> None:
    peer = Driver(node)
    peer.send(to_node.LeaseDemand(7, 1))
    assert peer.receive() is None
    peer.close()


def test_a_silent_connection_is_closed_after_a_while(node: NodeProcess, driver: Driver) -> None:
    sock = dial(node)
    sock.sendall(b"\x10")
    assert closed(sock) == b""


def test_many_silent_connections_are_capped_and_harm_nobody(node: NodeProcess, driver: Driver) -> None:
    socks = [dial(node) for _ in range(400)]
    assert socks[-1].recv(1) == b"", "the last is beyond the cap and closed at once"
    socks[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        socks[0].recv(1)
    assert driver.query("session")
    for sock in socks:
        sock.close()


def payloads(rng: random.Random) -> Iterator[bytes]:
    """Garbage, mutated frames, lies about length, and truncations."""
    frames = [
        bytes(framing.encode([hello()])),
        bytes(framing.encode([hello(), to_node.LeaseDemand(0, 1, 0, spec()), to_node.Query(1, "nodes")])),
        bytes(framing.encode([hello(), to_node.ReturnLease(99), to_node.Unpin([b"x" * 28]), to_node.Freed([b""])])),
    ]
    while True:
        frame = bytearray(rng.choice(frames))
        kind = rng.randrange(5)
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 400))
        elif kind == 1:
            for _ in range(rng.randrange(1, 8)):
                frame[rng.randrange(4, len(frame))] = rng.randrange(256)
            yield bytes(frame)
        elif kind == 2:
            yield struct.pack("<I", rng.choice([0, 1, 2**31, 2**32 - 1, 600 * 2**20])) + rng.randbytes(40)
        elif kind == 3:
            yield bytes(frame[: rng.randrange(len(frame))])
        else:
            yield struct.pack("<I", 4000) + b"\x91" * 4000


def test_thousands_of_bad_frames_do_no_harm(node: NodeProcess, driver: Driver) -> None:
    rng = random.Random(20260101)
    process = psutil.Process(node.pid)
    driver.query("session")
    memory, descriptors = process.memory_info().rss, process.num_fds()
    source = payloads(rng)
    for _ in range(40):
        socks = []
        for _ in range(50):
            sock = dial(node)
            sock.sendall(next(source))
            socks.append(sock)
        for sock in socks:
            sock.close()
        assert driver.query("session")
    deadline = time.monotonic() + node_session.PATIENCE
    while process.num_fds() > descriptors and time.monotonic() < deadline:
        driver.query("session")
    assert process.num_fds() <= descriptors
    assert process.memory_info().rss - memory < 20 * 1024 * 1024
    assert driver.lease()
