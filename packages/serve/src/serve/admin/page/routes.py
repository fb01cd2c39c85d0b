"""Routes of the status page and of ``/metrics``.

The page is three static files that load nothing from elsewhere and run no script but their own, whatever names and
messages of deployments contain: the policy (CSP) forbids all else, and texts are never parsed as HTML.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request, Response

from serve.admin.page.watched import Watched

_ASSETS = Path(__file__).parent / "assets"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
#: path to file and its type
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_page_router(watched: Watched) -> APIRouter:
    """Return the routes.

    Args:
        watched: what the page shows.
    """
    router = APIRouter()
    for path, (name, media_type) in _FILES.items():
        router.add_api_route(path, functools.partial(_file, name, media_type), include_in_schema=False)

    @router.get("/api/serve/live", include_in_schema=False)
    async def live(since: float = 0.0) -> Response:
        return Response(msgspec.json.encode(await watched.live(since)), headers=_HEADERS, media_type="application/json")

    @router.get("/api/serve/logs", include_in_schema=False)
    async def logs(name: str, lines: Annotated[int, Query(ge=1, le=10_000)] = 500) -> Response:
        found = await watched.log_tail(name, lines)
        if found is None:
            raise HTTPException(404, f"there is no log of {name!r}; /api/serve/live names those that there are")
        return Response("".join(f"{line}\n" for line in found), headers=_HEADERS, media_type="text/plain")

    @router.get("/metrics", response_class=Response, summary="All numbers, for Prometheus")
    async def metrics(request: Request, prefix: Annotated[str, Query(pattern="^[a-zA-Z_:]*$")] = "") -> Response:
        from serve.metrics.exposition import expose  # noqa: PLC0415 - prometheus_client: only who is scraped needs it

        text, content_type = expose(await watched.metrics(), request.headers.get("accept", ""), prefix)
        return Response(text, headers={"content-type": content_type})

    return router


async def _file(name: str, media_type: str) -> Response:
    return Response(_read(name), headers=_HEADERS, media_type=media_type)


@functools.cache
def _read(name: str) -> bytes:
    return (_ASSETS / name).read_bytes()
