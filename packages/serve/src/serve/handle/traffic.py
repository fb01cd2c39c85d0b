"""Calls through handles while two revisions of an application share its requests.

What comes from outside goes where the weights say; what comes from a replica of the application stays within the
revision that its request went to. The sticky draw of a session is the same in every process.
"""

from __future__ import annotations

import random
import zlib
from typing import Any

import msgspec

from serve.context import RequestContext
from serve.handle import local_router
from serve.handle.router import Wish
from serve.specs import Full, RequestMeta, Split, Targets
from serve.state.routing import choose


def draw(app: str, session_id: str) -> float:
    """Return a number from 0 up to 1: at random, or always the same one for a session."""
    if session_id:
        return zlib.crc32(f"{app} {session_id}".encode()) / 2**32
    return random.random()  # noqa: S311 - load balancing


def direct(wish: Wish, meta: RequestMeta, targets: Targets, context: RequestContext) -> Wish:
    """Return a call's wish with the revision it goes to, and note that in what goes with the call.

    Args:
        wish: which deployment.
        meta: of the call; a ``revision`` in it is one that was asked for.
        targets: what the controller published.
        context: the request that the caller is answering.
    """
    app = wish.deployment.app
    splits = targets.splits.get(app)
    if not splits:
        return wish
    inside = context.revision if context.app_name == app else 0
    wanted = inside or meta.revision
    split = next((split for split in splits if split.revision == wanted), None) if wanted else None
    if split is None:
        split = choose(splits, context.headers, draw(app, meta.session_id))
    meta.revision = split.revision
    return _within(wish, split, splits)


def _within(wish: Wish, split: Split, splits: tuple[Split, ...]) -> Wish:
    """Aim a wish at a revision, whose ingress may have another name."""
    deployment = wish.deployment
    if deployment in {each.ingress for each in splits}:
        deployment = split.ingress
    return msgspec.structs.replace(wish, deployment=deployment, version=split.versions.get(deployment.name))


def cast_shadows(
    wish: Wish, meta: RequestMeta, targets: Targets, context: RequestContext, args: Any, kwargs: Any
) -> None:
    """Send copies of a call from outside where they are wanted, if there is a free replica; nobody gets the answers."""
    app = wish.deployment.app
    splits = targets.splits.get(app, ())
    if context.app_name == app and context.revision:
        return
    for split in splits:
        if split.shadow and not meta.stream:
            copy = msgspec.structs.replace(meta, revision=split.revision)
            _send_copy(_within(wish, split, splits), copy, args, kwargs)


def _send_copy(wish: Wish, meta: RequestMeta, args: Any, kwargs: Any) -> None:
    router = local_router.router()
    replica = router.try_acquire(wish)
    if replica is None:
        return
    actor = local_router.actor_of(replica)
    if actor is None:
        router.release(replica)
        return

    def answered(done: Any) -> None:
        refused = done.exception() is None and type(done.result()) is Full
        router.release(replica, refused=refused)

    actor.handle.remote(meta, *args, **kwargs).future().add_done_callback(answered)
