"""Names that the gateway and those who use it agree on."""

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

#: name of the table, in the session's directory, that all processes of Serve on this machine count in
TABLE = "serve-limits.table"
#: keys of a request's scope: name of its API key
KEY_NAME = "serve.api_key"
#: whose key it is (`serve.gateway.keys.Holder`)
HOLDER = "serve.holder"
#: what somebody before us has decided, as JSON
VERDICT = "serve.verdict"
#: rank of its class: 0 for the default, higher comes first
RANK = "serve.rank"
