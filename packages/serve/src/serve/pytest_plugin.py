"""Fixtures for pytest: applications in the test's own process. Nothing is imported unless a test asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from serve.testing import LocalApplication


@pytest.fixture
def serve_app() -> Iterator[Callable[..., LocalApplication[Any]]]:
    """Run applications in this process until the test ends.

    ``app = serve_app(Model.bind())`` takes the arguments of `serve.testing.local`, and returns a
    `serve.testing.LocalApplication`.
    """
    from serve.testing import local  # noqa: PLC0415 - costs nothing until it is used

    started: list[LocalApplication[Any]] = []

    def start(app: Any, *args: Any, **kwargs: Any) -> LocalApplication[Any]:
        started.append(local(app, *args, **kwargs))
        return started[-1]

    try:
        yield start
    finally:
        for application in reversed(started):
            application.close()


@pytest.fixture
def serve_client(serve_app: Callable[..., LocalApplication[Any]]) -> Callable[..., TestClient]:
    """Run an application in this process and return FastAPI's ``TestClient`` for it.

    ``client = serve_client(Model.bind())``; takes the arguments of `serve.testing.local`.
    """

    def start(app: Any, *args: Any, **kwargs: Any) -> TestClient:
        return serve_app(app, *args, **kwargs).client()

    return start
