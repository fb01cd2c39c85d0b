"""What the connections of a proxy share: routes, the router, connections to replicas, time limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve.handle.router import Router
from serve.handle.traffic import draw
from serve.http.limit import time_limit
from serve.metrics.observer import Observer
from serve.proxy.judges import Judges
from serve.proxy.request import RequestHead
from serve.proxy.upstream import Pool
from serve.specs import Route, Split, Targets
from serve.state.routing import RoutingTable, choose_split

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Relay:
    """See the module's docstring. To uvicorn it is the application, of which it runs no more than the lifespan.

    Args:
        router: finds replicas.
        observer: is told of every answer; None for nobody.
        request_timeout_s: seconds a request may take unless its route or its own header says less; None for no limit.
        limits_table: path of the table in which rate limits count; None to count in this process alone.
    """

    def __init__(
        self,
        router: Router,
        observer: Observer | None = None,
        request_timeout_s: float | None = None,
        limits_table: str | None = None,
    ) -> None:
        self.router = router
        self.observer = observer
        self.request_timeout_s = request_timeout_s
        #: the routes as last published
        self.table = RoutingTable()
        #: the connections to replicas
        self.pool = Pool()
        #: the gateways
        self.judges = Judges(limits_table)

    def update(self, targets: Targets) -> None:
        """Take a publication over."""
        self.table = RoutingTable(targets.routes)
        self.judges.update(targets.routes)
        self.pool.keep_only(info.socket for replicas in targets.replicas.values() for info in replicas)

    def split(self, route: Route, head: RequestHead) -> Split:
        """Choose the revision that answers a request."""
        if len(route.splits) == 1:
            return route.splits[0]
        return choose_split(route, head.fields(), draw(route.app, head.session_id))

    def time_limit(self, route: Route, head: RequestHead) -> float | None:
        """Return the seconds a request may take; its own header may ask for less than the route."""
        return time_limit(head.timeout, route.request_timeout_s or self.request_timeout_s)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Run the lifespan (ASGI): there is nothing to do."""
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
