"""Tasks that depend on tasks: chains, trees, fan-in, nesting."""

from __future__ import annotations

import pickle
import socket

from benchmarks import floors, work
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.ray_api import RayApi
from benchmarks.tasks_api import Tasks, on

_CHAIN = 1000
_LEAVES = 1024
_FAN_IN = 10_000
_OUTER, _INNER = 20, 50
_DEPTH = 8


def chain(tasks: Tasks, meter: Meter) -> float:
    """Tasks per second of a chain of 1,000, each taking the reference to the last one's result."""
    length = meter.count(_CHAIN)

    def call() -> None:
        link = tasks.submit(work.increment, 0)
        for _ in range(length - 1):
            link = tasks.submit(work.increment, link)
        if tasks.gather([link]) != [length]:
            raise AssertionError("the chain lost a link")

    return meter.rate(call, length)


def tree(tasks: Tasks, meter: Meter) -> float:
    """Tasks per second of a binary tree over 1,024 leaves, all submitted before any result is read."""
    leaves = meter.count(_LEAVES)

    def call() -> None:
        level = [tasks.submit(work.increment, 0) for _ in range(leaves)]
        while len(level) > 1:
            odd = level[-1:] if len(level) % 2 else []
            level = [tasks.submit(work.add, *pair) for pair in zip(level[::2], level[1::2], strict=False)] + odd
        if tasks.gather(level) != [leaves]:
            raise AssertionError("the tree lost a leaf")

    return meter.rate(call, 2 * leaves - 1)


def fan_in(tasks: Tasks, meter: Meter) -> float:
    """Seconds of one task that takes 10,000 references to finished small results as arguments."""
    width = meter.count(_FAN_IN)
    parts = [tasks.submit(work.increment, n) for n in range(width)]
    tasks.gather(parts)
    rate = meter.rate(lambda: tasks.gather([tasks.submit(work.count, *parts)]))
    return 1 / rate


def fan_in_floor(_: None, meter: Meter) -> float:
    """Pickle 10,000 small values one by one, send them, unpickle each."""
    values = [pickle.dumps(n, 5) for n in range(meter.count(_FAN_IN))]

    def serve(channel: floors.Channel) -> None:
        while True:
            channel.send(len([pickle.loads(value) for value in channel.receive()]))

    with floors.Peer(serve) as peer:
        peer.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

        def call() -> None:
            peer.channel.send(values)
            peer.channel.receive()

        return 1 / meter.rate(call)


def nested(api: RayApi, meter: Meter) -> float:
    """Tasks per second when 20 tasks each run 50 and wait for them."""

    @api.remote
    def inner() -> bytes:
        return b"ok"

    @api.remote
    def outer(n: int) -> None:
        api.get([inner.remote() for _ in range(n)])

    count = meter.count(_OUTER, quick=4)

    def run(n: int) -> None:
        api.get([outer.remote(n) for _ in range(count)])

    return meter.rate(lambda: run(_INNER), count * (_INNER + 1), warm=lambda: run(5))


def recursion(api: RayApi, meter: Meter) -> float:
    """Seconds of a task that waits for a task that waits ..., 8 deep."""

    @api.remote
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + int(api.get(down.remote(n - 1)))

    depth = meter.count(_DEPTH, quick=2)
    return 1 / meter.rate(lambda: api.get(down.remote(depth)))


THEME = Theme(
    "graphs",
    (
        program(
            "chain of 1,000 tasks", "tasks/s", floor=floors.thousand_calls, generic=on("raylike", "dask", run=chain)
        ),
        program(
            "tree over 1,024 leaves", "tasks/s", floor=floors.thousand_calls, generic=on("raylike", "dask", run=tree)
        ),
        program(
            "fan-in of 10,000 references",
            "s",
            better="lower",
            floor=fan_in_floor,
            generic=on("raylike", "dask", run=fan_in),
        ),
        program("nested tasks, 20 x 50", "tasks/s", raylike=nested),
        program("nested tasks, 8 deep", "s", better="lower", raylike=recursion),
    ),
)
