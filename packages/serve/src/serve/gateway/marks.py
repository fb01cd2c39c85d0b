"""What the gateway notes in a request's scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: any ASGI application
App = Callable[[Any, Any, Any], Awaitable[None]]
#: is told of a refusal: its scope, its status and the bytes of its body
Refused = Callable[[Scope, int, int], None]

#: name of the request's API key
KEY_NAME = "serve.api_key"
#: whose key it is (`serve.gateway.keys.Holder`)
HOLDER = "serve.holder"
#: rank of its class: 0 for the default, higher comes first
RANK = "serve.rank"
