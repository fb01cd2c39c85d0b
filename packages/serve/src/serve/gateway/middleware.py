"""The gateway as ASGI middleware, for any application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

from serve.config import APIKey, APIKeysConfig, GatewayConfig, PrioritiesConfig, RateLimitConfig, TimeLimitConfig
from serve.errors import BackPressureError
from serve.gateway.judge import Judge, Verdict
from serve.gateway.keys import Holder
from serve.gateway.line import PriorityLine
from serve.gateway.marks import HOLDER, KEY_NAME, RANK, VERDICT, App, Receive, Refused, Scope, Send
from serve.gateway.table import Memory, ProcessMemory


class Judged:
    """Asks a `Judge` about each request, and answers those that it refuses.

    Args:
        app: gets the others.
        judge: decides.
        refused: is told of every refusal, with its scope, its status and the bytes of its body; None for nobody.
    """

    def __init__(self, app: App, judge: Judge, refused: Refused | None = None) -> None:
        self._app = app
        self._judge = judge
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on (ASGI)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        decided = scope.pop(VERDICT, None)
        if decided is not None:
            verdict = _verdict(decided)
        else:
            path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
            client = scope["client"][0] if scope.get("client") else ""
            verdict = self._judge.judge(path, scope["headers"], client, time.monotonic(), scope.get(HOLDER))
        if verdict.status:
            if self._refused is not None:
                self._refused(scope, verdict.status, len(verdict.text) + 1)
            await refuse(scope, send, verdict.status, verdict.text, verdict.fields)
            return
        if verdict.holder is not None:
            scope[HOLDER], scope[KEY_NAME] = verdict.holder, verdict.holder.name
        if verdict.rank:
            scope[RANK] = verdict.rank
        await self._pass_on(scope, receive, send, verdict)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, verdict: Verdict) -> None:
        started = False

        async def answered(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *verdict.fields]
            await send(message)

        if verdict.timeout_s is None or scope["type"] == "websocket":
            await self._app(scope, receive, answered if verdict.fields else send)
            return
        limit = asyncio.timeout(verdict.timeout_s)
        try:
            async with limit:
                await self._app(scope, receive, answered)
        except TimeoutError:
            if started or not limit.expired():
                raise  # the server cuts the answer off, so that the client sees that it is not whole
            await refuse(scope, send, 504, f"no answer within {verdict.timeout_s:g} s", verdict.fields)


class APIKeys(Judged):
    """Lets requests in that have a key.

    ::

        key, hashed = serve.gateway.new_key()
        app.add_middleware(serve.gateway.APIKeys, keys=[{"name": "alice", "hash": hashed}])

    The name of the key is in ``scope["serve.api_key"]``. A key may have a limit of its own (``rate_limit="10/s"``).

    Args:
        app: what is guarded.
        keys: dictionaries with ``name`` and either ``hash`` or ``env``, or `serve.config.APIKey` s.
        header: the field that has the key; ``Authorization: Bearer`` is understood as well.
        exempt: paths that need none, with ``*`` for anything.
        memory: where limits remember clients; default: in this process.

    Raises:
        ValueError: an unknown option or a wrong value, or a variable that is not set.
    """

    def __init__(
        self,
        app: App,
        keys: Sequence[APIKey | dict[str, Any]],
        header: str = "x-api-key",
        exempt: Sequence[str] = (),
        memory: Memory | None = None,
    ) -> None:
        given = [key if isinstance(key, APIKey) else APIKey.of("APIKeys(keys=...)", key) for key in keys]
        config = APIKeysConfig.of("APIKeys", {"keys": given, "header": header, "exempt": list(exempt)})
        super().__init__(app, Judge(GatewayConfig.model_construct(api_keys=config), memory or ProcessMemory()))


class RateLimits(Judged):
    """Lets only so many requests in; others get 429 with ``Retry-After``. All answers say where the client stands.

    ::

        app.add_middleware(serve.gateway.RateLimits, limits=["100/minute", {"rate": "5/s", "routes": ["/predict*"]}])

    Args:
        app: what is guarded.
        limits: rates, or dictionaries with the fields of `serve.config.RateLimitConfig`.
        trusted_proxies: addresses or networks of proxies whose ``X-Forwarded-For`` is believed.
        memory: where limits remember clients; default: in this process. A `serve.gateway.table.SharedMemory` is exact
            over all processes of a machine.

    Raises:
        ValueError: an unknown option or a wrong value.
    """

    def __init__(
        self,
        app: App,
        limits: Sequence[str | RateLimitConfig | dict[str, Any]],
        trusted_proxies: Sequence[str] = (),
        memory: Memory | None = None,
    ) -> None:
        given = [
            limit
            if isinstance(limit, RateLimitConfig)
            else RateLimitConfig.of("RateLimits(limits=...)", {"rate": limit} if isinstance(limit, str) else limit)
            for limit in limits
        ]
        config = GatewayConfig(rate_limits=given, trusted_proxies=list(trusted_proxies))
        super().__init__(app, Judge(config, memory or ProcessMemory()))


class TimeLimits(Judged):
    """Answers 504 where an application takes too long. Its work is cancelled.

    Args:
        app: what is guarded.
        seconds: for all paths.
        routes: seconds for some, by pattern with ``*`` for anything; the first that fits counts.

    Raises:
        ValueError: a wrong value.
    """

    def __init__(self, app: App, seconds: float | None = None, routes: dict[str, float] | None = None) -> None:
        pairs: list[tuple[str, float | None]] = [*(routes or {}).items(), ("*", seconds)]
        limits = [
            TimeLimitConfig.of("TimeLimits", {"seconds": value, "routes": [pattern]})
            for pattern, value in pairs
            if value is not None
        ]
        super().__init__(app, Judge(GatewayConfig(timeouts=limits), ProcessMemory()))


class Priorities:
    """Lets so many requests in at a time; of those that wait, the ones of higher classes go first, and none starves.

    Put it inside of `APIKeys` for classes by key. (Applications of Serve have a line already, which their ``gateway``
    option puts in order.)

    Args:
        app: what is guarded.
        concurrency: requests at a time.
        max_waiting: requests that may wait; beyond, whoever would be served last gets 503. -1 for any number.
        **options: fields of `serve.config.PrioritiesConfig`.

    Raises:
        ValueError: an unknown option or a wrong value.
    """

    def __init__(self, app: App, concurrency: int, max_waiting: int = -1, **options: Any) -> None:
        if type(concurrency) is not int or concurrency < 1:
            raise ValueError(f"concurrency is a whole number of at least 1, not {concurrency!r}")
        config = PrioritiesConfig.of("Priorities", options)
        self._judged = Judged(self._wait, Judge(GatewayConfig(priorities=config), ProcessMemory()))
        self._app = app
        self._room = concurrency
        self._max_waiting = max_waiting
        self._line: PriorityLine[asyncio.Future[None]] = PriorityLine(config.ageing_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in its turn (ASGI)."""
        await self._judged(scope, receive, send)

    async def _wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._enter(scope.get(RANK, 0))
        except BackPressureError as error:
            await refuse(scope, send, 503, str(error), [(b"retry-after", b"1")])
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._leave()

    async def _enter(self, rank: int) -> None:
        if self._room:
            self._room -= 1
            return
        place = asyncio.get_running_loop().create_future()
        sent_away = self._line.push(place, rank, time.monotonic(), self._max_waiting)
        if sent_away is not None and not sent_away.done():
            sent_away.set_exception(BackPressureError("the application", len(self._line)))
        try:
            await place
        except asyncio.CancelledError:
            if not self._line.remove(place) and place.done() and not place.cancelled() and not place.exception():
                self._leave()
            raise

    def _leave(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                place = self._line.pop()
                if not place.done():
                    place.set_result(None)
                    return
        self._room += 1


def _verdict(decided: bytes) -> Verdict:
    """Return what a proxy of ours has decided of a request that it let pass."""
    found = json.loads(decided)
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found["fields"]]
    holder = Holder(found["key"]) if found["key"] else None
    return Verdict(fields=fields, holder=holder, timeout_s=found["timeout_s"])


async def refuse(scope: Scope, send: Send, status: int, text: str, fields: Sequence[tuple[bytes, bytes]]) -> None:
    """Answer in place of an application."""
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)), *fields]
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": text[:100]})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
