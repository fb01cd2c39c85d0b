"""Orders that concern several revisions of an application: canaries, shadows, promotions, ways back."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from serve.specs import ApplicationSpec, Traffic
from serve.state.application import Application
from serve.state.candidate import share

#: of each application
KEPT_REVISIONS = 10


class Revisions:
    """What was deployed, by name of the application, newest first."""

    def __init__(self) -> None:
        self._specs: dict[str, list[ApplicationSpec]] = {}

    def add(self, spec: ApplicationSpec) -> ApplicationSpec:
        """Number a new revision, remember it with the time, and return it."""
        known = self._specs.setdefault(spec.name, [])
        revision = known[0].revision + 1 if known else 1
        spec = msgspec.structs.replace(spec, revision=revision, deployed_at=time.time())
        known.insert(0, spec)
        del known[KEPT_REVISIONS:]
        return spec

    def of(self, name: str) -> list[ApplicationSpec]:
        """Return the revisions of an application that are remembered, newest first."""
        return list(self._specs.get(name, ()))

    def get(self, name: str, revision: int) -> ApplicationSpec:
        """Return a revision.

        Raises:
            ValueError: it is not remembered; the message says which are.
        """
        for spec in self._specs.get(name, ()):
            if spec.revision == revision:
                return spec
        known = ", ".join(str(spec.revision) for spec in self._specs.get(name, ()))
        raise ValueError(f"application {name!r} has no revision {revision} (any more); there are: {known or 'none'}")

    def replace(self, name: str, specs: list[ApplicationSpec]) -> None:
        """Take over what was remembered elsewhere, newest first."""
        self._specs[name] = list(specs)

    def forget(self, name: str) -> None:
        """Forget an application that is gone."""
        self._specs.pop(name, None)


def stage(apps: Mapping[str, Application], revisions: Revisions, spec: ApplicationSpec, traffic: Traffic) -> int:
    """Start a new revision beside the one that runs, and return its number.

    Raises:
        ValueError: nothing of this name runs, or the new revision has another route.
    """
    app = running(apps, spec.name)
    if spec.route_prefix != app.spec.route_prefix:
        raise ValueError(
            f"a second revision of application {spec.name!r} is served where the first one is, at "
            f"{app.spec.route_prefix!r}, not {spec.route_prefix!r}"
        )
    app.refuse_to_stage()
    spec = revisions.add(spec)
    app.stage(spec, traffic)
    return spec.revision


def set_traffic(
    app: Application,
    revisions: Revisions,
    weights: Mapping[int, float],
    *,
    header: tuple[str, str] | None = None,
    shadow: int | None = None,
) -> None:
    """Share an application's requests between the revision that runs and another one, which is started if need be.

    Args:
        app: which.
        revisions: what was deployed.
        weights: shares by revision; the running one alone has the other one go.
        header: name and value of a field that leads to the other one whatever the weights.
        shadow: revision that gets copies of all requests.

    Raises:
        ValueError: no such revision, or shares that make no sense.
    """
    candidate = app.candidate.spec.revision if app.candidate is not None else None
    other, traffic = share(weights, app.spec.revision, header=header, shadow=shadow, candidate=candidate)
    if other is None:
        app.drop()
    elif app.candidate is not None and other == candidate:
        app.candidate.traffic = traffic
    else:
        app.stage(revisions.get(app.spec.name, other), traffic)


def way_back(app: Application, revisions: Revisions, revision: int | None) -> ApplicationSpec | None:
    """Return what a rollback deploys; None if it only drops the second revision that runs.

    Raises:
        ValueError: there is nothing to go back to.
    """
    if app.candidate is not None and revision in {None, app.spec.revision}:
        return None
    if revision is not None:
        return revisions.get(app.spec.name, revision)
    known = {spec.revision: spec for spec in revisions.of(app.spec.name)}
    for served in reversed(app.served):
        if served != app.spec.revision and served in known:
            return known[served]
    raise ValueError(f"application {app.spec.name!r} has no earlier revision that ran and could again")


def running(apps: Mapping[str, Application], name: str) -> Application:
    """Return an application.

    Raises:
        ValueError: there is none of this name, or it is being deleted.
    """
    app = apps.get(name)
    if app is None or app.deleting:
        raise ValueError(f"there is no application {name!r}; deploy it first")
    return app
