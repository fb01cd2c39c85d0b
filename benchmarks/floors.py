"""Floors: the same work as a row's, on nothing but sockets, pickle, memory and ``fork``.

A floor is what a perfect system written in Python could reach; the report shows how much of it a system gets.
"""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import multiprocessing
import os
import pickle
import socket
import statistics
import struct
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkProcess
from typing import Any, Self

from benchmarks.meter import Meter

#: Calls per frame of the pipelined floors.
FRAME = 32
#: Frames in flight: enough to keep both ends busy, few enough never to fill both socket buffers.
WINDOW = 16
_LENGTH = struct.Struct("<I")
_NUMBERS = itertools.count()


def task() -> tuple[object, ...]:
    """Return a message that asks for a call: a fresh id of 24 bytes, a name, no arguments."""
    return next(_NUMBERS).to_bytes(24, "little"), "small_value", (), {}


class Channel:
    """Length-prefixed pickles over one end of a Unix socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray(1 << 20)
        self._start = self._end = 0

    def send(self, message: object) -> None:
        payload = pickle.dumps(message, 5)
        self.sock.sendall(_LENGTH.pack(len(payload)) + payload)

    def receive(self) -> Any:
        """Return the next message; raise EOFError when the other end is gone."""
        self._fill(_LENGTH.size)
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        self._start += _LENGTH.size
        self._fill(length)
        message = pickle.loads(memoryview(self._buffer)[self._start : self._start + length])
        self._start += length
        return message

    def _fill(self, needed: int) -> None:
        if self._end - self._start >= needed:
            return
        self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
        self._start, self._end = 0, self._end - self._start
        if needed > len(self._buffer):
            self._buffer.extend(bytes(needed - len(self._buffer)))
        while self._end < needed:
            count = self.sock.recv_into(memoryview(self._buffer)[self._end :])
            if count == 0:
                raise EOFError
            self._end += count


class Peer:
    """A forked process that answers on a channel; ends when the channel closes."""

    def __init__(self, serve: Callable[[Channel], None]) -> None:
        ours, theirs = socket.socketpair()
        self.process = _fork(_serve, serve, theirs, ours)
        theirs.close()
        self.channel = Channel(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Later forks hold copies of our end: only a shutdown reaches the peer.
        self.channel.sock.shutdown(socket.SHUT_RDWR)
        self.channel.sock.close()
        self.process.join()


def echo(channel: Channel) -> None:
    """Serve: answer a call with its id and a value, a list of calls with a list of such replies."""
    while True:
        message = channel.receive()
        if isinstance(message, list):
            channel.send([(identifier, b"ok") for identifier, *_ in message])
        else:
            channel.send((message[0], b"ok"))


def client(channel: Channel) -> None:
    """Serve: on each number received, make that many pipelined calls to an echo process of one's own."""
    with Peer(echo) as server:
        while True:
            pipelined(server.channel, channel.receive())
            channel.send(True)


def pipelined(channel: Channel, calls: int) -> None:
    """Make ``calls`` calls in frames of FRAME, and read all the replies."""
    frames = -(-calls // FRAME)
    sent = 0
    results: dict[bytes, bytes] = {}
    for done in range(frames):
        while sent < frames and sent - done < WINDOW:
            channel.send([task() for _ in range(FRAME)])
            sent += 1
        results.update(channel.receive())


def ping_pong(_: None, meter: Meter) -> float:
    """One call at a time: send, wait, read. The median of five pairs of processes.

    A pair runs two to three times faster while the kernel keeps both on one core than when each has its own: one pair
    would be a coin toss.
    """
    short = dataclasses.replace(meter, seconds=meter.seconds / 5)

    def pair() -> float:
        with Peer(echo) as peer:

            def call() -> None:
                peer.channel.send(task())
                peer.channel.receive()

            return short.rate(call)

    return statistics.median(pair() for _ in range(5))


def thousand_calls(_: None, meter: Meter) -> float:
    """Calls per second when 1,000 are pipelined in frames."""
    return thousand_batches(_, meter) * 1000


def thousand_batches(_: None, meter: Meter) -> float:
    """Batches of 1,000 pipelined calls per second."""
    with Peer(echo) as peer:
        return meter.rate(lambda: pipelined(peer.channel, 1000))


def many_clients(_: None, meter: Meter) -> float:
    """Calls per second of one pipelining client per CPU, each with a server of its own."""
    calls = meter.count(10_000)
    clients = [Peer(client) for _ in range(meter.cpus)]

    def call() -> None:
        for peer in clients:
            peer.channel.send(calls)
        for peer in clients:
            peer.channel.receive()

    rate = meter.rate(call, calls * len(clients))
    for peer in clients:
        peer.__exit__()
    return rate


def store_small(_: None, meter: Meter) -> float:
    """Pickle a small value and keep it in a dict under a fresh id."""
    numbers = itertools.count()

    def put() -> None:
        values = {next(numbers).to_bytes(28, "little"): pickle.dumps(0, 5)}
        values.clear()

    return meter.rate(put)


def load_small(_: None, meter: Meter) -> float:
    """Look a small value up in a dict and unpickle it."""
    values = {b"id": pickle.dumps(0, 5)}
    return meter.rate(lambda: pickle.loads(values[b"id"]))


class Reference:
    """The least that an object reference could be, for :func:`load_references`."""

    __slots__ = ("identifier",)

    def __init__(self, identifier: bytes) -> None:
        self.identifier = identifier

    def __reduce__(self) -> tuple[Any, ...]:
        return Reference, (self.identifier,)


def load_references(_: None, meter: Meter) -> float:
    """Unpickle a list of 10,000 references."""
    payload = pickle.dumps([Reference(number.to_bytes(28, "little")) for number in range(10_000)], 5)
    return meter.rate(lambda: pickle.loads(payload))


def copy_rate(meter: Meter, source: Any) -> float:
    """Return the bytes per second at which a numpy array is copied into pages touched before."""
    import numpy as np  # heavy, and only some rows need it

    target = np.frombuffer(mmap.mmap(-1, source.nbytes), dtype=source.dtype)
    np.copyto(target, source)
    return meter.rate(lambda: np.copyto(target, source), source.nbytes)


def copiers(meter: Meter, make: Callable[[], Any], copies: int) -> float:
    """Return the bytes per second of one process per CPU, each copying an array ``copies`` times a call."""
    import numpy as np  # heavy, and only some rows need it

    def serve(channel: Channel) -> None:
        source = make()
        target = np.frombuffer(mmap.mmap(-1, source.nbytes), dtype=source.dtype)
        while True:
            for _ in range(channel.receive()):
                np.copyto(target, source)
            channel.send(source.nbytes)

    peers = [Peer(serve) for _ in range(meter.cpus)]

    def call() -> int:
        for peer in peers:
            peer.channel.send(copies)
        return sum(peer.channel.receive() for peer in peers)

    rate = meter.rate(call, call() * copies)
    for peer in peers:
        peer.__exit__()
    return rate


def fork_and_call(_: None, meter: Meter) -> float:
    """Fork a process, call it once, and end it."""

    def call() -> None:
        with Peer(echo) as peer:
            peer.channel.send(task())
            peer.channel.receive()

    return meter.rate(call)


def split(meter: Meter, total: int, work: Callable[[], object]) -> float:
    """Return the seconds in which one process per CPU does ``work`` ``total`` times between them."""

    def serve(channel: Channel) -> None:
        while True:
            for _ in range(channel.receive()):
                work()
            channel.send(True)

    peers = [Peer(serve) for _ in range(meter.cpus)]

    def call(times: int) -> None:
        for peer in peers:
            peer.channel.send(times // len(peers))
        for peer in peers:
            peer.channel.receive()

    call(len(peers))
    elapsed = meter.elapsed(lambda: call(total))
    for peer in peers:
        peer.__exit__()
    return elapsed


def shared_pages(sizes: Sequence[int]) -> list[int]:
    """Return descriptors of unnamed shared files whose pages another process has filled."""
    descriptors = []
    for size in sizes:
        descriptor = os.memfd_create("floor")
        os.truncate(descriptor, size)
        _fork(_touch, descriptor, size).join()
        descriptors.append(descriptor)
    return descriptors


def _touch(descriptor: int, size: int) -> None:
    with mmap.mmap(descriptor, size) as pages:
        for offset in range(0, size, mmap.PAGESIZE):
            pages[offset] = 1


def _serve(serve: Callable[[Channel], None], ours: socket.socket, theirs: socket.socket) -> None:
    theirs.close()
    try:
        serve(Channel(ours))
    except (EOFError, ConnectionError):
        ours.close()


def _fork(target: Callable[..., None], *args: object) -> ForkProcess:
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    return process
