"""An application whose replicas are in this process."""

from __future__ import annotations

import atexit
import contextlib
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from serve.errors import DeploymentUnavailableError
from serve.handle import in_process
from serve.handle.deployment_handle import DeploymentHandle
from serve.local.handle import LocalHandle
from serve.local.replica import LocalReplica, Part
from serve.specs import HandleMarker

if TYPE_CHECKING:
    from starlette.testclient import TestClient

T = TypeVar("T")
_lock = threading.RLock()


class LocalApplication(Generic[T]):
    """An application that runs in this process, one replica for each deployment. A context manager that ends it.

    Made by `serve.testing.local` and by the fixture ``serve_app``.

    Args:
        name: of the application; one of this name that runs here is ended.
        parts: its deployments, whoever is used before whoever uses it; the last is the ingress.
        route_prefix: where it is served; None for handles alone.
        copies: whether arguments and results of calls are copied, as between processes.
    """

    def __init__(self, name: str, parts: Sequence[Part], route_prefix: str | None, *, copies: bool) -> None:
        self.name = name
        #: whether arguments and results of calls are copied, as between processes
        self.copies = copies
        self.replicas: dict[str, LocalReplica] = {}
        #: the ASGI application, for any ASGI client; it has the route's prefix
        self.asgi: Callable[..., Any] = _nowhere
        self.route_prefix = route_prefix
        self._ingress = parts[-1].id.name
        self._clients = contextlib.ExitStack()
        with _lock:
            old = in_process.applications.pop(name, None)
            if old is not None:
                old.close()
            in_process.applications[name] = self
        try:
            self._start(parts)
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            text = "".join(traceback.format_exception(error))
            raise RuntimeError(f"application {name!r} cannot be deployed.\n{text}") from error
        atexit.register(self.close)

    @property
    def handle(self) -> DeploymentHandle[T]:
        """A handle to the ingress."""
        return self.handle_of(self._ingress)

    def handle_of(self, deployment_name: str) -> DeploymentHandle[Any]:
        """Return a handle to one of the deployments."""
        return LocalHandle(deployment_name, self.name)

    def instance(self, deployment_name: str | None = None) -> Any:
        """Return the user's object itself, to look at it or to change it.

        Args:
            deployment_name: whose; None for the ingress.

        Raises:
            DeploymentUnavailableError: there is no such deployment.
        """
        wanted = deployment_name or self._ingress
        if wanted not in self.replicas:
            known = ", ".join(self.replicas) or "none"
            raise DeploymentUnavailableError(f"there is no deployment {wanted!r} here; there are: {known}")
        return self.replicas[wanted].instance

    def client(self, **options: Any) -> TestClient:
        """Return Starlette's (and FastAPI's) ``TestClient`` of the application, closed together with it.

        Errors of the application are raised in the test, with their tracebacks; ``raise_server_exceptions=False``
        makes them answers with status 500.

        Args:
            **options: of ``TestClient``.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Starlette would rather have httpx2
            from starlette.testclient import TestClient  # noqa: PLC0415 - needs httpx, which only tests have

        return self._clients.enter_context(TestClient(self.asgi, **options))

    def reconfigure(self, parts: Sequence[Part], route_prefix: str | None) -> bool:
        """Take over other options of the same deployments; False if more than that has changed."""
        versions = {replica.id: replica.part.version for replica in self.replicas.values()}
        wanted = {part.id: part.version for part in parts}
        if wanted != versions or "" in versions.values() or route_prefix != self.route_prefix:
            return False
        for part in parts:
            self.replicas[part.id.name].reconfigure(part)
        return True

    def close(self) -> None:
        """End the application: requests in progress have five seconds. Nothing happens the second time."""
        with _lock:
            if in_process.applications.get(self.name) is self:
                del in_process.applications[self.name]
            replicas, self.replicas = list(self.replicas.values()), {}
        atexit.unregister(self.close)
        self._clients.close()
        for replica in replicas:
            replica.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, parts: Sequence[Part]) -> None:
        for part in parts:
            replica = self.replicas[part.id.name] = LocalReplica(part, self._make_handle)
            replica.start()
        if self.route_prefix is not None:
            self.asgi = self.replicas[self._ingress].serve(self.route_prefix.rstrip("/"))

    def _make_handle(self, marker: HandleMarker) -> DeploymentHandle[Any]:
        return self.handle_of(marker.deployment.name)


async def _nowhere(_scope: Any, _receive: Any, _send: Any) -> None:
    raise DeploymentUnavailableError("the application has no route (route_prefix=None), so it answers no HTTP")
