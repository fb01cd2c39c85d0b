"""The one Serve of this process: made by the first call that needs it, ended by ``serve.shutdown``."""

from __future__ import annotations

import atexit
import threading
from typing import Any

import core
from serve.config import GRPCOptions, HTTPOptions
from serve.controller.thread import ControllerThread
from serve.errors import RayServeException
from serve.handle import in_process, local_router

_lock = threading.RLock()
_controller: ControllerThread | None = None
#: the session it belongs to
_session = ""


def start(
    http_options: HTTPOptions | dict[str, Any] | None = None,
    grpc_options: GRPCOptions | dict[str, Any] | None = None,
    **further: Any,
) -> None:
    """Start Serve in this process, unless it runs. ``serve.run`` does it by itself, with the defaults.

    Args:
        http_options: host, port, time limits, TLS, number of proxies: see `serve.config.HTTPOptions`, or a dictionary.
        grpc_options: port, the user's services, time limit: see `serve.config.GRPCOptions`, or a dictionary. Without
            them no gRPC is served; with them, even if they are empty, it is from the first application on.
        **further: ``host`` and ``port`` of HTTP, as a short form.

    Raises:
        ValueError: an unknown option, a wrong value, or Serve runs with other options.
    """
    if isinstance(http_options, HTTPOptions):
        options = http_options
    else:
        options = HTTPOptions.of("serve.start(http_options=...)", {**(http_options or {}), **further})
    asked = http_options is not None or bool(further)
    if grpc_options is not None and not isinstance(grpc_options, GRPCOptions):
        grpc_options = GRPCOptions.of("serve.start(grpc_options=...)", grpc_options)
    with _lock:
        running = _running()
        if running is None:
            _start(options, grpc_options)
        elif asked and _differ(options, running.call("http_options")):
            raise ValueError("Serve runs already, with other http_options; call serve.shutdown() first to change them")
        elif grpc_options is not None and running.call("grpc_options") != grpc_options:
            raise ValueError("Serve runs already, with other grpc_options; call serve.shutdown() first to change them")


def controller() -> ControllerThread:
    """Return the controller; it is started with the defaults if need be."""
    with _lock:
        return _running() or _start(HTTPOptions())


def running_controller() -> ControllerThread:
    """Return the controller.

    Raises:
        RayServeException: Serve does not run here.
    """
    running = _running()
    if running is None:
        raise RayServeException("Serve does not run in this process; start it with serve.run(app) or serve.start()")
    return running


def shutdown() -> None:
    """Delete all applications and end Serve in this process; nothing happens if it does not run."""
    global _controller
    in_process.close_all()
    with _lock:
        running, _controller = _controller, None
        if running is None:
            return
        over = not core.is_initialized() or core.get_runtime_context().get_session_name() != _session
        running.close(session_over=over)
        local_router.reset()


def _running() -> ControllerThread | None:
    if _controller is not None and (
        not core.is_initialized() or core.get_runtime_context().get_session_name() != _session
    ):
        shutdown()  # the session it belonged to is over
    return _controller


def _start(options: HTTPOptions, grpc_options: GRPCOptions | None = None) -> ControllerThread:
    global _controller, _session
    if not core.is_initialized():
        core.init()
    _session = core.get_runtime_context().get_session_name()
    _controller = ControllerThread(options, grpc_options)
    atexit.register(shutdown)
    return _controller


def _differ(asked: HTTPOptions, running: HTTPOptions) -> bool:
    given = asked.model_dump(include=asked.model_fields_set)
    if given.get("port") == 0:
        del given["port"]
    now = running.model_dump()
    return any(now[name] != value for name, value in given.items())
