"""The one Serve of a session: started by the first call that needs it, reached from anywhere, ended by `shutdown`."""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import Any, TypeAlias

import core
from serve import session
from serve.config import GRPCOptions, HTTPOptions, LoggingConfig
from serve.controller.detached import RemoteController, is_alive, start_detached
from serve.controller.thread import ControllerThread
from serve.errors import RayServeException
from serve.handle import in_process, local_router

#: reaches the controller
Link: TypeAlias = ControllerThread | RemoteController

_lock = threading.RLock()
#: None if the controller runs elsewhere, or nowhere
_controller: ControllerThread | None = None
#: the session it belongs to
_session = ""


def start(
    http_options: HTTPOptions | dict[str, Any] | None = None,
    grpc_options: GRPCOptions | dict[str, Any] | None = None,
    logging_config: LoggingConfig | dict[str, Any] | None = None,
    *,
    detached: bool = False,
    **further: Any,
) -> None:
    """Start Serve, unless it runs in this session. ``serve.run`` does it by itself, with the defaults.

    Args:
        http_options: host, port, time limits, TLS, number of proxies: see `serve.config.HTTPOptions`, or a dictionary.
        grpc_options: port, the user's services, time limit: see `serve.config.GRPCOptions`, or a dictionary. Without
            them no gRPC is served; with them, even if they are empty, it is from the first application on.
        logging_config: how proxies log; what deployments log is theirs to say (``@serve.deployment(logging_config=)``).
        detached: the controller becomes an actor of its own, which is started again when it dies: clients notice
            nothing of that. Otherwise it runs in a thread of this process, which starts faster and needs no process
            more. Either way Serve ends with the session. In tasks and actors it is always detached.
        **further: ``host`` and ``port`` of HTTP, as a short form.

    Raises:
        ValueError: an unknown option, a wrong value, or Serve runs with other options.
    """
    if isinstance(http_options, HTTPOptions):
        options = http_options
    else:
        options = HTTPOptions.of("serve.start(http_options=...)", {**(http_options or {}), **further})
    if logging_config is not None:
        if not isinstance(logging_config, LoggingConfig):
            logging_config = LoggingConfig.of("serve.start(logging_config=...)", logging_config)
        options = options.model_copy(update={"logging_config": logging_config})
    asked = http_options is not None or logging_config is not None or bool(further)
    if grpc_options is not None and not isinstance(grpc_options, GRPCOptions):
        grpc_options = GRPCOptions.of("serve.start(grpc_options=...)", grpc_options)
    with _lock:
        running = _running()
        if running is None:
            _start(options, grpc_options, detached=detached)
        elif asked and _differ(options, running.call("http_options")):
            raise ValueError("Serve runs already, with other http_options; call serve.shutdown() first to change them")
        elif grpc_options is not None and running.call("grpc_options") != grpc_options:
            raise ValueError("Serve runs already, with other grpc_options; call serve.shutdown() first to change them")


def controller() -> Link:
    """Return the controller; it is started with the defaults if need be."""
    with _lock:
        return _running() or _start(HTTPOptions())


def running_controller() -> Link:
    """Return the controller, wherever in this session it runs.

    Raises:
        RayServeException: Serve does not run in this session.
    """
    running = _running()
    if running is None:
        raise RayServeException("Serve does not run in this session; start it with serve.run(app) or serve.start()")
    return running


def shutdown() -> None:
    """Delete all applications and end Serve, wherever in this session it runs; nothing happens if it does not."""
    global _controller
    in_process.close_all()
    with _lock:
        running = _running()
        if running is not None:
            _controller = None
            running.close()
            local_router.reset()


async def shutdown_async() -> None:
    """`shutdown` for event loops, which are not blocked by it."""
    await asyncio.to_thread(shutdown)


def _running() -> Link | None:
    global _controller
    if not core.is_initialized() or core.get_runtime_context().get_session_name() != _session:
        over, _controller = _controller, None
        if over is not None:  # the session it belonged to is over
            over.close(session_over=True)
            local_router.reset()
    if _controller is not None:
        return _controller
    return RemoteController() if core.is_initialized() and is_alive() else None


def _start(options: HTTPOptions, grpc_options: GRPCOptions | None = None, *, detached: bool = False) -> Link:
    global _controller, _session
    session.ensure(detached=detached)
    context = core.get_runtime_context()
    if detached or context.get_task_id() is not None or context.get_actor_id() is not None:
        return start_detached(options, grpc_options)
    _session = context.get_session_name()
    _controller = ControllerThread(options, grpc_options)
    atexit.register(_end_own)
    return _controller


def _end_own() -> None:
    """At the end of the process: a controller in another one stays."""
    if _controller is not None:
        shutdown()


def _differ(asked: HTTPOptions, running: HTTPOptions) -> bool:
    given = asked.model_dump(include=asked.model_fields_set)
    if given.get("port") == 0:
        del given["port"]
    now = running.model_dump()
    return any(now[name] != value for name, value in given.items())
