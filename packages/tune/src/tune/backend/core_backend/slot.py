"""One process of trials as the driver sees it: its calls under way, its orders, what it runs."""

from __future__ import annotations

from collections import deque
from typing import Any

import core
from tune.backend.core_backend.placement import Place
from tune.messages import Launch
from tune.trial_process.slot_actor import EXCHANGE, EXCHANGE_THREADS, Order, Start, TrialSlot

#: An environment of their own keeps slots from taking over idle processes of tasks, which would cost those what they
#: have imported; fronts that let tasks do the work (`tune.delegate`) count on it.
_OWN_PROCESS = {"env_vars": {"SKATE_TUNE_SLOT": "1"}}

_Actor = core.remote(concurrency_groups={EXCHANGE: EXCHANGE_THREADS}, max_restarts=0)(TrialSlot)


class Slot:
    """See the module's docstring.

    Args:
        number: of the slot, unique in its backend.
        place: where its process goes.
        arguments: of `TrialSlot`.
    """

    def __init__(self, number: int, place: Place, arguments: tuple[Any, ...]) -> None:
        self.number = number
        self.place = place
        self.pid = 0
        #: what it runs; None while idle
        self.launch: Launch | None = None
        #: the controller has a result that the trial waits at
        self.waiting = False
        #: not to be used for another trial
        self.spoiled = False
        #: when it became idle (monotonic seconds)
        self.idle_since = 0.0
        self._handle: Any = _Actor.options(**place.options(), runtime_env=_OWN_PROCESS).remote(*arguments)
        #: done when the process ends, however it does
        self.life: core.ObjectRef[None] = self._handle.run.remote()
        #: exchanges under way, oldest first
        self.calls: deque[core.ObjectRef[bytes]] = deque()
        self._orders: list[Order] = []
        self._number = 0

    def start(self, launch: Launch) -> None:
        """Run a trial."""
        self.launch = launch
        self.waiting = False
        self.order(Start(launch))

    def order(self, order: Order) -> None:
        """Have something done, at the next `exchange`."""
        self._orders.append(order)

    def exchange(self) -> None:
        """Send the orders there are, and keep a poll under way while a trial runs."""
        if not self._orders and (self.calls or self.launch is None):
            return
        orders, self._orders = self._orders, []
        self.calls.append(self._handle.exchange.remote(self._number, orders))
        self._number += 1

    @property
    def awaited(self) -> core.ObjectRef[Any]:
        """What to wait for: the oldest exchange, else the process's death."""
        return self.calls[0] if self.calls else self.life

    def runs(self, trial_id: str, attempt: int) -> bool:
        """Tell whether it runs this attempt."""
        return self.launch is not None and (self.launch.trial_id, self.launch.attempt) == (trial_id, attempt)

    def kill(self) -> None:
        """End the process."""
        core.kill(self._handle)
