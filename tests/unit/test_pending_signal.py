"""A signal for the main thread is sent until its handler has been seen to run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from math import inf

import pytest

from core.runtime.pending_signal import AGAIN_TIMES, PendingSignal


@pytest.fixture
def arrived() -> Iterator[list[int]]:
    """The signals that the handler has got."""
    numbers: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, old)


def send_all(pending: PendingSignal) -> None:
    """Do what the background thread does, without its waiting."""
    while pending.due < inf:
        pending.send()


def test_one_that_nobody_sees_is_sent_again_and_then_given_up(arrived: list[int]) -> None:
    pending = PendingSignal()
    pending.send_until_seen(signal.SIGUSR1)
    send_all(pending)
    assert len(arrived) == 1 + AGAIN_TIMES
    assert pending.due == inf


def test_one_that_was_seen_is_not_sent_again(arrived: list[int]) -> None:
    pending = PendingSignal()
    pending.send_until_seen(signal.SIGUSR1)
    pending.seen()
    send_all(pending)
    assert len(arrived) == 1


def test_one_that_must_wait_is_sent_once(arrived: list[int]) -> None:
    pending = PendingSignal()
    pending.send_later(signal.SIGUSR1)
    assert arrived == []
    send_all(pending)
    assert len(arrived) == 1


def test_it_goes_to_the_main_thread_from_any_other(arrived: list[int]) -> None:
    pending = PendingSignal()
    thread = threading.Thread(target=pending.send_until_seen, args=(signal.SIGUSR1,))
    thread.start()
    thread.join()
    assert len(arrived) == 1
