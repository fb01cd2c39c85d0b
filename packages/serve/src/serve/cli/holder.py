"""The process that holds Serve in the background until ``serve shutdown``.

It has no terminal, and writes to ``serve.log`` in its session's directory. All it has started ends with it, also when
it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import core
from serve import session
from serve.api import client
from serve.cli.background import READY
from serve.cli.ending import watch_for_the_end


def main(arguments: list[str]) -> int:
    """Hold Serve until an operator or a signal ends it.

    Args:
        arguments: the settings of `serve.cli.background.launch`, as JSON.

    Returns:
        The exit status.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    session.ensure(detached=True)
    try:
        return _hold(json.loads(arguments[0]), ended)
    finally:
        client.shutdown()
        core.shutdown()


def _hold(settings: dict[str, Any], ended: threading.Event) -> int:
    try:
        client.start(settings["http_options"], settings["grpc_options"], settings["logging_config"], detached=True)
        address = client.running_controller().call("open_admin", settings["host"], settings["port"])
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with watch_for_the_end(ended):
        log = Path(core.get_runtime_context().get_temp_dir()) / "serve.log"
        sys.stdout.write(f"{READY}{json.dumps({'address': address, 'pid': os.getpid(), 'log': str(log)})}\n")
        sys.stdout.flush()
        _write_to(log)
        ended.wait()
    return 0


def _write_to(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
