"""All of a gateway in one: what replicas put before their application."""

from __future__ import annotations

from typing import Any

from serve.config import CORSConfig, GatewayConfig
from serve.gateway.judge import Judge
from serve.gateway.marks import App, Receive, Refused, Scope, Send
from serve.gateway.middleware import Judged
from serve.gateway.table import Memory, ProcessMemory


class Gateway:
    """A whole gateway as one ASGI middleware: CORS outside, so that pages can read refusals; then keys, limits, time.

    ::

        app.add_middleware(serve.gateway.Gateway, config={"rate_limits": [{"rate": "100/minute"}]})

    Args:
        app: what is guarded.
        config: a `serve.config.GatewayConfig`, or a dictionary.
        memory: where limits remember clients; default: in this process.
        name: of the application, since several may share a memory.
        refused: is told of every refusal; None for nobody.

    Raises:
        ValueError: an unknown option or a wrong value, or a variable that is not set.
    """

    def __init__(
        self,
        app: App,
        config: GatewayConfig | dict[str, Any],
        memory: Memory | None = None,
        name: str = "",
        refused: Refused | None = None,
    ) -> None:
        checked = config if isinstance(config, GatewayConfig) else GatewayConfig.of("Gateway(config=...)", config)
        self._outermost: App = Judged(app, Judge(checked, memory or ProcessMemory(), name), refused)
        if checked.cors is not None:
            self._outermost = _cors(self._outermost, checked.cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        await self._outermost(scope, receive, send)


def _cors(app: App, config: CORSConfig) -> App:
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415 - only those who want it pay for it

    return CORSMiddleware(app, **config.model_dump())
