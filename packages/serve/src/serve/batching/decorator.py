"""``@serve.batch``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import math
import weakref
from collections.abc import Callable
from typing import Any

from serve.batching.batcher import Batcher, BatchOptions

#: items in a batch at most, where a target for the latency says how many are good
ADAPTIVE_MAX_BATCH_SIZE = 256


def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int | None = None,
    batch_wait_timeout_s: float | None = None,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], float] | None = None,
    *,
    target_latency_ms: float | None = None,
) -> Any:
    """Turn an asynchronous function of lists into one of single items, whose calls are collected into batches.

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
    ended. A function of several parameters gets a list for each. Items of different multiplexed models are never in
    one batch. A caller that goes away leaves the line, and a batch that nobody waits for any more is cancelled.

    At run time ``predict.set_max_batch_size(n)``, ``predict.set_batch_wait_timeout_s(s)``,
    ``predict.set_max_concurrent_batches(n)`` and ``predict.set_target_latency_ms(ms)`` change the options, from any
    thread; ``get_...`` of the same names return them.

    Args:
        _func: the function, when used bare.
        max_batch_size: items in a batch (or their size by `batch_size_fn`). Default: 10, or 256 with a target.
        batch_wait_timeout_s: seconds that an item waits for others. Default: 0.01, or what the target allows.
        max_concurrent_batches: batches that are worked on at a time.
        batch_size_fn: tells how large a list of items is, where that is not its length; an item that is larger than
            `max_batch_size` goes alone. Of a function of several parameters it sees the values of the first.
        target_latency_ms: milliseconds from call to result that 95 % of the calls should not exceed. How long batches
            take is learnt, and sizes and waiting times are chosen accordingly (`serve.batching.pace` says how). A
            generator's time counts to its end. More load than the function can bear at any size is beyond any target.

    Raises:
        TypeError: the function is not ``async``, or has parameters that make no lists.
        ValueError: an option has a wrong value.
    """
    adaptive = target_latency_ms is not None
    size = (ADAPTIVE_MAX_BATCH_SIZE if adaptive else 10) if max_batch_size is None else max_batch_size
    wait = (math.inf if adaptive else 0.01) if batch_wait_timeout_s is None else batch_wait_timeout_s
    options = BatchOptions(
        _positive("max_batch_size", size),
        _not_negative("batch_wait_timeout_s", wait),
        _positive("max_concurrent_batches", max_concurrent_batches),
        batch_size_fn,
        _milliseconds("target_latency_ms", target_latency_ms),
    )
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn is a function of a list of items, not {batch_size_fn!r}")

    def decorate(function: Callable[..., Any]) -> Any:
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            raise TypeError(f"@serve.batch needs an `async def` function, and {function!r} is none")
        return _wrap(function, options)

    return decorate if _func is None else decorate(_func)


def _wrap(function: Callable[..., Any], defaults: BatchOptions) -> Any:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    is_method = bool(parameters) and parameters[0].name == "self"
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        raise TypeError(f"{function.__qualname__} is batched, so it takes no *args or **kwargs; name its parameters")
    names = [each.name for each in parameters]
    if len(names) == is_method:
        raise TypeError(f"{function.__qualname__} is batched, so it takes at least one argument: the item")
    batchers = _Batchers(function, defaults, is_method=is_method)

    def batcher_and_values(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Batcher, tuple[Any, ...]]:
        if kwargs or len(args) != len(names):
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"{function.__qualname__}{signature} is batched, but called per item: {error}"
                ) from None
            bound.apply_defaults()
            args = tuple(bound.arguments[name] for name in names)
        return (batchers.of(args[0]), args[1:]) if is_method else (batchers.of(None), args)

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            batcher, values = batcher_and_values(args, kwargs)
            return batcher.stream(values)

    else:

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            batcher, values = batcher_and_values(args, kwargs)
            return await batcher.one(values)

    for name, check in _CHECKS.items():
        setattr(wrapper, f"set_{name}", functools.partial(batchers.change, name, check))
        setattr(wrapper, f"get_{name}", functools.partial(batchers.option, name))
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

    def option(self, name: str) -> Any:
        """Return an option."""
        return getattr(self._options, name)

    def change(self, name: str, check: Callable[[str, Any], Any], value: Any) -> None:
        """Change an option of the batchers there are and of those to come; may be called in any thread."""
        setattr(self._options, name, check(name, value))
        for loop, made in list(self._made.items()):
            for batcher in list(made.values()):
                with contextlib.suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(batcher.look)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._function, dataclasses.replace(self._options), self._is_method)


def _restore(function: Callable[..., Any], options: BatchOptions, is_method: bool) -> _Batchers:
    return _Batchers(function, options, is_method=is_method)


def _bound(function: Callable[..., Any], instance: Any) -> Callable[..., Any]:
    """Bind without keeping the instance alive."""
    weak = weakref.ref(instance)
    return lambda *lists: function(weak(), *lists)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is a whole number of at least 1, not {value!r}")
    return value


def _not_negative(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"{name} is a number of seconds, 0 or more, not {value!r}")
    return value


def _milliseconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} is a number of milliseconds above 0, or None, not {value!r}")
    return float(value)


#: options that change at run time, and how their values are checked
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "max_batch_size": _positive,
    "batch_wait_timeout_s": _not_negative,
    "max_concurrent_batches": _positive,
    "target_latency_ms": _milliseconds,
}
