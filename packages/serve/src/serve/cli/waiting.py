"""Wait until revisions that were deployed run, or never will."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from serve.cli.output import say
from serve.cli.rest import Remote

#: seconds between two looks
PERIOD_S = 0.2


def wait_until_running(remote: Remote, revisions: Mapping[str, int], timeout_s: float | None = None) -> None:
    """Wait until revisions run.

    Args:
        remote: where.
        revisions: by name of the application.
        timeout_s: None for any time.

    Raises:
        RuntimeError: one of them was given up, or replaced by somebody else; the text says why, with the traceback.
        TimeoutError: it takes too long.
    """
    waiting = dict(revisions)
    failures: list[str] = []
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while waiting:
        applications = remote.get("/api/serve/applications/")["applications"]
        for name, revision in list(waiting.items()):
            outcome = _outcome(name, revision, applications.get(name))
            if outcome is None:
                continue
            del waiting[name]
            if outcome:
                failures.append(outcome)
            else:
                say(f"Application {name} runs: revision {revision}.")
        if waiting and deadline is not None and time.monotonic() > deadline:
            names = ", ".join(waiting)
            raise TimeoutError("\n".join([*failures, f"still deploying after {timeout_s:g} s: {names}; serve status"]))
        if waiting:
            time.sleep(PERIOD_S)
    if failures:
        raise RuntimeError("\n".join(failures))


def _outcome(name: str, revision: int, app: dict[str, Any] | None) -> str | None:
    """Return what became of a revision: nothing bad, or what; None if that is open."""
    if app is None or app["status"] == "DELETING":
        return f"application {name} was deleted meanwhile"
    if app["revision"] < revision:
        return f"application {name} cannot be deployed; revision {app['revision']} goes on.\n{app['message']}".rstrip()
    if app["revision"] > revision:
        return f"application {name} was deployed once more meanwhile: revision {app['revision']}"
    if app["status"] == "DEPLOY_FAILED":
        return f"application {name} cannot be deployed.\n{app['message']}".rstrip()
    return "" if app["status"] == "RUNNING" else None
