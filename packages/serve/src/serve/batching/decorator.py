"""``@serve.batch``."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

from serve.batching.batcher import Batcher, BatchOptions


def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], float] | None = None,
) -> Any:
    """Turn an asynchronous function of a list into one of a single item, whose calls are collected into batches.

    ::

        @serve.deployment
        class Model:
            @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
            async def predict(self, rows: list[list[float]]) -> list[float]:
                return self.model.predict(rows).tolist()

            async def __call__(self, request) -> float:
                return await self.predict(await request.json())

    The function returns one result for each item, in order. An exception object among the results is raised for its
    item alone. An asynchronous generator yields such lists, and ``StopIteration`` in place of an item whose stream has
    ended.
    ``predict.set_max_batch_size(n)`` and ``predict.set_batch_wait_timeout_s(s)`` change the options at run time.

    Args:
        _func: the function, when used bare.
        max_batch_size: items in a batch (or their size by `batch_size_fn`).
        batch_wait_timeout_s: seconds that an item waits for others.
        max_concurrent_batches: batches that are worked on at a time.
        batch_size_fn: tells how large a list of items is, where that is not its length.

    Raises:
        TypeError: the function is not ``async``.
        ValueError: an option has a wrong value.
    """
    options = BatchOptions(
        _positive("max_batch_size", max_batch_size),
        _not_negative("batch_wait_timeout_s", batch_wait_timeout_s),
        _positive("max_concurrent_batches", max_concurrent_batches),
        batch_size_fn,
    )

    def decorate(function: Callable[..., Any]) -> Any:
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            raise TypeError(f"@serve.batch needs an `async def` function, and {function!r} is none")
        return _wrap(function, options)

    return decorate if _func is None else decorate(_func)


def _wrap(function: Callable[..., Any], defaults: BatchOptions) -> Any:
    parameters = list(inspect.signature(function).parameters)
    is_method = bool(parameters) and parameters[0] == "self"
    batchers = _Batchers(function, defaults, is_method=is_method)
    expected = 2 if is_method else 1

    def batcher_and_item(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Batcher, Any]:
        given = [*args, *kwargs.values()]
        if len(given) != expected:
            raise TypeError(f"{function.__qualname__} is batched, so it takes one argument: the item")
        return batchers.of(given[0] if is_method else None), given[-1]

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            batcher, item = batcher_and_item(args, kwargs)
            return batcher.stream(item)

    else:

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            batcher, item = batcher_and_item(args, kwargs)
            return await batcher.one(item)

    changeable: Any = wrapper
    changeable.set_max_batch_size = lambda value: batchers.change(max_batch_size=_positive("max_batch_size", value))
    changeable.set_batch_wait_timeout_s = lambda value: batchers.change(
        batch_wait_timeout_s=_not_negative("batch_wait_timeout_s", value)
    )
    return wrapper


class _Batchers:
    """The batchers of one decorated function: one for each instance and event loop."""

    def __init__(self, function: Callable[..., Any], options: BatchOptions, *, is_method: bool) -> None:
        self._function = function
        self._options = options
        self._is_method = is_method
        self._made: weakref.WeakKeyDictionary[Any, dict[int, Batcher]] = weakref.WeakKeyDictionary()

    def of(self, instance: Any) -> Batcher:
        """Return the batcher of an instance (None for a function's) on the running loop."""
        made = self._made.setdefault(asyncio.get_running_loop(), {})
        key = id(instance)
        batcher = made.get(key)
        if batcher is None:
            function = self._function if not self._is_method else _bound(self._function, instance)
            batcher = made[key] = Batcher(function, self._function.__qualname__, self._options)
            if self._is_method:
                weakref.finalize(instance, made.pop, key, None)
        return batcher

    def change(self, **changes: Any) -> None:
        """Change options of the batchers there are and of those to come."""
        for name, value in changes.items():
            setattr(self._options, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._function, dataclasses.replace(self._options), self._is_method)


def _restore(function: Callable[..., Any], options: BatchOptions, is_method: bool) -> _Batchers:
    return _Batchers(function, options, is_method=is_method)


def _bound(function: Callable[..., Any], instance: Any) -> Callable[[list[Any]], Any]:
    """Bind without keeping the instance alive."""
    weak = weakref.ref(instance)
    return lambda items: function(weak(), items)


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is a whole number of at least 1, not {value!r}")
    return value


def _not_negative(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"{name} is a number of seconds, 0 or more, not {value!r}")
    return value
