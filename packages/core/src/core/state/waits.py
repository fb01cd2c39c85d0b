"""Who waits for whom: finds actors and tasks that wait for each other.

A process that has waited long says on whom. An edge lasts until the process says that it goes on, or until it is not
confirmed for :data:`EDGE_SECONDS`.
"""

from __future__ import annotations

EDGE_SECONDS = 30.0


class WaitGraph:
    """The edges "``waiter`` waits for ``on``"; each process has at most one."""

    def __init__(self) -> None:
        self._edges: dict[bytes, tuple[bytes, float]] = {}

    def wait(self, waiter: bytes, on: bytes, now: float) -> list[bytes]:
        """Note an edge; return the cycle it closes, starting with ``waiter``, or []."""
        self._edges[waiter] = (on, now)
        path = [waiter]
        while on != waiter:
            edge = self._edges.get(on)
            if edge is None or now - edge[1] > EDGE_SECONDS or on in path:
                return []
            path.append(on)
            on = edge[0]
        return path

    def go_on(self, process: bytes) -> None:
        """The process does not wait any more, or is gone."""
        self._edges.pop(process, None)
