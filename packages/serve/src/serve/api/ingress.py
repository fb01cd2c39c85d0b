"""``@serve.ingress``: a class whose requests go through an ASGI application of its own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from serve.asgi.marks import APP_ATTRIBUTE, BUILD_ATTRIBUTE, SLOT_ATTRIBUTE

C = TypeVar("C", bound=type)


def ingress(app: Any = None) -> Callable[[C], C]:
    """Serve a class's requests through FastAPI or any other ASGI application.

    ::

        app = FastAPI()


        @serve.deployment
        @serve.ingress(app)
        class Forecasts:
            @app.get("/{series}")
            def forecast(self, series: str) -> list[float]: ...

    Args:
        app: a FastAPI application or router, whose routes may be methods of the class; any ASGI application; a function
            without arguments that makes one in the replica (for what cannot be pickled); or nothing, if the class has
            a method ``__serve_build_asgi_app__``.

    Raises:
        TypeError: what is decorated is not a class, or defines ``__call__``, or there is no application.
    """

    def decorate(cls: C) -> C:
        if not inspect.isclass(cls):
            raise TypeError(f"@serve.ingress decorates a class, not {cls!r}; put it below @serve.deployment")
        if "__call__" in vars(cls):
            raise TypeError(f"{cls.__name__} has both @serve.ingress and __call__; make __call__ a route")
        if app is None and not hasattr(cls, BUILD_ATTRIBUTE):
            raise TypeError(f"@serve.ingress() without an application needs a method {BUILD_ATTRIBUTE}")
        slot = None
        bound = app
        if "fastapi" in sys.modules:  # else it cannot be FastAPI's, which is slow to import
            from serve.asgi.methods import Slot, bind_methods  # noqa: PLC0415 - see above

            slot = Slot()
            bound = bind_methods(app, cls, slot)
        setattr(cls, APP_ATTRIBUTE, bound)
        setattr(cls, SLOT_ATTRIBUTE, slot)
        return cls

    return decorate
