"""How each serving example runs: until interrupted, or, with ``--once``, until it has asked itself a few things."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

import core
import serve


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a command line with the options of all serving examples."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--port", type=int, default=8000, help="0 for a free one (default 8000)")
    made.add_argument("--once", action="store_true", help="ask a few things on a free port, check the answers, and end")
    return made


def run(app: serve.Application, options: argparse.Namespace, check: Callable[[str], Awaitable[None]]) -> int:
    """Serve an application, and return the exit status.

    Args:
        app: the application.
        options: the command line.
        check: with ``--once``, asks the application at an address.
    """
    try:
        serve.start(http_options={"port": 0 if options.once else options.port})
        serve.run(app)
        address = f"http://127.0.0.1:{serve.get_http_port()}"
        if options.once:
            asyncio.run(check(address))
        else:
            print(f"serving {address} (its API: {address}/docs); Ctrl-C ends it", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    finally:
        serve.shutdown()
        core.shutdown()
    return 0
