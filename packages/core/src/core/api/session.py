"""Starting and stopping a session: ``init``, ``shutdown``, ``is_initialized``."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import platform
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from core import current
from core.argument_checks import flag, text
from core.descriptors import InitConfig
from core.engine.base import Engine
from core.option_checks import MAX_AMOUNT, count, unknown_option
from core.runtime_env import normalise_runtime_env
from core.version import __version__

logger: logging.Logger = logging.getLogger("core")

#: Chooses the engine where ``init`` does not: "native" or "inline".
ENGINE_VARIABLE = "SKATE_ENGINE"
#: Gives ``init`` an address where the call does not.
ADDRESS_VARIABLE = "SKATE_ADDRESS"

#: Options of Ray's ``init`` that change nothing here: value that means "not asked for", to warn about others.
_WITHOUT_EFFECT: dict[str, Any] = {
    "include_dashboard": None,
    "dashboard_host": "127.0.0.1",
    "dashboard_port": None,
    "job_config": None,
    "logging_format": None,
    "logging_config": None,
    "enable_resource_isolation": False,
    "cgroup_path": None,
    "system_reserved_cpu": None,
    "system_reserved_memory": None,
    "proxy_server_url": None,
    "_enable_object_reconstruction": None,
    "_plasma_directory": None,
    "_node_ip_address": None,
    "_node_name": None,
    "_redis_username": None,
    "_redis_password": None,
    "_metrics_export_port": None,
    "_system_config": None,
    "_tracing_startup_hook": None,
}
_FURTHER_OPTIONS = (
    "object_spilling_directory",
    "_temp_dir",
    "_memory",
    "_prestarted_workers",
    "_preloaded_modules",
)

_starting = threading.RLock()


class RayContext(Mapping[str, Any]):
    """What ``init`` returns: facts about the session as a mapping; as a context manager it ends the session.

    ``address_info`` has the keys ``node_ip_address``, ``address``, ``gcs_address``, ``session_dir``, ``node_id`` and
    ``webui_url``.
    """

    def __init__(self, address_info: Mapping[str, Any]) -> None:
        self.address_info: dict[str, Any] = dict(address_info)
        self.dashboard_url: str | None = address_info.get("webui_url") or None
        self.python_version: str = platform.python_version()
        #: version of Skate
        self.ray_version: str = __version__

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutdown()

    def disconnect(self) -> None:
        """End the session, as :func:`shutdown` does."""
        shutdown()

    def __repr__(self) -> str:
        return f"RayContext({self.address_info})"


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    configure_logging: bool = True,
    logging_level: int | str = logging.INFO,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    engine: str | None = None,
    **further: Any,
) -> RayContext:
    """Start a session on this machine. Any call that needs one starts it by itself, with the defaults.

    Args:
        address: None or ``"local"``. (Joining a running cluster is not part of this version.)
        num_cpus: CPUs that tasks may use; default: those this process may run on, or its container's quota.
        num_gpus: GPUs that tasks may use; default: what is detected.
        resources: amounts of custom resources, by name.
        labels: labels of this node, for label selectors.
        object_store_memory: bytes of shared memory for objects; default: a share of the machine's.
        local_mode: removed by Ray; use ``engine="inline"``.
        ignore_reinit_error: return the running session's context instead of raising.
        configure_logging: set the level of the framework's own messages; else they keep what ``logging`` says.
        logging_level: that level.
        log_to_driver: show what workers print (default), with the environment variable ``SKATE_LOG_TO_DRIVER=0`` not.
        namespace: where names of actors live; default: an anonymous one.
        runtime_env: default environment of all tasks and actors.
        engine: ``"native"`` (default, or ``SKATE_ENGINE``): worker processes. ``"inline"``: everything runs in the
            calling thread, for debuggers.
        further: ``object_spilling_directory``, ``_temp_dir``, ``_memory``; ``_prestarted_workers``: idle workers that
            are kept ready (default: one per CPU, up to 32; without, a first task waits for a fork);
            ``_preloaded_modules``: modules that all workers have imported before they start, and share in memory.
            Others of Ray's options (dashboard, cluster) are accepted and have no effect, which a warning says.

    Raises:
        RuntimeError: a session is running already; an unknown option.
        ConnectionError: ``address`` names a cluster.
        ValueError, TypeError: an option has a bad value.
    """
    if local_mode:
        raise RuntimeError('local_mode was removed; init(engine="inline") runs tasks in the calling thread')
    with _starting:
        if current.engine is not None:
            if ignore_reinit_error:
                logger.info("init() was called again; the running session is used.")
                return _context(current.engine)
            raise RuntimeError("a session is running already; pass ignore_reinit_error=True to use it, or shutdown()")
        _check_address(address)
        _check_further(further)
        config = InitConfig(
            num_cpus=_check_amount("num_cpus", num_cpus),
            num_gpus=_check_amount("num_gpus", num_gpus),
            resources=_check_resources(resources),
            memory=_check_bytes("_memory", further.get("_memory")),
            object_store_memory=_check_bytes("object_store_memory", object_store_memory),
            object_spilling_directory=_check_directory(
                "object_spilling_directory", further.get("object_spilling_directory")
            ),
            temp_dir=_check_directory("_temp_dir", further.get("_temp_dir")),
            namespace=_check_namespace(namespace),
            runtime_env=normalise_runtime_env(runtime_env),
            log_to_driver=_log_to_driver(log_to_driver),
            logging_level=_logging_level(logging_level) if configure_logging else logging.NOTSET,
            labels=_check_labels(labels),
            prestarted_workers=_check_count("_prestarted_workers", further.get("_prestarted_workers")),
            preloaded_modules=_check_modules("_preloaded_modules", further.get("_preloaded_modules")),
        )
        started = _start_engine(engine or os.environ.get(ENGINE_VARIABLE) or "native", config)
        current.set_engine(started)
        atexit.register(_shutdown_at_exit, os.getpid())
        return _context(started)


def shutdown(*, wait_for_processes: bool = False) -> None:
    """End the session: every task, actor and object in it. Does nothing where none runs, and inside of workers.

    Args:
        wait_for_processes: accepted for Ray's sake; the session's processes are always gone on return.
    """
    with _starting:
        engine = current.engine
        if engine is None:
            return
        if engine.facts().mode == "worker":
            warnings.warn("shutdown() was called in a task or an actor and is ignored", RuntimeWarning, stacklevel=2)
            return
        try:
            engine.shutdown()
        finally:
            current.set_engine(None)
            atexit.unregister(_shutdown_at_exit)


def is_initialized() -> bool:
    """Tell whether a session is running in this process."""
    return current.engine is not None


def start_default() -> Engine:
    """Start a session with the defaults and return its engine: what the first use of the API does."""
    with _starting:
        if current.engine is None:
            init()
        return current.running("The first call")


def _shutdown_at_exit(pid: int) -> None:
    # A forked child runs the handlers it inherited; the session is its parent's.
    if os.getpid() == pid:
        shutdown()


def _start_engine(name: str, config: InitConfig) -> Engine:
    # Imported only here: each engine is large, and a program uses one.
    if name == "native":
        from core.engine import embedded  # noqa: PLC0415

        return embedded.start(config)
    if name == "inline":
        from core.engine import inline  # noqa: PLC0415

        return inline.start(config)
    raise ValueError(f"unknown engine {name!r}; valid ones are 'native' and 'inline'")


def _context(engine: Engine) -> RayContext:
    session = engine.query("session")
    # There is no port to join by, and no page.
    return RayContext({"address": "local", "gcs_address": "local", "webui_url": "", **(session[0] if session else {})})


def _check_address(address: str | None) -> None:
    if address is None:
        address = os.environ.get(ADDRESS_VARIABLE) or "local"
    if not isinstance(address, str):
        raise TypeError(f"address must be a str or None, got {type(address).__name__}")
    if address == "local":
        return
    if address == "auto":
        raise ConnectionError("found no running cluster to join; leave address out to start a session on this machine")
    raise ConnectionError(
        f"cannot join {address!r}: this version runs on one machine and does not join clusters. Leave address out to "
        "start a session on this machine."
    )


def _check_further(further: Mapping[str, Any]) -> None:
    known = (*_FURTHER_OPTIONS, *_WITHOUT_EFFECT)
    for name, value in further.items():
        if name not in known:
            raise RuntimeError(unknown_option(name, (*_NAMED_OPTIONS, *known), "init()"))
        if name in _WITHOUT_EFFECT and value and value != _WITHOUT_EFFECT[name]:
            warnings.warn(f"init({name}=...) has no effect in this version of Skate", RuntimeWarning, stacklevel=3)


_NAMED_OPTIONS = tuple(name for name in (init.__kwdefaults__ or {}))


def _check_amount(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number or None, got {type(value).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must not be negative or infinite, got {value}")
    if value > MAX_AMOUNT:
        raise ValueError(f"{name} must be at most {MAX_AMOUNT:,}, got {value}")
    return float(value)


def _check_count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number or None, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return value


def _check_modules(name: str, value: Any) -> list[str]:
    modules = list(value) if isinstance(value, list | tuple) else [value] if value is not None else []
    if not all(isinstance(module, str) and module for module in modules):
        raise TypeError(f"{name} must be a list of names of modules, got {value!r}")
    return modules


def _check_resources(given: Any) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"resources must be a dict of amounts, got {type(given).__name__}")
    for name in given:
        if not isinstance(name, str) or not name:
            raise TypeError(f"resources must be named by non-empty strings, got {name!r}")
        if name in ("CPU", "GPU", "memory", "object_store_memory"):
            raise ValueError(f"give the amount of {name} in the argument of init() made for it, not in resources")
    return {name: _check_amount(f"resources[{name!r}]", amount) or 0.0 for name, amount in given.items()}


def _check_bytes(name: str, value: Any) -> int | None:
    if isinstance(value, float) and value == int(value):
        value = int(value)
    count(minimum=1, maximum=MAX_AMOUNT, meaning=" byte")(name, value)
    return cast("int | None", value)


def _check_directory(name: str, given: Any) -> str:
    """Return the absolute path of a directory, made if it is not there; "" if none is given."""
    if given is None or given == "":
        return ""
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{name} must be a path or None, got {type(given).__name__}: {given!r}")
    path = Path(text(name, os.fspath(given))).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(error.errno, f"init() cannot use {name}: {error.strerror}", str(path)) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"init() cannot use {name}: it is not writable", str(path))
    return str(path)


def _check_namespace(namespace: Any) -> str | None:
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a str or None, got {type(namespace).__name__}")
    if namespace == "":
        raise ValueError("namespace must not be empty; leave it out for an anonymous one")
    return None if namespace is None else text("namespace", namespace)


def _check_labels(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping) or not all(isinstance(text, str) for item in labels.items() for text in item):
        raise TypeError(f"labels must be a dict of strings, got {labels!r}")
    return dict(labels)


def _log_to_driver(given: bool | None) -> bool:
    if given is None:
        return os.environ.get("SKATE_LOG_TO_DRIVER", "1") != "0"
    return flag("log_to_driver", given)


def _logging_level(level: int | str) -> int:
    if isinstance(level, int):
        return level
    if not isinstance(level, str):
        raise TypeError(f"logging_level must be an int or the name of a level, got {type(level).__name__}: {level!r}")
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        names = ", ".join(logging.getLevelNamesMapping())
        raise ValueError(f"unknown logging_level {level!r}; valid names are {names}")
    return number


current.set_auto_init(start_default)
