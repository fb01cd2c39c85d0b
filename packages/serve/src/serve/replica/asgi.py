"""What a replica's HTTP server runs: the user's ASGI application, or his class or function dressed as one."""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from serve.api.ingress import APP_ATTRIBUTE, BUILD_ATTRIBUTE
from serve.replica.user_code import UserCode


def application(code: UserCode) -> Callable[..., Any]:
    """Return the ASGI application of a replica, after the user's instance was made.

    Raises:
        TypeError: what ``@serve.ingress`` was given is no ASGI application.
    """
    instance = code.instance
    if not hasattr(instance, APP_ATTRIBUTE):
        return plain(code)
    app = getattr(type(instance), APP_ATTRIBUTE)
    if app is None:
        app = getattr(instance, BUILD_ATTRIBUTE)()
    elif inspect.isfunction(app) and not inspect.signature(app).parameters:
        app = app()  # made here, because it could not be pickled
    if isinstance(app, APIRouter):
        router, app = app, FastAPI()
        bind_routes(router, instance)
        app.include_router(router)
    elif isinstance(app, FastAPI):
        bind_routes(app.router, instance)
    if not callable(app):
        raise TypeError(f"@serve.ingress was given {app!r}, which is no ASGI application")
    served: Callable[..., Any] = app
    return served


def bind_routes(router: APIRouter, instance: object) -> None:
    """Make routes that are methods of the instance's class take the instance as ``self``.

    FastAPI worked out each route's parameters when the class was made, ``self`` among them; here they are worked out
    again from the bound method.
    """
    for number, route in enumerate(router.routes):
        endpoint = getattr(route, "endpoint", None)
        if endpoint is None or getattr(type(instance), getattr(endpoint, "__name__", ""), None) is not endpoint:
            continue
        bound = types.MethodType(cast("Callable[..., Any]", endpoint), instance)
        if isinstance(route, APIRoute):
            router.routes[number] = _rebound(route, bound)
        elif isinstance(route, APIWebSocketRoute):
            router.routes[number] = APIWebSocketRoute(
                route.path,
                bound,
                name=route.name,
                dependencies=route.dependencies,
            )


def _rebound(route: APIRoute, bound: Callable[..., Any]) -> APIRoute:
    names = [
        name for name in inspect.signature(APIRoute.__init__).parameters if name not in ("self", "path", "endpoint")
    ]
    given = {name: getattr(route, name) for name in names if hasattr(route, name)}
    return APIRoute(route.path, bound, **given)


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
