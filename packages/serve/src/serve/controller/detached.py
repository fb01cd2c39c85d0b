"""The controller as an actor of its own, which outlives who started it, and is started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

import core
from core.util import kv
from serve.config import GRPCOptions, HTTPOptions
from serve.controller.controller import Controller
from serve.controller.mailbox import ask
from serve.controller.replicas import LOOP, find_actor
from serve.specs import CONTROLLER_KEY, CONTROLLER_NAME, NAMESPACE

logger = logging.getLogger("serve")

#: seconds before a controller that cannot take over is started again
RETRY_S = 1.0
#: seconds that the actor has to be gone
END_S = 10.0
#: what `CONTROLLER_KEY` holds: where the controller runs
THREAD, ACTOR = b"thread", b"actor"


class ServeController:
    """The actor. Everything it does is ordered by `serve.controller.mailbox`.

    Args:
        options: of HTTP.
        grpc_options: of gRPC; None serves none.
    """

    def __init__(self, options: HTTPOptions, grpc_options: GRPCOptions | None) -> None:
        self._controller: Controller | None = None
        self._begun = asyncio.get_event_loop().create_task(self._begin(options, grpc_options))

    async def _begin(self, options: HTTPOptions, grpc_options: GRPCOptions | None) -> None:
        try:
            self._controller = Controller(options, grpc_options)
            await self._controller.begin()
        except Exception:  # the outermost shell of the process: it is started again
            logger.exception("the controller cannot take over; it tries again")
            await asyncio.sleep(RETRY_S)
            os._exit(1)

    async def ready(self) -> int:
        """Wait until it acts, and return its process id."""
        await asyncio.shield(self._begun)
        return os.getpid()


class RemoteController:
    """A controller in another process of the session, or in an actor."""

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Run a method of the controller, and return its result. An interrupt (Ctrl-C) takes the order back.

        Args:
            method: name of a coroutine function of `Controller`.
            *args: for it.
            **options: for it.

        Raises:
            RayServeException: there is no controller any more.
        """
        return ask(method, args, options, is_alive)

    def close(self, *, session_over: bool = False) -> None:
        """End Serve.

        Args:
            session_over: there is no session any more, so nothing is left to end.
        """
        if session_over:
            return
        self.call("shutdown")
        actor = find_actor(CONTROLLER_NAME)
        if actor is not None:
            core.kill(actor)
            deadline = time.monotonic() + END_S
            while find_actor(CONTROLLER_NAME) is not None and time.monotonic() < deadline:
                time.sleep(0.01)
        kv.delete(CONTROLLER_KEY)


def is_alive() -> bool:
    """Tell whether there is a controller in this session, or will be again when it has been restarted."""
    entry = kv.get(CONTROLLER_KEY)
    return entry is not None and (entry.value == THREAD or find_actor(CONTROLLER_NAME) is not None)


def start_detached(options: HTTPOptions, grpc_options: GRPCOptions | None) -> RemoteController:
    """Start a controller as an actor, unless there is one, and wait until it acts."""
    actor_class = core.remote(ServeController).options(
        name=CONTROLLER_NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
        num_cpus=0,
        runtime_env={"env_vars": LOOP},
    )
    actor = actor_class.remote(options, grpc_options)
    core.get(actor.ready.remote())
    kv.put(CONTROLLER_KEY, ACTOR)
    return RemoteController()
