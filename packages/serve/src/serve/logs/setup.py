"""Sets up the logging of a replica's or a proxy's process, as its ``logging_config`` says."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import core
from serve.config import LoggingConfig
from serve.context import get_request_context
from serve.logs.lines import Access, AccessJSON, AccessText, JSONFormatter, Origin, TextFormatter
from serve.logs.writer import LineWriter, RotatingFile
from serve.metrics.observer import Scope

#: loggers that go to the log: ours, Ray's name for it, and the server's, which tells of what applications raise
LOGGERS = ("serve", "ray.serve", "uvicorn.error")
#: tells of each start and stop of a server, which is no news here
QUIET = "uvicorn.error"


def logs_directory() -> Path:
    """Return where logs are unless their config says otherwise: they end with the session."""
    return Path(core.get_runtime_context().get_temp_dir(), "logs")


class Log:
    """The log of this process. Also the access log that `serve.metrics.observer.Observer` writes to.

    Args:
        origin: who logs.
        config: how.
    """

    def __init__(self, origin: Origin, config: LoggingConfig) -> None:
        self.origin = origin
        self.path = Path(config.logs_dir or logs_directory()) / f"{_file_name(origin)}.log"
        as_json = config.encoding == "JSON"
        form = AccessJSON(origin) if as_json else AccessText(origin)
        self._writer = LineWriter(RotatingFile(self.path), form)
        attributes = config.additional_log_standard_attrs
        formatter = JSONFormatter(origin, attributes) if as_json else TextFormatter(origin, attributes)
        self._handler = _Handler(self._writer)
        self._handler.addFilter(_Context(origin))
        self._handler.setFormatter(formatter)
        #: requests are logged too
        self.accesses = config.enable_access_log
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(config.log_level)
            if name == QUIET:
                logger.setLevel(max(logger.level, logging.WARNING))
            logger.addHandler(self._handler)
            logger.propagate = False

    def write(
        self,
        scope: Scope,
        application: str,
        route: str,
        request_id: str,
        status: int,
        sent: int,
        seconds: float,
        replica: str = "",
    ) -> None:
        """Note a request."""
        self._writer.put(
            Access(
                time.time(),
                scope.get("method", "WEBSOCKET"),
                scope.get("raw_path") or scope["path"].encode(),
                route,
                status,
                sent,
                seconds,
                scope.get("client"),
                request_id,
                application,
                replica,
            )
        )

    def refused(self, client: tuple[str, int] | None, status: int, reason: str) -> None:
        """Note what was refused before it was a request."""
        self._writer.put(Access(time.time(), "-", b"-", "", status, 0, 0.0, client, "", "", "", reason))

    def flush(self) -> None:
        """Write what there is."""
        self._writer.flush()

    def close(self) -> None:
        """Write what there is, and end."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
        self._writer.close()


class _Handler(logging.Handler):
    """Passes records to the file, and to the standard error, which the driver shows."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            self._writer.put(line)
            if record.levelno >= logging.ERROR:
                self._writer.flush()  # the process may be about to end
            sys.stderr.write(line + "\n")
        except Exception:  # noqa: BLE001 - as every handler of logging: what cannot be logged must not end the request
            self.handleError(record)


class _Context(logging.Filter):
    """Adds to each record who logs, and which request it is about. Ray's names."""

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self._fields = origin.fields()

    def filter(self, record: logging.LogRecord) -> bool:
        attributes: dict[str, Any] = record.__dict__
        attributes.update(self._fields)
        request = get_request_context()
        if request.request_id:
            attributes["request_id"] = request.request_id
            attributes["route"] = request.route
        return True


def _file_name(origin: Origin) -> str:
    """Return Ray's name for it: ``replica_<application>_<deployment>_<id>`` or ``proxy_<name>``."""
    parts = [origin.component]
    if origin.deployment:
        parts += [origin.application, origin.deployment]
    parts.append(origin.name.rpartition("#")[2])
    return "_".join(re.sub(r"[^A-Za-z0-9.-]", "-", part) for part in parts)
