"""A replica's gateway, as its deployment's options ask for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.config import GatewayConfig
from serve.gateway.marks import TABLE, App, Refused


def guard(config: dict[str, Any], app_name: str, directory: str | None) -> Callable[[App, Refused], App] | None:
    """Return what puts a gateway before an application; None if none is asked for.

    Args:
        config: the deployment's options.
        app_name: name of the application.
        directory: the session's; None to count in this process alone.

    Raises:
        ValueError: an API key is in a variable that is not set.
    """
    options = config.get("gateway")
    if options is None:
        return None
    from serve.gateway.stack import Gateway  # noqa: PLC0415 - only those who want it pay for it
    from serve.gateway.table import ProcessMemory  # noqa: PLC0415 - likewise

    checked = GatewayConfig.model_validate(options)
    memory = ProcessMemory() if directory is None else _shared(directory)

    def gateway(app: App, refused: Refused) -> App:
        return Gateway(app, checked, memory, app_name, refused)

    return gateway


def ageing_s(config: dict[str, Any]) -> float | None:
    """Return the seconds of waiting that a class of requests is worth; None without classes."""
    priorities = (config.get("gateway") or {}).get("priorities")
    return None if priorities is None else float(priorities["ageing_s"])


@functools.cache
def _shared(directory: str) -> Any:
    from serve.gateway.table import SharedMemory  # noqa: PLC0415 - likewise

    return SharedMemory(Path(directory) / TABLE)
