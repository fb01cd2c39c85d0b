"""Wait until revisions that were deployed run, or never will."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Mapping

from serve.cli.output import say
from serve.cli.rest import Remote, Unreachable

#: seconds that the server is asked to wait at a time
_ROUND_S = 10.0


def wait_until_running(remote: Remote, revisions: Mapping[str, int], timeout_s: float = 600.0) -> None:
    """Wait until revisions run.

    Args:
        remote: where.
        revisions: by name of the application.
        timeout_s: for all of them.

    Raises:
        RuntimeError: one of them was given up, or replaced by somebody else; the text says why, with the traceback.
        TimeoutError: it takes too long.
    """
    deadline = time.monotonic() + timeout_s
    failures = []
    for name, revision in revisions.items():
        failure = _wait(remote, name, revision, deadline)
        if failure:
            failures.append(failure)
        else:
            say(f"Application {name} runs: revision {revision}.")
    if failures:
        raise RuntimeError("\n".join(failures))


def _wait(remote: Remote, name: str, revision: int, deadline: float) -> str:
    """Return why a revision does not run; nothing once it does."""
    path = f"/api/v1/applications/{urllib.parse.quote(name, safe='')}/revisions/{revision}"
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"application {name} still deploys; serve status tells how things are")
        try:
            found = remote.get(f"{path}?timeout_s={min(left, _ROUND_S):.3f}")
        except Unreachable:
            raise
        except ConnectionError:  # the controller was restarted
            continue
        if found["state"] != "DEPLOYING":
            return "" if found["state"] == "RUNNING" else str(found["message"])
