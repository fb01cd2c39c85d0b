"""From a bound application to the records that the controller works with."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from serve.api.deployment import Application, Deployment
from serve.asgi.marks import is_asgi
from serve.handle.deployment_handle import DeploymentHandle
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec, HandleMarker


def build(
    app: object, name: str, route_prefix: str | None, *, settings: Settings | None = None, **declared: Any
) -> ApplicationSpec:
    """Return the records of an application and everything bound into it.

    Args:
        app: the ingress, bound.
        name: of the application.
        route_prefix: where it is served; None for handles alone.
        settings: what a config file says of its deployments.
        **declared: other fields of `ApplicationSpec`.

    Raises:
        TypeError: something that is no application, or arguments that cannot be pickled, named by deployment.
        ValueError: the prefix is not one, or there are options for a deployment that the application does not have.
    """
    app = check_application(app, route_prefix)
    builder = _Builder(name, settings or Settings())
    ingress = builder.add(app)
    builder.refuse_unused_options()
    # Its replicas accept clients, on this route: what is the same code without that, or elsewhere, needs new ones.
    builder.specs[-1] = _as_ingress(builder.specs[-1], route_prefix)
    return ApplicationSpec(name, ingress.name, tuple(builder.specs), route_prefix, **declared)


def _as_ingress(spec: DeploymentSpec, route_prefix: str | None) -> DeploymentSpec:
    version = hashlib.sha256(f"{spec.version} serves {route_prefix}".encode()).hexdigest()[:16]
    return msgspec.structs.replace(spec, version=version)


def check_application(app: object, route_prefix: str | None) -> Application[Any]:
    """Return the application, if it is one and the prefix can be served.

    Raises:
        TypeError: it is none; the text says what to do with what was given.
        ValueError: the prefix is not one.
    """
    if not isinstance(app, Application):
        raise TypeError(f"expected an application, as MyDeployment.bind() makes it, not {app!r}{_hint(app)}")
    if route_prefix is not None and not route_prefix.startswith("/"):
        raise ValueError(f"route_prefix must begin with '/', not {route_prefix!r}")
    return app


def _hint(app: object) -> str:
    if isinstance(app, Deployment):
        return f"; bind its arguments first: {app.name}.bind(...)"
    if inspect.isclass(app) or inspect.isroutine(app):
        return f"; decorate {app.__name__} with @serve.deployment, then pass {app.__name__}.bind(...)"
    if isinstance(app, DeploymentHandle):
        return ", which runs already; call it with .remote(...)"
    if callable(app):
        return (
            "; an ASGI application is served by a class: @serve.deployment, below it @serve.ingress(app), then .bind()"
        )
    return ""


@dataclass(frozen=True)
class Settings:
    """What a config file says of an application's deployments."""

    #: options that take precedence over those in the code, by name of the deployment
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: options of deployments that have none of that name
    defaults: dict[str, Any] = field(default_factory=dict)
    #: environment of all replicas; what a deployment says itself takes precedence
    runtime_env: dict[str, Any] = field(default_factory=dict)

    def apply(self, deployment: Deployment[Any], name: str) -> Deployment[Any]:
        """Return a deployment with these options.

        Raises:
            ValueError: together with those in the code they make no sense.
        """
        given = deployment.given_options
        options = {key: value for key, value in self.defaults.items() if key not in given}
        options |= self.options.get(name, {})
        if self.runtime_env:
            actor: Any = options.get("ray_actor_options", given.get("ray_actor_options")) or {}
            actor = actor if isinstance(actor, dict) else actor.model_dump(exclude_unset=True)
            own = actor.get("runtime_env") or {}
            variables = {**self.runtime_env.get("env_vars", {}), **own.get("env_vars", {})}
            environment = {**self.runtime_env, **own, **({"env_vars": variables} if variables else {})}
            options["ray_actor_options"] = {**actor, "runtime_env": environment}
        return deployment.options(**options) if options else deployment


class _Builder:
    def __init__(self, app_name: str, settings: Settings) -> None:
        self._app_name = app_name
        self._settings = settings
        self._ids: dict[int, DeploymentID] = {}
        self._names: set[str] = set()
        #: keeps the applications alive whose identities are keys above
        self._seen: list[Application] = []
        self.specs: list[DeploymentSpec] = []

    def add(self, app: Application) -> DeploymentID:
        """Add a bound deployment and all it uses, once each, and return its id."""
        known = self._ids.get(id(app))
        if known is not None:
            return known
        deployment_id = DeploymentID(self._unused(app.deployment.name), self._app_name)
        self._ids[id(app)] = deployment_id
        self._seen.append(app)
        target = app.deployment.func_or_class
        uses: list[str] = []
        blob = self._pickle(app, uses)
        config = self._settings.apply(app.deployment, deployment_id.name).config
        needs_restart = _comparable(blob) + _source(target) + msgspec.json.encode(config.restart_part())
        version = hashlib.sha256(needs_restart).hexdigest()[:16]
        self.specs.append(
            DeploymentSpec(
                deployment_id,
                version,
                blob,
                config.model_dump(mode="json"),
                is_asgi(target),
                tuple(dict.fromkeys(uses)),
            )
        )
        return deployment_id

    def refuse_unused_options(self) -> None:
        """Refuse options for deployments that there are none of.

        Raises:
            ValueError: there are such options.
        """
        names = sorted(self._names)
        for name in self._settings.options:
            if name not in self._names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names)}"
                raise ValueError(f"application {self._app_name!r} has no deployment {name!r}; {hint}")

    def _unused(self, name: str) -> str:
        unused, number = name, 0
        while unused in self._names:
            number += 1
            unused = f"{name}_{number}"
        self._names.add(unused)
        return unused

    def _pickle(self, app: Application, uses: list[str]) -> bytes:
        buffer = io.BytesIO()

        def marked(value: object) -> HandleMarker | None:
            if not isinstance(value, Application):
                return None
            used = self.add(value)
            uses.append(used.name)
            return HandleMarker(used)

        target = app.deployment.func_or_class
        try:
            _Pickler(buffer, marked).dump((target, app.args, app.kwargs))
        except (TypeError, AttributeError, ValueError) as error:
            raise TypeError(
                f"deployment {app.deployment.name!r} cannot be sent to its replicas: {error}; make in __init__ "
                "what cannot be pickled"
            ) from error
        return buffer.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle, but applications among the arguments leave a marker behind."""

    def __init__(self, file: io.BytesIO, marked: Callable[[object], HandleMarker | None]) -> None:
        super().__init__(file)
        self._marked = marked

    def persistent_id(self, obj: object) -> HandleMarker | None:
        return self._marked(obj)

    def reducer_override(self, obj: Any) -> Any:
        # Starlette's State, which every FastAPI application has, recurses without end when pickle makes it
        starlette = sys.modules.get("starlette.datastructures")
        if starlette is not None and type(obj) is starlette.State:
            return starlette.State, (obj._state,)  # noqa: SLF001 - what its constructor takes
        return super().reducer_override(obj)


def _comparable(blob: bytes) -> bytes:
    """Return a pickle without what differs from process to process: cloudpickle draws an id for each class by value."""
    drawn = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    for identifier in list(drawn.values()):
        blob = blob.replace(identifier.encode(), b"")
    return blob


def _source(target: Callable[..., Any]) -> bytes:
    """The source of the module that holds a class pickled by name: its change is a change of the deployment."""
    module = sys.modules.get(getattr(target, "__module__", "") or "")
    file = inspect.getsourcefile(module) if module is not None and getattr(module, "__file__", None) else None
    path = Path(file) if file is not None else None
    return path.read_bytes() if path is not None and path.is_file() else b""
