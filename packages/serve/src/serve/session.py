"""The session that Serve starts when there is none.

It keeps no idle workers (replicas and proxies have an environment of their own, so they could not use them) and has
imported what replicas and proxies need before their processes are forked: that is done while the driver imports the
application, it makes another replica a matter of milliseconds, and all of them share the memory of it.
"""

from __future__ import annotations

import core

#: what every replica and proxy imports; uvicorn finds its parts by their names, so nobody else does
PRELOADED = (
    "serve.replica.actor",
    "serve.proxy.actor",
    "fastapi",
    "uvloop",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
)


#: what a controller imports that is an actor, and that is to be back soon when it dies
CONTROLLER = "serve.controller.detached"


def ensure(*, detached: bool = False) -> None:
    """Start a session unless there is one.

    Args:
        detached: the controller will be an actor.
    """
    if not core.is_initialized():
        core.init(_prestarted_workers=0, _preloaded_modules=(*PRELOADED, *([CONTROLLER] if detached else [])))
