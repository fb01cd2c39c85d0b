"""The models that one loader has loaded in this replica, the least recently used thrown out first.

One model is loaded at a time, so that the memory for it is there: before it, a model that is too many is let go, and
its ``__del__`` has run. Requests for models that are loaded never wait for a load.

Who uses a model: a request, from asking for it until it ends. A model that must go waits for its users; of several, one
that nobody uses goes first, then the one used longest ago, which gets no new users meanwhile (they wait for it to be
loaded anew). A request that itself waits for another model counts as none of its users, because two such requests
would wait for each other; its model object lives on until it is dropped, as Python objects do.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import itertools
import logging
import weakref
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from serve.context import RequestContext, get_request_context
from serve.multiplex.finalizing import finalize, is_asynchronous

logger = logging.getLogger("serve")

_caches: weakref.WeakSet[ModelCache] = weakref.WeakSet()


class ModelState(enum.StrEnum):
    """Where a model stands in one replica."""

    LOADING = "LOADING"
    READY = "READY"
    #: waits for its users, or its ``__del__`` runs
    UNLOADING = "UNLOADING"


@dataclass
class CacheCounters:
    """What a cache has done since it was made."""

    loads: int = 0
    failed_loads: int = 0
    unloads: int = 0
    #: requests for a model that was there
    hits: int = 0


@dataclass(eq=False)
class _Entry:
    """A loaded model."""

    model: Any
    #: ids of the contexts of requests that use it
    users: set[int] = field(default_factory=set)


class ModelCache:
    """Loads models by id and keeps so many. Belongs to one event loop.

    Args:
        load: the user's loader.
        limit: how many models to keep; -1 for any number.
    """

    def __init__(self, load: Callable[[str], Awaitable[Any]], limit: int) -> None:
        self._load = load
        self._limit = limit
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Any]] = {}
        #: requests that wait for each model that is being loaded
        self._askers: dict[str, list[RequestContext]] = {}
        self._unloading: Counter[str] = Counter()
        #: ids of the contexts of requests that wait for a load, with how many models each waits for
        self._waiting: Counter[int] = Counter()
        self._room = asyncio.Lock()
        self._loop = weakref.ref(asyncio.get_running_loop())
        #: set whenever a model may have lost a user
        self._moved = asyncio.Event()
        self.counters = CacheCounters()
        _caches.add(self)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The models that are loaded, the last used last."""
        return tuple(self._entries)

    def states(self) -> dict[str, ModelState]:
        """Return where each model stands that is loaded, being loaded, or being let go."""
        return {
            **dict.fromkeys(self._unloading, ModelState.UNLOADING),
            **dict.fromkeys(self._entries, ModelState.READY),
            **dict.fromkeys(self._loading, ModelState.LOADING),
        }

    async def get(self, model_id: str) -> Any:
        """Return a model for the current request; it is loaded if it is not there, once for all who ask meanwhile."""
        context = get_request_context()
        entry = self._entries.get(model_id)
        if entry is None:
            return await self._wait_for(model_id, context)
        self._entries.move_to_end(model_id)
        self.counters.hits += 1
        self._use(entry, context)
        return entry.model

    async def load(self, model_id: str) -> None:
        """Load a model unless it is there."""
        if model_id not in self._entries:
            await self._wait_for(model_id, get_request_context())

    async def unload(self, model_id: str) -> bool:
        """Let a model go, once its users have ended; False if it is not loaded."""
        entry = self._entries.pop(model_id, None)
        if entry is None:
            return False
        await self._retire(model_id, entry)
        return True

    async def unload_all(self) -> None:
        """Let all models go, their users or not: the replica ends."""
        while self._entries:
            model_id, entry = self._entries.popitem(last=False)
            entry.users.clear()
            await self._retire(model_id, entry)

    # -- users --------------------------------------------------------------------------------------------------------

    def _use(self, entry: _Entry, context: RequestContext) -> None:
        user = id(context)
        if not context.request_id or user in entry.users:  # outside of requests nobody says when a use ends
            return
        entry.users.add(user)
        release = weakref.finalize(context, self._release, entry, user)
        release.atexit = False
        context.at_end.append(release)

    def _release(self, entry: _Entry, user: int) -> None:
        """A request ended. May run in any thread, wherever its record is dropped."""
        entry.users.discard(user)
        loop = self._loop()
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it was closed
                loop.call_soon_threadsafe(self._moved.set)

    def _is_idle(self, entry: _Entry) -> bool:
        return not (entry.users - self._waiting.keys())

    # -- loading and letting go ---------------------------------------------------------------------------------------

    async def _wait_for(self, model_id: str, context: RequestContext) -> Any:
        loading = self._loading.get(model_id)
        if loading is None:
            loading = self._loading[model_id] = asyncio.get_running_loop().create_task(self._loaded(model_id))
            loading.add_done_callback(lambda done: self._forget(model_id, done))
            self._askers[model_id] = []
        askers = self._askers[model_id]
        askers.append(context)
        self._waiting[id(context)] += 1
        self._moved.set()
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if context in askers:
                askers.remove(context)
                self._waits_no_more(context)
            raise

    def _waits_no_more(self, context: RequestContext) -> None:
        self._waiting[id(context)] -= 1
        self._waiting += Counter()  # drops those at zero

    def _forget(self, model_id: str, done: asyncio.Task[Any]) -> None:
        self._loading.pop(model_id, None)
        if not done.cancelled() and done.exception() is not None:  # whoever still waits gets it
            self.counters.failed_loads += 1

    async def _loaded(self, model_id: str) -> Any:
        entry: _Entry | None = None
        async with self._room:
            try:
                while 0 <= self._limit <= len(self._entries):
                    victim = self._victim()
                    await self._retire(victim, self._entries.pop(victim))
                self.counters.loads += 1
                model = await self._load(model_id)
                entry = self._entries[model_id] = _Entry(model)
                return model
            finally:  # before anybody else may look for a model to let go
                askers = self._askers.pop(model_id)
                for context in askers:
                    self._waits_no_more(context)
                    if entry is not None:
                        self._use(entry, context)
                askers.clear()

    def _victim(self) -> str:
        idle = (model_id for model_id, entry in self._entries.items() if self._is_idle(entry))
        return next(idle, None) or next(iter(self._entries))

    async def _retire(self, model_id: str, entry: _Entry) -> None:
        """Let a model go that is not among the entries any more."""
        self._unloading[model_id] += 1
        try:
            while not self._is_idle(entry):
                self._moved.clear()
                await self._moved.wait()
            await _let_go(entry)
            self.counters.unloads += 1
        finally:
            self._unloading[model_id] -= 1
            self._unloading += Counter()


def caches() -> list[ModelCache]:
    """Return the caches of all loaders in this process."""
    return list(_caches)


def loaded_model_ids() -> tuple[str, ...]:
    """Return the models that are loaded in this process."""
    return tuple(itertools.chain.from_iterable(cache.model_ids for cache in caches()))


async def unload_all_models() -> None:
    """Let all models of this process go: the replica ends."""
    for cache in caches():
        await cache.unload_all()


async def _let_go(entry: _Entry) -> None:
    """Drop a model, and let its ``__del__`` run: an asynchronous one here, another in a thread; it may be slow."""
    if is_asynchronous(entry.model):
        try:
            await finalize(entry.model)
        except Exception:  # the user's; another model's request must not fail for it
            logger.exception("__del__ of a %s that was let go raised", type(entry.model).__name__)
        entry.model = None
    elif hasattr(type(entry.model), "__del__"):
        await asyncio.to_thread(_drop, entry)
    else:
        entry.model = None


def _drop(entry: _Entry) -> None:
    try:
        model = weakref.ref(entry.model)
    except TypeError:  # of a class with slots: it has no cycles to speak of
        entry.model = None
        return
    entry.model = None
    if model() is not None and not entry.users:  # refers to itself, most likely: its memory is wanted for the next one
        gc.collect()
