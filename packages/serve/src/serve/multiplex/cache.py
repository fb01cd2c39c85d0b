"""The models that one loader has loaded in this replica, the least recently used thrown out first."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

_caches: weakref.WeakSet[ModelCache] = weakref.WeakSet()


class ModelCache:
    """Loads models by id and keeps so many.

    Args:
        load: the user's loader.
        limit: how many models to keep; -1 for any number.
    """

    def __init__(self, load: Callable[[str], Awaitable[Any]], limit: int) -> None:
        self._load = load
        self._limit = limit
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Any]] = {}
        self._room = asyncio.Lock()
        _caches.add(self)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The models that are loaded, the last used last."""
        return tuple(self._models)

    async def get(self, model_id: str) -> Any:
        """Return a model; it is loaded if it is not there, once for all who ask meanwhile."""
        if model_id in self._models:
            self._models.move_to_end(model_id)
            return self._models[model_id]
        loading = self._loading.get(model_id)
        if loading is None:
            loading = self._loading[model_id] = asyncio.get_running_loop().create_task(self._loaded(model_id))
            loading.add_done_callback(lambda _: self._loading.pop(model_id, None))
        return await asyncio.shield(loading)

    async def _loaded(self, model_id: str) -> Any:
        async with self._room:
            while 0 <= self._limit <= len(self._models):
                _, oldest = self._models.popitem(last=False)
                await _let_go(oldest)
                del oldest
            model = self._models[model_id] = await self._load(model_id)
            return model


def loaded_model_ids() -> tuple[str, ...]:
    """Return the models that are loaded in this process."""
    return tuple(itertools.chain.from_iterable(cache.model_ids for cache in _caches))


async def _let_go(model: Any) -> None:
    """Let a model's ``__del__`` run before the next is loaded; an asynchronous one is awaited."""
    finalizer = getattr(type(model), "__del__", None)
    if finalizer is not None and inspect.iscoroutinefunction(finalizer):
        await finalizer(model)
        with contextlib.suppress(AttributeError):  # it has run: Python need not call it again
            model.__class__ = type(type(model).__name__, (type(model),), {"__del__": lambda _: None})
