"""Have an application imported, in a process of its own: the user's module may do what it likes, hang or crash."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import msgspec

import core
from core.exceptions import RayError, WorkerCrashedError
from serve.schema.deploy import ServeApplicationSchema
from serve.specs import ApplicationSpec

#: seconds that the import of an application may take
IMPORT_S = 600.0


class BuildError(ValueError):
    """An application cannot be built; the text says why, with the user's traceback if his code raised."""


class _Answer(msgspec.Struct):
    """`serve.api.assembly.Assembled`, which belongs to a room above."""

    spec: ApplicationSpec | None
    error: str = ""


def _assemble(encoded: bytes, store: str) -> bytes:
    # Found by its name: it loads the user's code and all that handles it, which is for this short-lived process alone.
    assembled: bytes = importlib.import_module("serve.api.assembly").assemble(encoded, store)
    return assembled


async def build(app: ServeApplicationSchema) -> ApplicationSpec:
    """Import an application of a config file and return its records.

    Raises:
        BuildError: its code raised, crashed or took too long, or what the file says does not fit it.
    """
    store = Path(core.get_runtime_context().get_temp_dir()) / "serve-code"
    encoded = app.model_dump_json(exclude_unset=True).encode()
    task = core.remote(num_cpus=0, max_calls=1, max_retries=0)(_assemble)
    try:
        result: Any = task.options(name=f"import of {app.import_path}", runtime_env=_environment(app)).remote(
            encoded, str(store)
        )
    except (ValueError, TypeError) as error:  # no such directory
        raise BuildError(f"{app.name}: {error}") from None
    try:
        answer = await asyncio.wait_for(result.as_future(), IMPORT_S)
    except TimeoutError:
        core.cancel(result, force=True)
        raise BuildError(f"{app.import_path} took more than {IMPORT_S:g} s to import; it was given up") from None
    except asyncio.CancelledError:
        core.cancel(result, force=True)
        raise
    except WorkerCrashedError as error:
        raise BuildError(f"{app.import_path} ended the process that imported it: {error}") from None
    except RayError as error:
        raise BuildError(f"{app.import_path} cannot be imported: {error}") from None
    done = msgspec.msgpack.decode(answer, type=_Answer)
    if done.spec is None:
        raise BuildError(done.error)
    return done.spec


def _environment(app: ServeApplicationSchema) -> dict[str, Any]:
    """Return the environment to import in: the directories as they are, not copies of them."""
    given = app.runtime_env
    environment: dict[str, Any] = {"env_vars": given.env_vars, "py_modules": given.py_modules}
    directory = given.working_dir or app.app_dir
    return environment if directory is None else {**environment, "working_dir": directory}
