"""Routes of a FastAPI application that are methods of the class that serves it.

FastAPI sees such a method as a plain function with a parameter ``self``. Here each is replaced by a function without
it, which takes the instance out of a slot that the replica fills. That is done where the class is decorated: there, all
the names in annotations still mean something, and the replica need not work out any parameters again.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute


class Slot:
    """Holds the instance of the class, in the replica."""

    instance: Any = None


def bind_methods(app: Any, cls: type, slot: Slot) -> Any:
    """Return the application with its routes bound to whatever instance will be in the slot.

    A router becomes an application; what is not FastAPI's stays as it is.
    """
    if isinstance(app, FastAPI):
        _bind_routes(app.router, cls, slot)
    elif isinstance(app, APIRouter):
        _bind_routes(app, cls, slot)
        router, app = app, FastAPI()
        app.include_router(router)
    return app


def _bind_routes(router: APIRouter, cls: type, slot: Slot) -> None:
    for number, route in enumerate(router.routes):
        endpoint = getattr(route, "endpoint", None)
        if endpoint is None or inspect.getattr_static(cls, getattr(endpoint, "__name__", ""), None) is not endpoint:
            continue
        bound = _bound(endpoint, slot)
        if isinstance(route, APIRoute):
            router.routes[number] = _rebuilt(route, bound)
        elif isinstance(route, APIWebSocketRoute):
            router.routes[number] = APIWebSocketRoute(
                route.path, bound, name=route.name, dependencies=route.dependencies
            )


def _rebuilt(route: APIRoute, endpoint: Callable[..., Any]) -> APIRoute:
    names = [
        name for name in inspect.signature(APIRoute.__init__).parameters if name not in ("self", "path", "endpoint")
    ]
    given = {name: getattr(route, name) for name in names if hasattr(route, name)}
    return APIRoute(route.path, endpoint, **given)


def _bound(method: Callable[..., Any], slot: Slot) -> Callable[..., Any]:
    """Return a function of the same kind as the method, without ``self``."""
    bound: Any
    if inspect.isasyncgenfunction(method):

        async def bound(*args: Any, **kwargs: Any) -> Any:
            async for item in method(slot.instance, *args, **kwargs):
                yield item

    elif inspect.iscoroutinefunction(method):

        async def bound(*args: Any, **kwargs: Any) -> Any:
            return await method(slot.instance, *args, **kwargs)

    elif inspect.isgeneratorfunction(method):

        def bound(*args: Any, **kwargs: Any) -> Any:
            yield from method(slot.instance, *args, **kwargs)

    else:

        def bound(*args: Any, **kwargs: Any) -> Any:
            return method(slot.instance, *args, **kwargs)

    functools.update_wrapper(bound, method)
    del bound.__wrapped__  # its signature is not the method's
    bound.__signature__ = _signature(method)
    return typing.cast("Callable[..., Any]", bound)


def _signature(method: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(method)
    try:
        hints = typing.get_type_hints(method, include_extras=True)
    except NameError:  # FastAPI has found the same already, and has its own ways
        hints = {}
    parameters = [
        parameter.replace(annotation=hints.get(parameter.name, parameter.annotation))
        for parameter in list(signature.parameters.values())[1:]
    ]
    return signature.replace(parameters=parameters, return_annotation=hints.get("return", signature.return_annotation))
