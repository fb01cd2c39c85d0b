"""What a deploy would change: which applications and deployments come, go, restart or only take new options."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from serve.specs import ApplicationSpec, DeploymentSpec


class Change(enum.StrEnum):
    """What becomes of an application or a deployment."""

    CREATED = "created"
    #: its replicas are replaced, new ones first
    RESTARTED = "restarted"
    #: its replicas go on, with new options
    RECONFIGURED = "reconfigured"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


class DeploymentChange(BaseModel):
    """What becomes of a deployment."""

    change: Change
    #: options that change; "code" for the code or the arguments
    options: list[str] = Field(default_factory=list)


class ApplicationChange(BaseModel):
    """What becomes of an application."""

    change: Change
    deployments: dict[str, DeploymentChange] = Field(default_factory=dict)


def compare(old: ApplicationSpec | None, new: ApplicationSpec | None) -> ApplicationChange:
    """Return what becomes of an application.

    Args:
        old: what runs; None for nothing.
        new: what is to run; None for nothing.
    """
    before = {each.id.name: each for each in old.deployments} if old is not None else {}
    after = {each.id.name: each for each in new.deployments} if new is not None else {}
    deployments = {name: _compare(before.get(name), after.get(name)) for name in {**after, **before}}
    if old is None:
        change = Change.CREATED
    elif new is None:
        change = Change.DELETED
    else:
        change = Change.UNCHANGED if same(old, new) else Change.UPDATED
    return ApplicationChange(change=change, deployments=deployments)


def same(old: ApplicationSpec, new: ApplicationSpec) -> bool:
    """Tell whether two revisions say the same."""
    return _content(old) == _content(new)


def _content(spec: ApplicationSpec) -> ApplicationSpec:
    # the version stands for the code: pickles of the same code differ
    deployments = tuple(msgspec.structs.replace(each, blob=b"") for each in spec.deployments)
    return msgspec.structs.replace(spec, revision=0, deployed_at=0.0, deployments=deployments)


def _compare(old: DeploymentSpec | None, new: DeploymentSpec | None) -> DeploymentChange:
    if old is None:
        return DeploymentChange(change=Change.CREATED)
    if new is None:
        return DeploymentChange(change=Change.DELETED)
    before, after = _without_copies(old.config), _without_copies(new.config)
    options = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    if old.version != new.version:
        reasons = options if "ray_actor_options" in options else ["code", *options]
        return DeploymentChange(change=Change.RESTARTED, options=reasons)
    return DeploymentChange(change=Change.RECONFIGURED if options else Change.UNCHANGED, options=options)


def _without_copies(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options without the directories that copies of the code lie in, whose names change with it."""
    actor = config.get("ray_actor_options") or {}
    environment = actor.get("runtime_env") or {}
    kept = {name: value for name, value in environment.items() if name not in {"working_dir", "py_modules"}}
    return {**config, "ray_actor_options": {**actor, "runtime_env": kept}}


def unchanged_as_they_run(
    specs: Iterable[ApplicationSpec], running: dict[str, ApplicationSpec]
) -> list[ApplicationSpec]:
    """Return the applications, those that say nothing new as they run, with their revision."""
    return [running[spec.name] if spec.name in running and same(running[spec.name], spec) else spec for spec in specs]
