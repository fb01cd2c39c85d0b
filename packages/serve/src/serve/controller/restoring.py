"""From what is stored back to machines: an application as its controller left it, with the replicas that run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve.controller.desired import AppRecord, Desired, ReplicaRecord
from serve.controller.replicas import find_actor
from serve.specs import DeploymentID, DeploymentSpec, ReplicaState, Targets
from serve.state.application import Application
from serve.state.candidate import Candidate
from serve.state.deployment import Deployment, Replica


@dataclass(frozen=True)
class Living:
    """A replica whose actor is alive."""

    record: ReplicaRecord
    actor: Any


def living_replicas() -> dict[str, Living]:
    """Return the replicas that were started and are alive, by id; the others are forgotten."""
    found = {}
    for replica_id, record in Desired.load_replicas().items():
        actor = find_actor(replica_id)
        if actor is None:
            Desired.forget_replica(replica_id)
        else:
            found[replica_id] = Living(record, actor)
    return found


def restore(
    record: AppRecord,
    replicas: Mapping[str, Living],
    published: Targets,
    new_id: Callable[[DeploymentID], str],
) -> Application:
    """Return the machine of an application.

    Args:
        record: what is stored of it.
        replicas: those that are alive, by id; of other applications too.
        published: what was published last: the replicas named there run.
        new_id: makes names of replicas.
    """
    app = Application(record.spec, new_id)
    same = record.good is not None and record.good.revision == record.spec.revision
    app.good = app.spec if same else record.good
    app.rejected, app.served = record.rejected, list(record.served)
    if record.candidate is not None:
        spec, traffic = record.candidate
        app.candidate = Candidate(spec, traffic, app.deployments, new_id)
    running = {info.replica_id for infos in published.replicas.values() for info in infos}
    for replica_id, living in replicas.items():
        of = living.record.spec
        if of.id.app == record.spec.name:
            state = ReplicaState.RUNNING if replica_id in running else ReplicaState.STARTING
            _machine(app, of, new_id).replicas[replica_id] = Replica(replica_id, of.version, state, of.config)
    for machine in app.machines():
        _recall(machine, app)
    for name, wanted in record.wanted.items():
        if name in app.deployments:
            app.deployments[name].resize(wanted)
    if record.deleting:
        app.delete()
    return app


def _machine(app: Application, spec: DeploymentSpec, new_id: Callable[[DeploymentID], str]) -> Deployment:
    """Return the machine that a replica belongs to: that of a second revision, if it is of its version."""
    beside = app.candidate.deployments.get(spec.id.name) if app.candidate is not None else None
    if beside is not None and beside.spec is not None and beside.spec.version == spec.version:
        return beside
    machine = app.deployments.get(spec.id.name)
    if machine is None:  # of a deployment that the present revision has no use for
        machine = app.deployments[spec.id.name] = Deployment(spec.id, functools.partial(new_id, spec.id))
        machine.aim(spec, 1)
    return machine


def _recall(machine: Deployment, app: Application) -> None:
    """Conclude what a machine would remember: whether its version has run, or was given up."""
    spec = machine.spec
    if spec is None:
        return
    good = app.good.deployments if app.good is not None else ()
    machine.proven = any(replica.version == spec.version for replica in machine.running) or any(
        known.id == spec.id and known.version == spec.version for known in good
    )
    rejected = app.rejected
    if rejected is not None and rejected[0] == app.spec.revision and not machine.proven:
        machine.failed, machine.message = True, rejected[1]
