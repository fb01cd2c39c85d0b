"""From a bound application to one that runs in this process."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import cloudpickle

from serve.api.build import build, check_application
from serve.api.deployment import Application
from serve.handle import in_process
from serve.local.application import LocalApplication
from serve.local.replica import Arguments, Part
from serve.specs import DeploymentID, HandleMarker

T = TypeVar("T")

#: what is looked into for bound deployments where arguments are handed over as they are
_CONTAINERS = (list, tuple, dict, set, frozenset)


def start_locally(
    app: Application[T], name: str = "default", route_prefix: str | None = "/", *, copies: bool = True
) -> LocalApplication[T]:
    """Run an application in this process, one replica for each deployment.

    If one of this name runs here already, it is replaced; where only options differ, its objects stay.

    Args:
        app: the ingress, bound.
        name: of the application.
        route_prefix: where it is served; None for handles alone.
        copies: whether arguments and results are copied as between processes, so that what cannot be pickled and what
            relies on sharing shows; False hands over the objects themselves.

    Raises:
        TypeError: no application; or something cannot be pickled, with `copies`.
        ValueError: the prefix is not one.
        RuntimeError: it cannot start; the cause is what the user's code raised.
    """
    check_application(app, route_prefix)
    versions = _versions(app, name) if copies else {}
    parts = _Parts(name, versions, copies=copies)
    parts.add(app)
    if len(versions) > len(parts.parts):
        raise TypeError(f"{app!r}: a deployment is bound where only its pickle shows it; bind it as an argument")
    running = in_process.applications.get(name)
    if isinstance(running, LocalApplication) and running.reconfigure(parts.parts, route_prefix):
        return running
    return LocalApplication(name, parts.parts, route_prefix, copies=copies)


def _versions(app: Application[Any], name: str) -> dict[DeploymentID, str]:
    """Build the application as for replicas, and return its deployments' versions."""
    try:
        return {each.id: each.version for each in build(app, name, None).deployments}
    except TypeError as error:
        raise TypeError(f"{error} (a test may keep it: copies=False hands objects over as they are)") from error


class _Parts:
    def __init__(self, app_name: str, versions: dict[DeploymentID, str], *, copies: bool) -> None:
        self._app_name = app_name
        self._versions = versions
        self._copies = copies
        self._ids: dict[int, DeploymentID] = {}
        #: keeps the applications alive whose identities are keys above
        self._seen: list[Application[Any]] = []
        self.parts: list[Part] = []

    def add(self, app: Application[Any]) -> DeploymentID:
        """Add a bound deployment after all it uses, once each, and return its id."""
        known = self._ids.get(id(app))
        if known is not None:
            return known
        names = {known.name for known in self._ids.values()}
        deployment = app.deployment
        unused = next(name for name in _names(deployment.name) if name not in names)
        identifier = self._ids[id(app)] = DeploymentID(unused, self._app_name)
        self._seen.append(app)
        arguments = self._arguments(app)
        config = deployment.config.model_dump(mode="json")
        version = self._versions.get(identifier, "")
        self.parts.append(Part(identifier, deployment.func_or_class, arguments, config, version))
        return identifier

    def _arguments(self, app: Application[Any]) -> Callable[[Callable[[HandleMarker], Any]], Arguments]:
        buffer, kept = io.BytesIO(), list[object]()

        def kept_or_marked(value: object) -> object:
            if isinstance(value, Application):
                return HandleMarker(self.add(value))
            if self._copies or type(value) in _CONTAINERS:
                return None
            kept.append(value)
            return len(kept) - 1

        _Pickler(buffer, kept_or_marked).dump((app.args, app.kwargs))
        pickled = buffer.getvalue()
        return lambda make_handle: _load(pickled, lambda pid: kept[pid] if isinstance(pid, int) else make_handle(pid))


def _names(name: str) -> Any:
    yield name
    number = 0
    while True:
        number += 1
        yield f"{name}_{number}"


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, kept_or_marked: Callable[[object], object]) -> None:
        super().__init__(file)
        self._kept_or_marked = kept_or_marked

    def persistent_id(self, obj: object) -> object:
        return self._kept_or_marked(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, found: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self._found = found

    def persistent_load(self, pid: Any) -> Any:
        return self._found(pid)


def _load(pickled: bytes, found: Callable[[Any], Any]) -> Arguments:
    loaded: Arguments = _Unpickler(io.BytesIO(pickled), found).load()
    return loaded
