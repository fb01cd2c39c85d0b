"""The ASGI application that operators see: REST API, and what else hangs there."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from serve.admin.desk import Desk
from serve.admin.guard import App, Guard
from serve.admin.messages import ErrorAnswer
from serve.admin.page.routes import create_page_router
from serve.admin.routes import create_router
from serve.admin.server import Administration
from serve.schema.deploy import ServeDeploySchema
from serve.schema.problems import ConfigError, path
from serve.version import __version__


def create_app(office: Administration, desk: Desk, host: str) -> App:
    """Return the application.

    Args:
        office: carries out config files.
        desk: the controller.
        host: that it is served on, which requests may name.
    """
    app = FastAPI(
        title="Skate Serve",
        version=__version__,
        description="Deploy applications from config files, look at them, scale them, roll them back.",
        openapi_url="/api/openapi.json",
        # their pages load scripts from elsewhere
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(create_router(office, desk))
    app.include_router(create_page_router(desk), responses={status: {"model": ErrorAnswer} for status in (400, 403)})
    app.add_exception_handler(ConfigError, _wrong_config)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_exception_handler(ValueError, _refused)
    app.add_exception_handler(OSError, _refused)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    return Guard(app, host)  # type: ignore[arg-type]  # Starlette's names of the same types


async def _wrong_config(_request: Request, error: Exception) -> JSONResponse:
    problems = error.problems if isinstance(error, ConfigError) else ()
    places = [{"location": path(each.location), "message": each.message} for each in problems]
    return JSONResponse({"detail": str(error), "problems": places}, 400)


async def _wrong_request(_request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems]
    return JSONResponse({"detail": "; ".join(lines)}, 400)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 400)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = schema["components"]["schemas"]
        config = ServeDeploySchema.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update({name: schemas.get(name, part) for name, part in config.pop("$defs", {}).items()})
        schemas["ServeDeploySchema"] = config
        # errors of validation are answered as all others
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = schema
    return app.openapi_schema
