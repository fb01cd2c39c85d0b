"""Brings about in a replica which models are wanted, by the user's loader, while requests go on."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from dataclasses import dataclass
from typing import Any

from core.util import kv
from serve.model_control import wanted
from serve.model_control.wanted import Wanted
from serve.multiplex.cache import ModelCache
from serve.multiplex.decorator import CACHES_ATTRIBUTE
from serve.specs import DeploymentID


@dataclass(frozen=True)
class Standing:
    """Where a model stands in one replica."""

    #: ``LOADING``, ``READY``, ``UNLOADING``, ``UNAVAILABLE``
    state: str
    #: why it is not there: the loader's traceback
    reason: str = ""


class ModelKeeper:
    """See the module's docstring.

    Args:
        deployment: of the replica.
        cache: what loads and keeps the models.
    """

    def __init__(self, deployment: DeploymentID, cache: ModelCache) -> None:
        self._cache = cache
        self._loop = asyncio.get_running_loop()
        self._watch = kv.watch(wanted.key_of(deployment))
        self._wanted: Wanted = {}
        #: model -> order that was carried out, and what went wrong
        self._done: dict[str, tuple[int, str]] = {}
        self._moved = asyncio.Condition()
        self._known = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._following = self._loop.create_task(self._follow())

    def wants(self, model_id: str) -> bool:
        """Tell whether a model is wanted by order."""
        return model_id in self._wanted

    def standings(self) -> dict[str, Standing]:
        """Return where each model stands that is loaded, wanted, or on its way."""
        return {name: self._missing(name) for name in self._wanted} | {
            name: Standing(str(state)) for name, state in self._cache.states().items()
        }

    def _missing(self, model_id: str) -> Standing:
        """Where a wanted model stands that the cache does not know."""
        order, reason = self._done.get(model_id, (0, ""))
        if order < self._wanted[model_id]:
            return Standing("LOADING")
        return Standing("UNAVAILABLE", reason or "others needed its room; the next request loads it again")

    async def settled(self, model_id: str, order: int) -> str:
        """Wait until an order is carried out (or a later one, or the model is not wanted any more).

        Returns:
            the loader's traceback; nothing if the model is loaded.
        """
        await self._known.wait()
        async with self._moved:
            await self._moved.wait_for(lambda: self._done.get(model_id, (0, ""))[0] >= order)
        return self._done[model_id][1]

    async def gone(self, model_id: str) -> None:
        """Wait until a model that is not wanted any more is unloaded."""
        async with self._moved:
            await self._moved.wait_for(lambda: model_id not in self._wanted)
        async with self._lock(model_id):
            return

    def close(self) -> None:
        """Watch no more."""
        self._watch.close()
        self._following.cancel()
        for task in self._tasks:
            task.cancel()

    def ask(self, method: str, *args: Any, timeout_s: float | None) -> Any:
        """Call one of the methods above from another thread: a replica cannot ask itself by a call of its actor.

        Raises:
            TimeoutError: it takes longer.
        """

        async def asked() -> Any:
            answer = getattr(self, method)(*args)
            return await answer if inspect.isawaitable(answer) else answer

        asking = asyncio.run_coroutine_threadsafe(asked(), self._loop)
        try:
            return asking.result(timeout_s)
        except TimeoutError:
            asking.cancel()
            raise

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for change in self._watch:
            before, self._wanted = self._wanted, wanted.decode(change.value)
            for model_id, order in self._wanted.items():
                if before.get(model_id) != order:
                    self._spawn(self._load(model_id, order))
            for model_id in before.keys() - self._wanted.keys():
                self._spawn(self._unload(model_id))
            self._known.set()
            async with self._moved:
                self._moved.notify_all()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lock(self, model_id: str) -> asyncio.Lock:
        return self._locks.setdefault(model_id, asyncio.Lock())

    async def _load(self, model_id: str, order: int) -> None:
        reason = ""
        async with self._lock(model_id):
            if self._wanted.get(model_id) == order:
                try:
                    await self._cache.load(model_id)
                except Exception as error:  # noqa: BLE001 - the user's loader
                    reason = report(error)
        self._done[model_id] = (order, reason)
        async with self._moved:
            self._moved.notify_all()

    async def _unload(self, model_id: str) -> None:
        async with self._lock(model_id):
            if model_id not in self._wanted:
                self._done.pop(model_id, None)
                await self._cache.unload(model_id)


def report(error: Exception) -> str:
    """Return an error with the traceback of the user's code: ours is above it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and "/serve/" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    return "".join(traceback.format_exception(error.with_traceback(trace))).rstrip()


_keeper: ModelKeeper | None = None


def keep(deployment: DeploymentID, instance: Any) -> ModelKeeper | None:
    """Begin to keep the models of this replica; None if its class has no loader, or several."""
    global _keeper
    marked = (
        getattr(inspect.getattr_static(type(instance), name), CACHES_ATTRIBUTE, None) for name in dir(type(instance))
    )
    loaders = [caches for caches in marked if caches is not None]
    _keeper = ModelKeeper(deployment, loaders[0].of(instance)) if len(loaders) == 1 else None
    return _keeper


def keeper() -> ModelKeeper | None:
    """Return the keeper of this replica; None if there is none."""
    return _keeper
