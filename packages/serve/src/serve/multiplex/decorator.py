"""``@serve.multiplexed``."""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

from serve.context import get_multiplexed_model_id
from serve.multiplex.cache import ModelCache

#: attribute of a decorated loader: its caches, for who loads and unloads by order (`serve.model_control`)
CACHES_ATTRIBUTE = "__serve_model_caches__"


def multiplexed(func: Callable[..., Any] | None = None, /, *, max_num_models_per_replica: int = 3) -> Any:
    """Turn an asynchronous loader of a model into one that remembers the models it loaded.

    ::

        @serve.deployment
        class Models:
            @serve.multiplexed(max_num_models_per_replica=10)
            async def get_model(self, model_id: str):
                return load(model_id)

            async def __call__(self, request):
                model = await self.get_model(serve.get_multiplexed_model_id())

    Requests name their model by ``handle.options(multiplexed_model_id=...)`` or the header
    ``serve_multiplexed_model_id``, and go to a replica that holds it if there is one with room.

    Args:
        func: the loader, when used bare.
        max_num_models_per_replica: models to keep; beyond them the least recently used is dropped. -1 for any number.

    Raises:
        TypeError: the loader is not ``async``, or does not take one model id.
        ValueError: the number is wrong.
    """
    limit = max_num_models_per_replica
    if type(limit) is not int or (limit < 1 and limit != -1):
        raise ValueError(f"max_num_models_per_replica is a whole number of at least 1, or -1 for any, not {limit!r}")

    def decorate(function: Callable[..., Any]) -> Any:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"@serve.multiplexed needs an `async def` function, and {function!r} is none")
        return _wrap(function, limit)

    return decorate if func is None else decorate(func)


def _wrap(function: Callable[..., Any], limit: int) -> Any:
    parameters = list(inspect.signature(function).parameters)
    is_method = bool(parameters) and parameters[0] == "self"
    if len(parameters) != 1 + is_method:
        raise TypeError(f"{function.__qualname__} is multiplexed, so it takes one argument: the model id")
    caches = _Caches(function, limit, is_method=is_method)

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        instance = given.pop(0) if is_method else None
        model_id = given[0] if given else get_multiplexed_model_id()
        if not isinstance(model_id, str) or not model_id:
            raise ValueError(f"{function.__qualname__} needs the id of a model, a str that is not empty: {model_id!r}")
        return await caches.of(instance).get(model_id)

    setattr(wrapper, CACHES_ATTRIBUTE, caches)
    return wrapper


class _Caches:
    """The caches of one loader: one for each instance."""

    def __init__(self, function: Callable[..., Any], limit: int, *, is_method: bool) -> None:
        self._function = function
        self._limit = limit
        self._is_method = is_method
        self._made: weakref.WeakKeyDictionary[Any, dict[int, ModelCache]] = weakref.WeakKeyDictionary()

    def of(self, instance: Any) -> ModelCache:
        """Return the cache of an instance (None for a function's) on the running loop."""
        made = self._made.setdefault(asyncio.get_running_loop(), {})
        cache = made.get(id(instance))
        if cache is None:
            load = self._function
            if self._is_method:
                weak = weakref.ref(instance)
                weakref.finalize(instance, made.pop, id(instance), None)
                load = lambda model_id: self._function(weak(), model_id)  # noqa: E731 - as the other branch
            cache = made[id(instance)] = ModelCache(load, self._limit)
        return cache

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._function, self._limit, self._is_method)


def _restore(function: Callable[..., Any], limit: int, is_method: bool) -> _Caches:
    return _Caches(function, limit, is_method=is_method)
