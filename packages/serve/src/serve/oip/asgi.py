"""The protocol by HTTP: an ASGI application over what answers it."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import unquote

import msgspec

from core.exceptions import RayTaskError
from serve.errors import BackPressureError, RayServeException
from serve.oip import json_codec as codec
from serve.oip.errors import InferenceError
from serve.oip.served import EXTENSIONS, Metadata, Served
from serve.version import __version__

logger = logging.getLogger("serve")

_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>ready|infer))?")
_REPOSITORY = re.compile(r"/v2/repository/models/(?P<name>[^/]+)/(?P<verb>load|unload)")


class InferenceApp:
    """See the module's docstring.

    Args:
        served: answers.
    """

    def __init__(self, served: Served) -> None:
        self._served = served

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(_Exchange(scope, receive, send))

    async def _http(self, exchange: _Exchange) -> None:
        try:
            await self._answer(exchange)
        except InferenceError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error  # of another deployment's
            await exchange.json({"error": str(cause)}, error.status)
        except BackPressureError as error:
            await exchange.json(
                {"error": str(error)}, 503, [(b"retry-after", str(int(error.retry_after_s + 1)).encode())]
            )
        except RayServeException as error:
            await exchange.json({"error": str(error)}, 503)
        except Exception as error:  # the user's
            logger.exception("%s failed", exchange.path)
            await exchange.json({"error": f"{type(error).__name__}: {error}"}, 500)

    async def _answer(self, exchange: _Exchange) -> None:
        path, served = exchange.path, self._served
        if found := _MODEL.fullmatch(path):
            await self._model(exchange, unquote(found["name"]), unquote(found["version"] or ""), found["verb"])
        elif path in ("/v2", "/v2/"):
            exchange.expect("GET")
            await exchange.json({"name": "skate-serve", "version": __version__, "extensions": list(EXTENSIONS)})
        elif path == "/v2/health/live":
            exchange.expect("GET")
            await exchange.json({"live": True})
        elif path == "/v2/health/ready":
            exchange.expect("GET")
            ready = await served.ready_models()
            await exchange.json({"ready": ready}, 200 if ready else 503)
        elif path == "/v2/repository/index":
            exchange.expect("POST")
            await self._index(exchange)
        elif found := _REPOSITORY.fullmatch(path):
            exchange.expect("POST")
            parameters = exchange.checked(await exchange.body(), _Order).parameters
            order = served.load if found["verb"] == "load" else served.unload
            await order(unquote(found["name"]), parameters)
            await exchange.json({})
        else:
            raise InferenceError(f"the protocol has no {path!r}", 404)

    async def _model(self, exchange: _Exchange, name: str, version: str, verb: str | None) -> None:
        served = self._served
        exchange.expect("POST" if verb == "infer" else "GET")
        if verb == "infer":
            body = await exchange.body()
            request = codec.decode(name, version, body, exchange.header(codec.LENGTH_HEADER))
            parts, length = codec.encode(await served.infer(request), request)
            await exchange.parts(parts, length)
        elif verb == "ready":
            ready = await served.is_ready(name, version)
            await exchange.json({"name": name, "ready": ready}, 200 if ready else 503)
        else:
            await exchange.json(_metadata(await served.metadata(name, version)))

    async def _index(self, exchange: _Exchange) -> None:
        only_ready = exchange.checked(await exchange.body(), _IndexOrder).ready
        found = [each for each in await self._served.index() if each.state == "READY" or not only_ready]
        await exchange.json(
            [{"name": each.name, "version": each.version, "state": each.state, "reason": each.reason} for each in found]
        )


class _Order(msgspec.Struct):
    parameters: dict[str, Any] = {}


class _IndexOrder(msgspec.Struct):
    ready: bool = False


def _metadata(found: Metadata) -> dict[str, Any]:
    return {
        "name": found.name,
        "versions": list(found.versions),
        "platform": found.platform,
        "inputs": codec.tensor_metadata(found.inputs),
        "outputs": codec.tensor_metadata(found.outputs),
    }


class _Exchange:
    """A request and its answer."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        #: within the application
        self.path: str = scope["path"].removeprefix(scope.get("root_path", "")) or "/"

    def expect(self, method: str) -> None:
        """Refuse other methods of HTTP."""
        if self._scope["method"] not in (method, "HEAD" if method == "GET" else method):
            raise InferenceError(f"{self.path} is for {method}, not {self._scope['method']}", 405)

    def header(self, name: str) -> str | None:
        """Return the value of a header field."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self._scope["headers"] if key == wanted), None)

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            InferenceError: it is compressed, or its client went away.
        """
        if self.header("content-encoding") not in (None, "identity"):
            raise InferenceError("compressed requests are not supported", 415)
        parts = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise InferenceError("the client went away", 400)
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def checked(self, body: bytes, kind: type[Any]) -> Any:
        """Return a body that is JSON; none at all is an empty object."""
        try:
            return msgspec.json.decode(body or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InferenceError(f"the body of {self.path} is not what the protocol says: {error}") from None

    async def json(self, value: Any, status: int = 200, fields: list[tuple[bytes, bytes]] | None = None) -> None:
        """Answer with JSON."""
        await self._respond(
            [msgspec.json.encode(value)], status, [(b"content-type", b"application/json"), *(fields or ())]
        )

    async def parts(self, parts: list[bytes], json_length: int | None) -> None:
        """Answer with JSON and what follows it."""
        if json_length is None:
            await self._respond(parts, 200, [(b"content-type", b"application/json")])
            return
        length = (codec.LENGTH_HEADER.lower().encode(), str(json_length).encode())
        await self._respond(parts, 200, [(b"content-type", b"application/octet-stream"), length])

    async def _respond(self, parts: list[bytes], status: int, fields: list[tuple[bytes, bytes]]) -> None:
        size = (b"content-length", str(sum(map(len, parts))).encode())
        await self._send({"type": "http.response.start", "status": status, "headers": [*fields, size]})
        await self._send({"type": "http.response.body", "body": b"".join(parts)})


async def _no_lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
