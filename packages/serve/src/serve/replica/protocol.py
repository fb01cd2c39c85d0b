"""A client's connection to a replica: whoever leaves takes his request with him."""

from __future__ import annotations

from serve.http.cycle import Cycle
from serve.http.protocol import GuardedProtocol

#: a client that sends this header wants its request finished even if it goes away (Ray's name)
_KEEP = b"x-request-disconnect-disabled"


class ReplicaProtocol(GuardedProtocol):
    """One connection to a replica. An application whose client goes away is cancelled; Starlette alone would go on."""

    def _drop_line(self) -> None:
        dropped = [turn for turn in self._line if isinstance(turn, Cycle)]
        for cycle in dropped:
            cycle.keep_going = _kept(cycle)
        super()._drop_line()
        for cycle in dropped:
            if cycle.task is not None and not cycle.keep_going:
                cycle.task.cancel()


def _kept(cycle: Cycle) -> bool:
    return any(name == _KEEP and value.lower() == b"true" for name, value in cycle.scope["headers"])
