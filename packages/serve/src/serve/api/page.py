"""``serve.status_page``: what operators look at, beside a program that runs Serve."""

from __future__ import annotations

from serve.api import client


def status_page(host: str = "127.0.0.1", port: int = 8265) -> str:
    """Serve the status page, ``/metrics`` and the REST API, unless that is done already, and return their address.

    ``serve run`` and ``serve start`` do so by themselves. All of it ends with Serve.

    Args:
        host: address to listen on. Whoever can reach it can deploy code; keep it on this machine, or behind something
            that asks who comes.
        port: 0 for a free one.

    Raises:
        RayServeException: Serve does not run.
        OSError: the port is taken.
    """
    address: str = client.running_controller().call("open_admin", host, port)
    return address
