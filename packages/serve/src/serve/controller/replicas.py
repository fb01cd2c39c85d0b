"""The controller's hands: actors of replicas, started, watched, asked for their health, stopped."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import msgspec

import core
from core.exceptions import RayActorError, RayError, RayTaskError
from serve.config import DeploymentConfig
from serve.replica.actor import Direct, Ready, Replica, Stats
from serve.specs import NAMESPACE, DeploymentSpec, ReplicaInfo

#: the environment of actors of Serve: their event loop is libuv's, which serves twice as many requests as asyncio's
LOOP = {"SKATE_EVENT_LOOP": "uvloop"}
#: calls of a replica at a time, health checks and publications included; requests are counted by the replica itself,
#: so that their number can change without a restart
MAX_CALLS = 100_000
#: seconds beyond its own grace after which a replica that does not stop is killed
KILL_AFTER_S = 5.0


class StartError(Exception):
    """A replica did not start; the text is for people, with the user's traceback if his code raised."""


@dataclass
class RunningReplica:
    """The actor of a replica."""

    spec: DeploymentSpec
    actor: Any
    #: None until it has started
    info: ReplicaInfo | None = None
    #: it accepts clients itself
    direct: bool = False


def create(spec: DeploymentSpec, replica_id: str, *, serve_http: bool, direct: Direct | None) -> RunningReplica:
    """Make the actor of a replica; its process starts meanwhile."""
    config = DeploymentConfig.model_validate(spec.config)
    options = config.ray_actor_options
    environment = dict(options.runtime_env)
    environment["env_vars"] = {**LOOP, **environment.get("env_vars", {})}
    asked: dict[str, Any] = {"num_cpus": options.num_cpus, "num_gpus": options.num_gpus, "resources": options.resources}
    if options.memory is not None:
        asked["memory"] = options.memory
    if options.accelerator_type is not None:
        asked["accelerator_type"] = options.accelerator_type
    actor = (
        core.remote(Replica)
        .options(
            name=replica_id,
            namespace=NAMESPACE,
            lifetime="detached",
            max_concurrency=MAX_CALLS,
            runtime_env=environment,
            **asked,
        )
        .remote(msgspec.msgpack.encode(spec), replica_id, serve_http=serve_http, direct=direct)
    )
    return RunningReplica(spec, actor, direct=direct is not None)


def find_actor(name: str) -> Any | None:
    """Return the actor of a replica or proxy that was started before; None if it is gone."""
    try:
        return core.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


async def start(replica: RunningReplica, replica_id: str) -> bool:
    """Wait until a replica serves; returns False if it was told to stop by a controller that is gone.

    Raises:
        StartError: its constructor raised, or its process died.
    """
    try:
        ready: Ready = await replica.actor.start.remote()
    except RayTaskError as error:
        raise StartError(str(error)) from error
    except RayActorError as error:
        raise StartError(f"the replica's process died while it started: {error}") from error
    except RayError as error:
        raise StartError(f"the replica cannot be started: {error}") from error
    if ready.stopping:
        return False
    config = replica.spec.config
    replica.info = ReplicaInfo(
        replica_id,
        replica.spec.id,
        replica.spec.version,
        replica_id,
        ready.node_id,
        ready.pid,
        ready.socket,
        int(config["max_ongoing_requests"]),
    )
    return True


async def end_of(replica: RunningReplica) -> str:
    """Wait until a replica's process is gone, and return why."""
    try:
        await replica.actor.outlive.remote()
    except RayError as error:
        return str(error)
    return ""


async def check(replica: RunningReplica, timeout_s: float) -> tuple[str, bool]:
    """Ask for a replica's health and its models; returns what is wrong, or nothing, and whether it answered."""
    try:
        stats: Stats = await asyncio.wait_for(replica.actor.check_health.remote().as_future(), timeout_s)
    except TimeoutError:
        return f"check_health() did not return within {timeout_s:g} s", False
    except RayTaskError as error:
        return f"check_health() raised: {error}", True
    except RayError as error:
        return str(error), False
    if replica.info is not None:
        replica.info = msgspec.structs.replace(replica.info, model_ids=stats.model_ids)
    return "", True


async def stop(replica: RunningReplica, grace_s: float) -> bytes | None:
    """Let a replica finish what it has, for so many seconds, and end it; returns its last report."""
    last: bytes | None = None
    with contextlib.suppress(RayError, TimeoutError):
        last = await asyncio.wait_for(replica.actor.stop.remote(grace_s).as_future(), grace_s + KILL_AFTER_S)
    kill(replica)
    return last


def kill(replica: RunningReplica) -> None:
    """End a replica at once."""
    with contextlib.suppress(ValueError):
        core.kill(replica.actor)
