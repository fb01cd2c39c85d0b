"""10,000 seeded bad frames at every socket of a running session: nobody dies, memory stays flat, work goes on.

Beside noise there are frames that a wrong or hostile process of the same user could send: true messages with wrong
contents, mutated, cut off, with lies about their length, and connections that stay half open.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import psutil
import pytest

import core
from core import ids
from core.protocol import VERSION, framing, peer, to_node
from core.util.state import list_workers
from tests.chaos.driver import SOON
from tests.eventually import eventually

SEED = 20260101
FRAMES = 10_000
#: Connections kept open at a time, most of them with half a frame.
OPEN = 40
#: Growth of any process that is not flat any more; allocators keep some.
FLAT_BYTES = 24 * 1024 * 1024


@core.remote
def add(a: int, b: int) -> int:
    return a + b


@core.remote(num_cpus=0)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


def any_value(kind: Any, rng: random.Random) -> Any:
    """Return some value of an annotated type: valid for the decoder, and rarely for anybody else."""
    arguments = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if kind is bytes:
        return rng.choice([b"", rng.randbytes(16), rng.randbytes(28), rng.randbytes(rng.randrange(300))])
    if kind is str:
        # No name of a method: a true call of this user's process would be carried out, and rightly.
        return rng.choice(["", "i", "s", "e", "x" * rng.randrange(100), "\0\n\u2028"])
    if kind is int:
        return rng.choice([-(2**63), -2, -1, 0, 1, 2, 255, 2**31, 2**62, rng.randrange(10**6)])
    if kind is bool:
        return rng.random() < 0.5
    if kind is float:
        return rng.choice([0.0, -1.0, float("inf"), float("nan"), 1e300])
    if origin in (list, tuple):
        if origin is tuple and (len(arguments) < 2 or arguments[1] is not Ellipsis):
            return tuple(any_value(part, rng) for part in arguments)
        return [any_value(arguments[0], rng) for _ in range(rng.randrange(4))]
    if origin is dict:
        return {any_value(arguments[0], rng): any_value(arguments[1], rng) for _ in range(rng.randrange(3))}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any_message(kind, rng)
    if type(None) in arguments:
        return rng.choice([None, any_value(next(part for part in arguments if part is not type(None)), rng)])
    return rng.choice([None, 1, "x"])


def any_message(kind: type[msgspec.Struct], rng: random.Random) -> msgspec.Struct:
    """Return a message whose fields have the right types and arbitrary contents."""
    fields = {field.name: any_value(field.type, rng) for field in msgspec.structs.fields(kind)}
    return kind(**fields)


def bad_frames(hello: Any, kinds: list[type[msgspec.Struct]], rng: random.Random) -> Iterator[bytes]:
    """Return an endless stream of bad bytes for one kind of socket."""
    while True:
        messages = [hello(), *(any_message(rng.choice(kinds), rng) for _ in range(rng.randrange(1, 4)))]
        frame = framing.encode(messages if rng.random() < 0.8 else messages[1:])
        match rng.randrange(6):
            case 0:
                yield rng.randbytes(rng.randrange(1, 2000))
            case 1:
                for _ in range(rng.randrange(1, 8)):
                    frame[rng.randrange(4, len(frame))] = rng.randrange(256)
                yield bytes(frame)
            case 2:
                length = rng.choice([0, 1, 2**20 + 1, 2**31, 2**32 - 1, 600 * 2**20])
                yield struct.pack("<I", length) + rng.randbytes(40)
            case 3:
                yield bytes(frame[: rng.randrange(len(frame))])
            case 4:
                yield struct.pack("<I", 5000) + b"\x91" * 5000
            case _:
                yield bytes(frame)


def peer_hello(rng: random.Random) -> Any:
    return lambda: peer.PeerHello(VERSION, rng.choice([b"", rng.randbytes(5), ids.new_address()]), 1)


def node_hello(rng: random.Random) -> Any:
    return lambda: to_node.Hello(VERSION, ids.new_address(), "driver", rng.randrange(10**6))


def throw(path: str, frame: bytes, held: list[socket.socket]) -> None:
    """Send bytes and leave the connection open for a while."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(SOON)
    try:
        sock.connect(path)
        sock.sendall(frame)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused already, as it should be
    held.append(sock)
    if len(held) > OPEN:
        held.pop(0).close()


# The driver says in its log which connections it has closed; here that is as it should be.
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_bad_frames_at_every_socket_do_no_harm(session: object) -> None:
    rng = random.Random(SEED)
    counter = Counter.remote()
    assert core.get([counter.add.remote(), add.remote(1, 2)], timeout=SOON) == [1, 3]
    context = core.get_runtime_context()
    eventually(pool_is_settled, SOON)
    directory = Path(session["session_dir"])  # type: ignore[index]
    mine = next(path for path in directory.glob("*.sock") if path.name != "node.sock" and is_mine(path))
    sockets = {path.name: str(path) for path in directory.glob("*.sock")}
    assert len(sockets) >= 4, "the daemon's, the driver's, a worker's and an actor's"
    assert context.get_node_id()
    to_peers = bad_frames(peer_hello(rng), list(get_args(peer.FromPeer)), rng)
    to_daemon = bad_frames(
        node_hello(rng), [kind for kind in get_args(to_node.ToNode) if kind is not to_node.Hello], rng
    )
    processes = psutil.Process().children(recursive=True)
    before = {process.pid: process.memory_info().rss for process in [*processes, psutil.Process()]}
    held: list[socket.socket] = []
    calls = 1
    for number in range(FRAMES):
        name = rng.choice(list(sockets))
        throw(sockets[name], next(to_daemon if name == "node.sock" else to_peers), held)
        if number % 100 == 0:
            calls += 1
            assert core.get(counter.add.remote(), timeout=SOON) == calls, "the actor lives on"
            assert core.get(add.remote(number, 1), timeout=SOON) == number + 1
    for sock in held:
        sock.close()
    assert core.get(add.remote(1, 1), timeout=SOON) == 2
    assert mine.exists()
    alive = {process.pid for process in processes if process.is_running() and process.status() != "zombie"}
    assert alive == {process.pid for process in processes}, "nobody died"
    for process in [*processes, psutil.Process()]:
        grown = process.memory_info().rss - before[process.pid]
        assert grown < FLAT_BYTES, f"{process.cmdline()[:3]} has grown by {grown >> 20} MiB"
    eventually(lambda: psutil.Process().num_fds() < 100, SOON, "the driver closes what strangers left open")


def test_a_silent_stranger_is_hung_up_on_at_every_socket(session: object) -> None:
    counter = Counter.remote()
    core.get([counter.add.remote(), add.remote(1, 2)], timeout=SOON)
    eventually(pool_is_settled, SOON)
    strangers = []
    for path in Path(session["session_dir"]).glob("*.sock"):  # type: ignore[index]
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(SOON)
        sock.connect(str(path))
        sock.sendall(b"\x10")
        strangers.append(sock)
    assert len(strangers) >= 4
    for sock in strangers:
        assert sock.recv(1) == b"", "closed by the other side"
        sock.close()
    assert core.get(counter.add.remote(), timeout=SOON) == 2


def pool_is_settled() -> bool:
    """Tell whether no worker will leave by itself: more than one per CPU may have been started while all was new."""
    states = [row.state for row in list_workers()]
    return states.count("idle") <= 2 and set(states) <= {"idle", "leased", "actor"}


def is_mine(path: Path) -> bool:
    """Tell whether this process listens at a socket."""
    return any(connection.laddr == str(path) for connection in psutil.Process().net_connections("unix"))
