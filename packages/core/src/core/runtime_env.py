"""Runtime environments: what a worker's process must look like beyond the job's own (``ray.runtime_env``).

Supported: ``env_vars``, ``working_dir`` and ``py_modules`` with directories of this machine. ``excludes`` and
``config`` are accepted and change nothing, because nothing is uploaded. Ray's other fields are refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from core import argument_checks, specs

_SUPPORTED = ("env_vars", "working_dir", "py_modules", "excludes", "config")
_NOT_YET = (
    "pip",
    "uv",
    "conda",
    "py_executable",
    "image_uri",
    "container",
    "worker_process_setup_hook",
    "nsight",
    "rocprof_sys",
    "java_jars",
    "mpi",
)


class RuntimeEnv(dict[str, Any]):
    """A runtime environment as a checked dictionary, for programs that prefer a class (``ray.runtime_env.RuntimeEnv``).

    Raises:
        TypeError, ValueError: a field is unknown, not supported yet, or has a bad value.
    """

    def __init__(self, **fields: Any) -> None:
        normalise_runtime_env(fields)
        super().__init__({name: value for name, value in fields.items() if value is not None})


class RuntimeEnvConfig(dict[str, Any]):
    """Limits for setting up an environment. Accepted for Ray's sake: setting up takes no time here."""

    def __init__(
        self, setup_timeout_seconds: int = 600, eager_install: bool = True, log_files: list[str] | None = None
    ) -> None:
        super().__init__(setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install, log_files=log_files)


def normalise_runtime_env(fields: Mapping[str, Any] | None) -> specs.RuntimeEnv:
    """Return the record for a user's ``runtime_env``.

    Raises:
        TypeError: it or one of its fields has the wrong type.
        ValueError: a field is unknown or not supported yet, or a directory does not exist.
    """
    if fields is None:
        return specs.RuntimeEnv()
    if not isinstance(fields, Mapping):
        raise TypeError(f"runtime_env must be a dict, got {type(fields).__name__}")
    for name, value in fields.items():
        if name in _NOT_YET and value:
            raise ValueError(
                f"runtime_env[{name!r}] is not supported yet; supported are {', '.join(_SUPPORTED[:3])}. "
                "Install what the workers need in the environment that the driver runs in."
            )
        if name not in _SUPPORTED and name not in _NOT_YET:
            raise ValueError(f"unknown field {name!r} of runtime_env; valid ones are {', '.join(_SUPPORTED)}")
    return specs.RuntimeEnv(
        env_vars=_env_vars(fields.get("env_vars")),
        working_dir=_working_dir(fields.get("working_dir")),
        py_modules=_py_modules(fields.get("py_modules")),
    )


def _env_vars(given: Any) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise TypeError(f"runtime_env['env_vars'] must be a dict of strings, got {type(given).__name__}")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"runtime_env['env_vars'] must map str to str, got {name!r}: {value!r}")
        argument_checks.text("runtime_env['env_vars']: a name", name)
        argument_checks.text(f"runtime_env['env_vars'][{name!r}]", value)
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"runtime_env['env_vars'] has no valid variable: {name!r}={value!r}")
    return tuple(sorted(given.items()))


def _working_dir(given: Any) -> str:
    if not given:
        return ""
    path = _local_path("working_dir", given)
    if not path.is_dir():
        raise ValueError(f"runtime_env['working_dir'] is no directory: {path}")
    return str(path)


def _local_path(field: str, given: Any) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"runtime_env[{field!r}] takes paths, got {type(given).__name__}")
    text = os.fspath(given)
    if not isinstance(text, str):
        raise TypeError(f"runtime_env[{field!r}] takes paths of type str, got bytes")
    if "://" in text or text.endswith((".zip", ".whl", ".jar")):
        raise ValueError(
            f"runtime_env[{field!r}] takes local directories; archives and URIs are not supported yet: {text}"
        )
    return Path(text).expanduser().resolve()


def _py_modules(given: Any) -> tuple[str, ...]:
    """Return the directories to put on ``sys.path`` so that each named module can be imported."""
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise TypeError(f"runtime_env['py_modules'] must be a list of modules and paths, got {type(given).__name__}")
    directories = dict.fromkeys(_directory_of_module(module) for module in given)
    return tuple(directories)


def _directory_of_module(module: Any) -> str:
    if isinstance(module, ModuleType):
        places = list(getattr(module, "__path__", [])) or [getattr(module, "__file__", None)]
        if not places[0]:
            raise ValueError(f"runtime_env['py_modules']: module {module.__name__} has no file to import it from")
        return str(Path(places[0]).resolve().parent)
    path = _local_path("py_modules", module)
    if not path.exists():
        raise ValueError(f"runtime_env['py_modules']: there is no {path}")
    return str(path.parent)


def merged_env(outer: specs.RuntimeEnv, inner: specs.RuntimeEnv) -> specs.RuntimeEnv:
    """Return ``inner`` on top of ``outer``: variables are merged, directories of ``inner`` win."""
    return specs.RuntimeEnv(
        env_vars=tuple(sorted({**dict(outer.env_vars), **dict(inner.env_vars)}.items())),
        working_dir=inner.working_dir or outer.working_dir,
        py_modules=inner.py_modules or outer.py_modules,
    )


def env_dict(env: specs.RuntimeEnv) -> dict[str, Any]:
    """Return a runtime environment as users write it."""
    fields = {"env_vars": dict(env.env_vars), "working_dir": env.working_dir, "py_modules": list(env.py_modules)}
    return {name: value for name, value in fields.items() if value}
