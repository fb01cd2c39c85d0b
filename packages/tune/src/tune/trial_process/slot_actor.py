"""The process of a trial: an actor whose main thread runs trials, while another thread answers the driver.

`run` is one call that lasts as long as the process serves. `exchange` is a long poll: it delivers orders and comes back
with events. Both directions are numbered, because calls of a concurrency group may overtake each other.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import msgspec

import core
from tune.messages import Launch, Verdict
from tune.trial_process.outbox import Outbox
from tune.trial_process.runner import ProcessSettings, TrialRunner
from tune.trial_process.wire import encode

#: Name of the concurrency group of `TrialSlot.exchange`, and its threads: the poll that waits, and the one after it.
EXCHANGE, EXCHANGE_THREADS = "exchange", 2


class Start(msgspec.Struct, frozen=True):
    """Run a trial after those ordered before."""

    launch: Launch


class Answer(msgspec.Struct, frozen=True):
    """A verdict for a trial (see `Outbox.answer`)."""

    trial_id: str
    attempt: int
    verdict: Verdict
    asked: bool


class Leave(msgspec.Struct, frozen=True):
    """Run no more trials."""


Order = Start | Answer | Leave


class TrialSlot:
    """See the module's docstring.

    Args:
        trainable: a list with the reference to the trainable, so that it is fetched where its failure has a trial.
        settings: what all trials have in common.
    """

    def __init__(self, trainable: list[core.ObjectRef[Any]], settings: ProcessSettings) -> None:
        self._reference = trainable[0]
        self._trainable: Any = None
        self._outbox = Outbox()
        self._runner = TrialRunner(self._load, settings, self._outbox)
        self._changed = threading.Condition()
        self._launches: deque[Launch] = deque()
        self._leaving = False
        #: orders that came before others that were sent earlier, by number
        self._early: dict[int, list[Order]] = {}
        self._next = 0

    def run(self) -> None:
        """Run trials as they are ordered, in the process's main thread, until told to leave."""
        while True:
            with self._changed:
                while not self._launches and not self._leaving:
                    self._changed.wait()
                if not self._launches:
                    break
                launch = self._launches.popleft()
            self._runner.run(launch)
        self._runner.close()

    @core.method(concurrency_group=EXCHANGE)
    def exchange(self, number: int, orders: list[Order]) -> bytes:
        """Take orders, then wait for events.

        Args:
            number: of this call, counted from 0.
            orders: what to do.

        Returns:
            Encoded events; none if a later call has come.
        """
        with self._changed:
            self._early[number] = orders
            while self._next in self._early:
                for order in self._early.pop(self._next):
                    self._obey(order)
                self._next += 1
            self._changed.notify_all()
        return encode(self._outbox.take(number))

    def _obey(self, order: Order) -> None:
        if isinstance(order, Start):
            self._launches.append(order.launch)
        elif isinstance(order, Answer):
            self._outbox.answer(order.trial_id, order.attempt, order.verdict, asked=order.asked)
        else:
            self._leaving = True

    def _load(self) -> Any:
        if self._trainable is None:
            self._trainable = core.get(self._reference)
        return self._trainable
