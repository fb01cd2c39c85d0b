"""What reading in the threads of users must not do to them."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from core.protocol.framing import ProtocolError
from core.protocol.peer import FromPeer
from core.runtime.connection import Connection
from core.runtime.reactor import Reactor


class Handler:
    """Notes how connections end."""

    def __init__(self) -> None:
        self.ends: list[type[Exception]] = []

    def received(self, connection: Connection, messages: list[Any]) -> None:
        raise ProtocolError("no message is welcome")

    def disconnected(self, connection: Connection, error: Exception | None) -> None:
        self.ends.append(type(error))

    def accepted(self) -> None:
        """Nobody listens."""

    def tick(self, now: float) -> float | None:
        return None

    def drain(self) -> None:
        """Nothing is referred to."""

    def must_drain(self) -> bool:
        return False

    def may_drain(self) -> bool:
        return False


class Large:
    """Stands for an array of the caller."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the cyclic collector."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_connection_that_breaks_keeps_nothing_of_the_caller_alive() -> None:
    handler = Handler()
    reactor = Reactor(handler)
    ours, theirs = socket.socketpair()
    reactor.add(Connection(ours, FromPeer))

    def wait() -> weakref.ref[Large]:
        large = Large()
        reactor.step(20)
        return weakref.ref(large)

    with theirs:
        theirs.sendall(b"no frame at all, but bytes" * 10)
        assert wait()() is None
    reactor.close()
    assert handler.ends == [ProtocolError]
