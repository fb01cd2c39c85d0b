"""A client's connection to a replica: whoever leaves takes his request with him."""

from __future__ import annotations

import asyncio
from typing import Any

from serve.http.protocol import GuardedProtocol

#: a client that sends this header wants its request finished even if it goes away (Ray's name)
_KEEP = b"x-request-disconnect-disabled"


class ReplicaProtocol(GuardedProtocol):
    """One connection to a replica. An application whose client goes away is cancelled; Starlette alone would go on."""

    _answering: asyncio.Task[None] | None = None

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        task = self._answering = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a request in progress is cancelled."""
        cycle: Any = self.cycle  # None before the first request
        super().connection_lost(exc)
        if cycle is None or cycle.response_complete or self._answering is None:
            return
        if not any(name == _KEEP and value.lower() == b"true" for name, value in cycle.scope["headers"]):
            self._answering.cancel()
