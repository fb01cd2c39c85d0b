"""From an application of a config file to the records that the controller works with.

This imports the user's code, so it runs in a process of its own that ends with it (see `serve.admin.building`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from serve.api import snapshot
from serve.api.build import Settings, build
from serve.api.importing import explained, load
from serve.schema.deploy import ServeApplicationSchema
from serve.specs import ApplicationSpec


class Assembled(msgspec.Struct, frozen=True):
    """What became of an application: its records, or why there are none."""

    spec: ApplicationSpec | None
    #: for people, with the user's traceback if his code raised
    error: str = ""


def assemble(encoded: bytes, store: str) -> bytes:
    """Import an application, and return its records.

    Args:
        encoded: the application of the config file, as JSON.
        store: directory for copies of code.

    Returns:
        An `Assembled`, as msgpack.
    """
    app = ServeApplicationSchema.model_validate_json(encoded)
    try:
        done = Assembled(_spec(app, Path(store)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything; this process is for it
        done = Assembled(None, explained(app.import_path, error))
    return msgspec.msgpack.encode(done)


def _spec(app: ServeApplicationSchema, store: Path) -> ApplicationSpec:
    application = load(app.import_path, app.args)
    environment = _environment(app, store)
    logging = app.logging_config
    defaults = {} if logging is None else {"logging_config": logging.model_dump(mode="json", exclude_unset=True)}
    options = {each.name: each.overrides() for each in app.deployments}
    if app.gateway is not None:
        of_ingress = options.setdefault(application.deployment.name, {})
        of_ingress.setdefault("gateway", app.gateway.model_dump(mode="json", exclude_unset=True))
    return build(
        application,
        app.name,
        app.route_prefix,
        settings=Settings(options, defaults, environment),
        import_path=app.import_path,
        declared=app.as_written(),
    )


def _environment(app: ServeApplicationSchema, store: Path) -> dict[str, Any]:
    """Return the environment of the replicas: that of the application, with its code as it is now."""
    given = app.runtime_env
    environment: dict[str, Any] = {}
    if given.env_vars:
        environment["env_vars"] = given.env_vars
    modules = [snapshot.of_module(Path(module), store) for module in given.py_modules]
    if given.working_dir is not None:
        environment["working_dir"] = str(snapshot.of_directory(Path(given.working_dir), given.excludes, store))
    elif app.app_dir is not None:
        directory = Path(app.app_dir).resolve()
        environment["working_dir"] = str(directory)
        modules += snapshot.of_imported(directory, store)  # found before those of the working directory
    if modules:
        environment["py_modules"] = [str(module) for module in modules]
    return environment
