"""The router of this process and the actors behind it: fed by the controller, used by every handle here.

The controller tells replicas and proxies itself. Any other process (a task, an actor, a driver whose controller is an
actor) begins to watch the publication in the control store when its first handle is called.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

import msgspec

import core
from core.exceptions import RayError
from core.util import kv
from serve.handle.router import Router
from serve.specs import NAMESPACE, TARGETS_KEY, DeploymentID, ReplicaInfo, Targets

logger: logging.Logger = logging.getLogger("serve")

#: keys in the control store: deployments that have no replica while a request waits for one
WAKE_PREFIX = "serve/wake/"


def _starved(deployment: DeploymentID) -> None:
    """Tell the controller that a deployment without replicas has a request; in a thread, since callers do not wait."""

    def tell() -> None:
        with contextlib.suppress(RayError):  # the session is over
            if core.is_initialized():  # else this would start another one
                kv.put(f"{WAKE_PREFIX}{deployment}", b"")

    threading.Thread(target=tell, name="serve-wake", daemon=True).start()


_lock = threading.Lock()
_router = Router(starved=_starved)
_actors: dict[str, Any] = {}
_targets: Targets | None = None
#: session whose publications a thread follows
_feeding = ""


def router() -> Router:
    """Return the router of this process."""
    return _router


def fed_router() -> Router:
    """Return the router of this process, for a handle: knows what is published."""
    if _targets is None:
        _feed()
    return _router


def targets() -> Targets | None:
    """Return what was published last, as far as this process was told; None before anything was."""
    if _targets is None:
        _feed()
    return _targets


def update(published: Targets, known: dict[str, Any] | None = None) -> None:
    """Take over a publication.

    Args:
        published: what the controller says.
        known: handles to the replicas' actors, by replica id, where they are at hand; others are looked up.
    """
    global _targets
    infos = [info for replicas in published.replicas.values() for info in replicas]
    with _lock:
        if _targets is not None and published.version <= _targets.version:
            return
        _targets = published
        missing = [info for info in infos if info.replica_id not in _actors]
    found = {info.replica_id: actor for info in missing if (actor := _find(info, known or {})) is not None}
    with _lock:
        _actors.update(found)
        for replica_id in _actors.keys() - {info.replica_id for info in infos}:
            del _actors[replica_id]
    _router.update(published)


def actor_of(replica: ReplicaInfo) -> Any | None:
    """Return the handle to a replica's actor; None if it is gone."""
    return _actors.get(replica.replica_id)


def reset() -> None:
    """Forget everything: Serve was shut down, or the session is over."""
    global _router, _targets
    with _lock:
        old, _router = _router, Router(starved=_starved)
        _targets = None
        _actors.clear()
    old.update(Targets(2**62, (), {}, {}))  # whoever waits there learns that his deployment is gone


def _feed() -> None:
    """Take over what is published, and follow it from now on, in a thread; nothing happens without a session."""
    global _feeding
    if not core.is_initialized():
        return
    published = kv.get(TARGETS_KEY)
    if published is not None:
        update(msgspec.msgpack.decode(published.value, type=Targets))
    session = core.get_runtime_context().get_session_name()
    with _lock:
        if _feeding == session:
            return
        _feeding = session
    threading.Thread(target=_follow, args=(kv.watch(TARGETS_KEY), session), name="serve-targets", daemon=True).start()


def _follow(changes: kv.Watch, session: str) -> None:
    """Take over publications until the session ends."""
    global _feeding
    try:
        for change in changes:
            if change.value is None:
                reset()
            else:
                update(msgspec.msgpack.decode(change.value, type=Targets))
    except RayError:
        logger.debug("the session is over, and its publications with it")
    with _lock:
        over = _feeding == session
        if over:
            _feeding = ""
    if over:
        reset()


def _find(info: ReplicaInfo, known: dict[str, Any]) -> Any | None:
    if info.replica_id in known:
        return known[info.replica_id]
    try:
        return core.get_actor(info.actor_name, namespace=NAMESPACE)
    except ValueError:  # it died since
        return None
