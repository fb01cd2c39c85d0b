"""Futures of references: what their callbacks may do to the thread that reads for all."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

import core


@core.remote(max_concurrency=2)
class Gate:
    """A gate that opens once."""

    def __init__(self) -> None:
        self.is_open = threading.Event()

    def wait(self) -> bool:
        return self.is_open.wait(30)

    def open(self) -> None:
        self.is_open.set()


@pytest.mark.usefixtures("session")
def test_a_callback_that_exits_harms_nobody() -> None:
    def leave(future: Future[bool]) -> None:
        raise SystemExit

    called = threading.Event()
    gate = Gate.remote()
    left: Future[bool] = gate.wait.remote().future()
    left.add_done_callback(leave)
    opened: Future[None] = gate.open.remote().future()
    assert left.result(timeout=30)
    assert opened.result(timeout=30) is None
    gate.open.remote().future().add_done_callback(lambda _: called.set())
    assert called.wait(30)
