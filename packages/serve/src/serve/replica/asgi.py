"""What a replica's HTTP server runs: the user's ASGI application, or his class or function dressed as one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from serve.asgi.marks import APP_ATTRIBUTE, BUILD_ATTRIBUTE, SLOT_ATTRIBUTE
from serve.asgi.methods import Slot, bind_methods
from serve.replica.user_code import UserCode


def application(code: UserCode) -> Callable[..., Any]:
    """Return the ASGI application of a replica, after the user's instance was made.

    Raises:
        TypeError: what ``@serve.ingress`` was given is no ASGI application.
    """
    instance = code.instance
    if not hasattr(instance, APP_ATTRIBUTE):
        return plain(code)
    cls = type(instance)
    app = getattr(cls, APP_ATTRIBUTE)
    slot = getattr(cls, SLOT_ATTRIBUTE)
    if app is None:
        app = getattr(instance, BUILD_ATTRIBUTE)()
    elif inspect.isfunction(app) and not inspect.signature(app).parameters:
        app = app()  # made here, because it could not be pickled
    if slot is None:
        slot = Slot()
    slot.instance = instance
    app = bind_methods(app, cls, slot)  # the routes of what was made here
    if not callable(app):
        raise TypeError(f"@serve.ingress was given {app!r}, which is no ASGI application")
    served: Callable[..., Any] = app
    return served


def plain(code: UserCode) -> Callable[..., Any]:
    """Dress a class with ``__call__`` or a function as an ASGI application: a request goes in, a result comes out."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope, receive)
        method = code.method("__call__")
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            response: Response = StreamingResponse(_encoded(code.stream("__call__", (request,), {})))
        else:
            arguments = (request,) if _takes_request(method) else ()
            response = answer(await code.call("__call__", arguments, {}), code)
        await response(scope, receive, send)

    return app


def answer(result: Any, code: UserCode) -> Response:
    """Turn what the user's code returned into an HTTP answer.

    Responses stay; strings and bytes become plain text; generators become streams; all else becomes JSON.
    """
    if isinstance(result, Response):
        return result
    if isinstance(result, str):
        return PlainTextResponse(result)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Response(bytes(result), media_type="application/octet-stream")
    if inspect.isasyncgen(result):
        return StreamingResponse(_encoded(result))
    if inspect.isgenerator(result):
        return StreamingResponse(_encoded(code.in_thread(result)))
    return JSONResponse(_json(result))


def _json(result: Any) -> Any:
    from fastapi.encoders import jsonable_encoder  # noqa: PLC0415 - slow to import, rarely needed

    return result.tolist() if type(result).__module__ == "numpy" else jsonable_encoder(result)


async def _encoded(items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for item in items:
        yield item if isinstance(item, bytes) else str(item).encode()


def _takes_request(method: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(method).parameters)
    except ValueError:
        return True


async def _no_lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
