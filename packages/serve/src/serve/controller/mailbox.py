"""Orders to the controller from any process of the session, by way of the control store.

An order is a key; so it waits there while no controller runs, and a restarted one carries out what its predecessor did
not finish (at least once: a deploy in whose midst the controller dies may count as two revisions of the same content,
which changes nothing that runs). The answer is a key, too. Whoever gives up waiting takes his order back.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
import time
import uuid
from collections.abc import Callable
from typing import Any

import cloudpickle

from core.exceptions import RayError
from core.util import kv
from serve.controller import chunks
from serve.errors import RayServeException
from serve.specs import ANSWER_PREFIX, ORDER_PREFIX

logger = logging.getLogger("serve")

#: seconds between two looks at whether there still is a controller
LOOK_S = 1.0
#: seconds after which an answer that nobody has taken is thrown away
KEPT_S = 60.0
_ARGUMENTS = "serve/arguments/"
_RESULT = "serve/result/"


def ask(method: str, args: tuple[Any, ...], options: dict[str, Any], alive: Callable[[], bool]) -> Any:
    """Have the controller run one of its methods, and return the result.

    Args:
        method: name of a coroutine function of `Controller`.
        args: for it.
        options: keyword arguments for it.
        alive: tells whether there is a controller, or will be again.

    Raises:
        RayServeException: there is none any more.
    """
    # the time first, so that orders are carried out in their order
    identifier = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
    chunks.put(_ARGUMENTS + identifier, cloudpickle.dumps((method, args, options)))
    try:
        with kv.watch(ANSWER_PREFIX + identifier) as answers:
            kv.put(ORDER_PREFIX + identifier, b"")
            while answers.poll(LOOK_S) is None:
                if not alive():
                    raise RayServeException("Serve was shut down before it could answer")
        succeeded, result = pickle.loads(chunks.get(_RESULT + identifier))
    finally:
        kv.delete(ORDER_PREFIX + identifier)
        kv.delete(ANSWER_PREFIX + identifier)
        chunks.delete(_ARGUMENTS + identifier)
        chunks.delete(_RESULT + identifier)
    if not succeeded:
        raise result
    return result


class Orders:
    """Carries out what is asked for. All methods run on the controller's event loop.

    Args:
        controller: whose methods are run.
    """

    def __init__(self, controller: object) -> None:
        self._controller = controller
        self._watch = kv.watch(ORDER_PREFIX)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Take no more orders; those at hand are finished."""
        self._running.cancel()
        self._watch.close()

    def abandon(self) -> None:
        """Take no more orders, without a session to talk to."""
        self._running.cancel()
        for task in self._tasks.values():
            task.cancel()

    async def _run(self) -> None:
        try:
            async for change in self._watch:
                if change.value is not None:
                    task = asyncio.get_running_loop().create_task(self._carry_out(change.key))
                    self._tasks[change.key] = task
                    task.add_done_callback(functools.partial(self._ended, change.key))
                elif change.key in self._tasks:
                    self._tasks[change.key].cancel()  # nobody waits any more
        except RayError:
            logger.debug("the session is over, so nobody orders anything")

    def _ended(self, key: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)

    async def _carry_out(self, key: str) -> None:
        identifier = key.removeprefix(ORDER_PREFIX)
        try:
            data = chunks.get(_ARGUMENTS + identifier)
            if not data:  # taken back
                return
            answer = await self._answer(data)
            chunks.put(_RESULT + identifier, answer)
            del self._tasks[key]  # the order goes because it is done
            kv.delete(key)
            kv.put(ANSWER_PREFIX + identifier, b"")
            asyncio.get_running_loop().call_later(KEPT_S, _throw_away, identifier)
        except RayError:
            logger.exception("an order could not be answered")

    async def _answer(self, data: bytes) -> bytes:
        try:
            method, args, options = pickle.loads(data)
            outcome = True, await getattr(self._controller, method)(*args, **options)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            outcome = False, error
        try:
            return bytes(cloudpickle.dumps(outcome))
        except Exception as error:  # noqa: BLE001 - whatever pickling raises
            return bytes(pickle.dumps((False, RayServeException(f"the answer cannot be sent: {error}"))))


def _throw_away(identifier: str) -> None:
    try:
        if kv.delete(ANSWER_PREFIX + identifier):
            chunks.delete(_RESULT + identifier)
    except RayError:  # the session is over
        logger.debug("an answer nobody has taken went with the session")
