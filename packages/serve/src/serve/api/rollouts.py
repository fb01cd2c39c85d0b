"""``serve.set_traffic``, ``serve.promote``, ``serve.rollback``: two revisions of an application, and ways back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.api import client
from serve.specs import ApplicationSpec


def stage(
    spec: ApplicationSpec,
    weight: float | None,
    header: tuple[str, str] | None = None,
    *,
    shadow: bool = False,
) -> None:
    """Start a new revision beside the one that runs, and wait until it shares the requests.

    Args:
        spec: the new revision.
        weight: its share, 0 to 1.
        header: name and value of a header field that leads to it whatever its share.
        shadow: it gets copies of all requests instead, and its answers are thrown away.

    Raises:
        ValueError: the share is none, or nothing of this name runs.
        RuntimeError: it cannot start; the text has the user's traceback.
    """
    weight = weight or 0.0
    if not 0 <= weight <= 1:
        raise ValueError(f"canary is a share of the requests, from 0 to 1, not {weight!r}")
    if shadow and weight:
        raise ValueError("a shadow answers nobody, so it has no share of the requests; leave canary out")
    controller = client.running_controller()
    revision = controller.call("stage", spec, weight, header=_field(header), shadow=shadow)
    controller.call("wait_for", spec.name, revision)


def set_traffic(
    name: str,
    weights: Mapping[int, float] | None = None,
    *,
    header: tuple[str, str] | None = None,
    shadow: int | None = None,
) -> None:
    """Share an application's requests between the revision that runs and another one, and wait until that is so.

    ::

        serve.set_traffic("default", {3: 0.9, 4: 0.1})  # a canary
        serve.set_traffic("default", {3: 1, 4: 1})  # an A/B test; requests of one session stay together
        serve.set_traffic("default", {4: 0}, header=("x-beta", "1"))  # by a header field alone
        serve.set_traffic("default", shadow=4)  # copies of all requests, whose answers are thrown away
        serve.set_traffic("default", {3: 1})  # the revision that runs, alone again

    The other revision is started if it does not run: any that `serve.status` or the history names will do. A promotion
    (`promote`) or a deploy ends the sharing; so does the other revision itself, if its replicas cannot start or keep
    dying: ``serve.status()`` then says why.

    Args:
        name: of the application.
        weights: shares by revision, of any sum; without the running revision's, it gets what is missing to 1.
        header: name and value of a header field that leads to the other revision whatever the weights.
        shadow: revision that gets copies.

    Raises:
        ValueError: no such application or revision, or shares that make no sense.
        RuntimeError: the other revision cannot start; the text has the user's traceback.
    """
    controller = client.running_controller()
    revision: int = controller.call("set_traffic", name, dict(weights or {}), header=_field(header), shadow=shadow)
    controller.call("wait_for", name, revision)


def promote(name: str) -> int:
    """Make the second revision of an application the only one, wait until it is, and return its number.

    Its replicas stay; more are started as needed, and then those of the first revision finish what they have and stop.

    Args:
        name: of the application.

    Raises:
        ValueError: there is no such application, or no second revision.
        RuntimeError: the replicas it needs cannot start; the first revision goes on.
    """
    controller = client.running_controller()
    revision: int = controller.call("promote", name)
    controller.call("wait_for", name, revision)
    return revision


def rollback(name: str, revision: int | None = None) -> int:
    """Deploy what a revision was once more, wait until it runs, and return its number.

    It is a new revision with the old content, started before the present one stops, as in any deploy. While two
    revisions share the requests, a rollback without a number takes the second one out instead.

    Args:
        name: of the application.
        revision: which; None for the last one that ran before what is deployed now.

    Raises:
        ValueError: there is no such application, or no such revision any more (the last ten are kept).
        RuntimeError: it cannot start any more; what runs goes on.
    """
    controller = client.running_controller()
    number: int = controller.call("rollback", name, revision)
    controller.call("wait_for", name, number)
    return number


def _field(header: Any) -> tuple[str, str] | None:
    if header is None:
        return None
    if len(header) != 2 or not all(isinstance(part, str) and part for part in header):
        raise ValueError(f"header is the name and the value of a field, such as ('x-beta', '1'), not {header!r}")
    return (header[0].lower(), header[1])
