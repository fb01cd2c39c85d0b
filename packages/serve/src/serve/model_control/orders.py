"""Orders to load and unload models, given by whoever knows the replicas, and what became of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import core
from core.exceptions import GetTimeoutError, RayActorError
from serve.context import get_replica_context
from serve.errors import DeploymentUnavailableError, ModelLoadError, RayServeException
from serve.handle import local_router
from serve.model_control import wanted
from serve.model_control.keeper import Standing, keeper
from serve.specs import DeploymentID


@dataclass(frozen=True)
class ModelStatus:
    """Where a model of a deployment stands."""

    model_id: str
    #: ``READY`` (in all replicas, if it was loaded by order), ``LOADING``, ``UNLOADING``, ``UNAVAILABLE``
    state: str
    #: why it is not ready
    reason: str = ""
    #: whether it was loaded by order, and not for a request
    ordered: bool = False
    #: where it stands in each replica that knows of it, by the replica's id
    replicas: dict[str, str] = field(default_factory=dict)


def load(deployment: DeploymentID, model_id: str, timeout_s: float | None = None) -> None:
    """Have a model loaded in all replicas, those to come included, and wait until it is.

    Raises:
        ModelLoadError: the loader raised.
        DeploymentUnavailableError: there is no such deployment.
        RayServeException: it has no loader.
        TimeoutError: it takes longer; the loading goes on.
    """
    actors = _actors(deployment)
    _refuse_without_loader(deployment, actors, timeout_s)
    order = wanted.add(deployment, model_id)
    standings = _ask(actors, "standings", timeout_s=timeout_s)
    if any(found is not None and _failed(found.get(model_id)) for found in standings.values()):
        order = wanted.again(deployment, model_id)
    problems = _ask(actors, "settled", model_id, order, timeout_s=timeout_s)
    reasons = [reason for reason in problems.values() if reason]
    if reasons:
        raise ModelLoadError(f"model {model_id!r} cannot be loaded in deployment {deployment}:\n{reasons[0]}")


def unload(deployment: DeploymentID, model_id: str, timeout_s: float | None = None) -> None:
    """Have a model unloaded in all replicas, and wait until the requests that use it have ended and it is gone.

    Raises:
        DeploymentUnavailableError: there is no such deployment.
        RayServeException: it has no loader, or no such model.
        TimeoutError: it takes longer; the unloading goes on.
    """
    actors = _actors(deployment)
    _refuse_without_loader(deployment, actors, timeout_s)
    if model_id not in {status.model_id for status in statuses(deployment, timeout_s)}:
        raise RayServeException(f"deployment {deployment} holds no model {model_id!r}")
    wanted.remove(deployment, model_id)
    _ask(actors, "gone", model_id, timeout_s=timeout_s)


def statuses(deployment: DeploymentID, timeout_s: float | None = None) -> list[ModelStatus]:
    """Return where each model stands that is loaded, wanted, or on its way.

    Raises:
        DeploymentUnavailableError: there is no such deployment.
        TimeoutError: a replica does not answer.
    """
    answers: dict[str, dict[str, Standing] | None] = _ask(_actors(deployment), "standings", timeout_s=timeout_s)
    ordered = wanted.read(deployment)
    found: dict[str, dict[str, Standing]] = {name: {} for name in ordered}
    for replica_id, standings in answers.items():
        for name, standing in (standings or {}).items():
            found.setdefault(name, {})[replica_id] = standing
    return [
        _status(name, standings, ordered=name in ordered, replicas=len(answers))
        for name, standings in sorted(found.items())
    ]


def _status(name: str, standings: dict[str, Standing], *, ordered: bool, replicas: int) -> ModelStatus:
    by_state = {standing.state: standing for standing in reversed(standings.values())}
    everywhere = sum(standing.state == "READY" for standing in standings.values()) == replicas
    order = ["UNAVAILABLE", "LOADING", "UNLOADING", "READY"] if ordered else ["READY", "LOADING", "UNLOADING"]
    state = next((state for state in order if state in by_state), "UNAVAILABLE")
    if ordered and state == "READY" and not everywhere:
        state = "LOADING"
    reason = by_state[state].reason if state in by_state else "the deployment has no replica"
    return ModelStatus(name, state, reason, ordered, {key: standing.state for key, standing in standings.items()})


def _failed(standing: Standing | None) -> bool:
    return standing is not None and standing.state == "UNAVAILABLE"


def _actors(deployment: DeploymentID) -> dict[str, Any]:
    targets = local_router.targets()
    infos = None if targets is None else targets.replicas.get(str(deployment))
    if infos is None:
        known = ", ".join(sorted(targets.replicas)) if targets is not None else ""
        raise DeploymentUnavailableError(f"there is no deployment {deployment}; there are: {known or 'none'}")
    actors = {info.replica_id: local_router.actor_of(info) for info in infos}
    return {replica_id: actor for replica_id, actor in actors.items() if actor is not None}


def _refuse_without_loader(deployment: DeploymentID, actors: dict[str, Any], timeout_s: float | None) -> None:
    first = dict(list(actors.items())[:1])
    if None in _ask(first, "standings", timeout_s=timeout_s).values():
        raise RayServeException(
            f"deployment {deployment} cannot load models by order: its class needs exactly one method with "
            "@serve.multiplexed"
        )


def _ask(actors: dict[str, Any], method: str, *args: Any, timeout_s: float | None) -> dict[str, Any]:
    """Ask the keepers of all replicas; those that die meanwhile are left out."""
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    here = keeper()
    mine = get_replica_context().replica_id if here is not None else ""
    asked = {
        replica_id: getattr(actor, f"model_{method}").remote(*args)
        for replica_id, actor in actors.items()
        if replica_id != mine
    }
    answers = {}
    for replica_id in actors:
        left = None if ends is None else max(0.0, ends - time.monotonic())
        try:
            if here is not None and replica_id == mine:
                answers[replica_id] = here.ask(method, *args, timeout_s=left)
            else:
                answers[replica_id] = core.get(asked[replica_id], timeout=left)
        except RayActorError:
            continue
        except (GetTimeoutError, TimeoutError):
            raise TimeoutError(f"replica {replica_id} has not done it within {timeout_s:g} s; it goes on") from None
    return answers
