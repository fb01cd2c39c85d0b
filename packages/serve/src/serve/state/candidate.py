"""A second revision of an application beside the one that runs: a canary, the B of a test, or a shadow.

Deployments that both revisions have in common (same code, same options) are shared: only those that differ get replicas
of the candidate, as many as its share of the requests needs. It gets requests once all of them run. One whose replicas
cannot start, or keep failing, is given up: the application goes on as if it had never been there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from serve.config import DeploymentConfig
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec, Split, Traffic
from serve.state.deployment import Action, Deployment, DeploymentStatus

#: deaths and failed checks in a row after which a candidate is given up
CRASHES = 3
#: options that say how many replicas there are, not what they do
_COUNTS = frozenset({"num_replicas", "autoscaling_config"})


@dataclass
class Candidate:
    """The machine of a candidate.

    Args:
        spec: of the candidate, as `told_apart` returns it.
        traffic: which requests it gets.
        stable: the deployments of the revision that runs, by name.
        new_id: makes the name of a replica of a deployment.
    """

    spec: ApplicationSpec
    traffic: Traffic
    stable: Mapping[str, Deployment]
    new_id: Callable[[DeploymentID], str]
    #: those that differ from the ones that run, by name
    deployments: dict[str, Deployment] = field(init=False)

    def __post_init__(self) -> None:
        self.deployments = {
            each.id.name: Deployment(each.id, functools.partial(self.new_id, each.id))
            for each in self.spec.deployments
            if not _same(each, self.stable.get(each.id.name))
        }
        for each in self.spec.deployments:
            if each.id.name in self.deployments:
                self.deployments[each.id.name].aim(each, self._count(each))

    def plan(self, now: float) -> list[Action]:
        """Return what has to be done now."""
        actions: list[Action] = []
        for each in self.deployments.values():
            if each.spec is not None:
                each.resize(self._count(each.spec))
            actions += each.plan(now)
        return actions

    def _count(self, spec: DeploymentSpec) -> int:
        config = DeploymentConfig.model_validate(spec.config)
        stable = self.stable.get(spec.id.name)
        scaling = config.autoscaling_config
        whole = config.initial_replicas if scaling is None or stable is None else stable.wanted
        if scaling is not None:
            whole = min(max(whole, scaling.min_replicas), scaling.max_replicas)
        share = 1.0 if self.traffic.shadow else self.traffic.weight
        return max(1, math.ceil(whole * share - 1e-9))

    @property
    def ready(self) -> bool:
        """Whether all of it runs, so that requests may be sent its way."""
        return all(each.running for each in self.deployments.values())

    @property
    def settled(self) -> bool:
        """Whether all of it is as wanted."""
        return all(each.status is DeploymentStatus.HEALTHY for each in self.deployments.values())

    @property
    def failure(self) -> str:
        """Why it has to be given up; empty if it has not."""
        bad = [
            each
            for each in self.deployments.values()
            if each.failed or (each.proven and each.backoff.failures >= CRASHES)
        ]
        return "\n".join(f"deployment {each.id.name}: {each.message}" for each in bad)

    def splits(self, stable: ApplicationSpec) -> tuple[Split, ...]:
        """Return how the two revisions share the requests; nothing as long as the candidate is not ready."""
        if not self.ready:
            return ()
        versions = {name: each.spec.version for name, each in self.deployments.items() if each.spec is not None}
        kept = {each.id.name: each.version for each in stable.deployments if each.id.name in versions}
        weight = 0.0 if self.traffic.shadow else self.traffic.weight
        return (
            _split(stable, kept, 1.0 - weight),
            msgspec.structs.replace(
                _split(self.spec, versions, weight), header=self.traffic.header, shadow=self.traffic.shadow
            ),
        )


def _split(spec: ApplicationSpec, versions: dict[str, str], weight: float) -> Split:
    ingress = DeploymentID(spec.ingress, spec.name)
    return Split(spec.revision, ingress, versions.get(spec.ingress), weight, versions=versions)


def told_apart(spec: ApplicationSpec, stable: ApplicationSpec) -> ApplicationSpec:
    """Return a candidate whose deployments have versions of their own wherever they differ from the ones that run.

    Options that would be applied to running replicas in an ordinary deploy must not be here: the others run on.
    """
    running = {each.id.name: each for each in stable.deployments}
    deployments = []
    for each in spec.deployments:
        other = running.get(each.id.name)
        if other is not None and other.version == each.version and not _same_options(each, other):
            each = msgspec.structs.replace(each, version=f"{each.version}-r{spec.revision}")  # noqa: PLW2901
        deployments.append(each)
    return msgspec.structs.replace(spec, deployments=tuple(deployments))


def _same(spec: DeploymentSpec, running: Deployment | None) -> bool:
    return running is not None and running.spec is not None and running.spec.version == spec.version


def _same_options(one: DeploymentSpec, other: DeploymentSpec) -> bool:
    names = (one.config.keys() | other.config.keys()) - _COUNTS
    return all(one.config.get(name) == other.config.get(name) for name in names)


def share(
    weights: Mapping[int, float],
    running: int,
    *,
    header: tuple[str, str] | None = None,
    shadow: int | None = None,
    candidate: int | None = None,
) -> tuple[int | None, Traffic]:
    """Return the revision that is to share the requests with the running one, and which requests it gets.

    Args:
        weights: shares by revision, of any sum; without the running revision's, it gets what is missing to 1.
        running: revision that runs.
        header: name and value of a field that leads to the other revision.
        shadow: revision that gets copies of all requests.
        candidate: the revision that shares already, which a header alone means.

    Raises:
        ValueError: a negative share, a sum of nothing, or more than two revisions.
    """
    for revision, weight in weights.items():
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"the weight of revision {revision} is {weight}; it must be 0 or more")
    named = sorted({*weights, *([shadow] if shadow is not None else [])} - {running})
    if not named and header is not None and candidate is not None:
        named = [candidate]
    if len(named) > 1:
        others = " and ".join(map(str, named))
        raise ValueError(f"two revisions can share the requests: {running}, which runs, and one other, not {others}")
    if not named:
        if shadow is not None or header is not None:
            raise ValueError(f"name the revision that gets the requests; {running} is the one that runs")
        return None, Traffic()
    (other,) = named
    asked = weights.get(other, 0.0)
    rest = weights.get(running, max(0.0, 1.0 - asked))
    if asked + rest <= 0:
        raise ValueError("the weights add up to nothing")
    if shadow is not None and asked > 0:
        raise ValueError(f"revision {other} is a shadow, which answers nobody; give it no weight")
    if header is not None:
        header = (header[0].lower(), header[1])
    return other, Traffic(asked / (asked + rest), header, shadow is not None)
