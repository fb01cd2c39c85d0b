"""Start Serve in the background: `serve.cli.holder` in a process of its own, which outlives the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

#: what the process writes before its address when it is ready
READY = "serve is ready: "


class StartError(RuntimeError):
    """The background process did not start; the text is what it said."""


@dataclass(frozen=True)
class Started:
    """A background process."""

    address: str
    pid: int
    log: str


def launch(
    host: str,
    port: int,
    http_options: dict[str, Any],
    grpc_options: dict[str, Any] | None = None,
    logging_config: dict[str, Any] | None = None,
) -> Started:
    """Start Serve in the background and return when it takes orders.

    Args:
        host: address of the REST API.
        port: its port; 0 for a free one.
        http_options: see `serve.config.HTTPOptions`.
        grpc_options: see `serve.config.GRPCOptions`; None serves no gRPC.
        logging_config: of proxies; see `serve.config.LoggingConfig`.

    Raises:
        StartError: it did not start.
    """
    settings = {
        "host": host,
        "port": port,
        "http_options": http_options,
        "grpc_options": grpc_options,
        "logging_config": logging_config,
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "serve.cli.holder", json.dumps(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None, "it is a pipe"
    said = []
    with process.stdout:
        for line in process.stdout:
            if line.startswith(READY):
                return Started(**json.loads(line.removeprefix(READY)))
            said.append(line)
    code = process.wait()
    raise StartError("".join(said).rstrip() or f"the background process ended with code {code}")
