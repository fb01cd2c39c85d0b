"""Results as they come: ``as_completed`` and ``map_unordered``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import core
from core.refs import ObjectRef


def as_completed(
    refs: Sequence[ObjectRef[Any]], *, chunk_size: int = 10, yield_obj_refs: bool = False, **wait_options: Any
) -> Iterator[Any]:
    """Yield results as they become available, whatever the order of ``refs``.

    Args:
        refs: what to wait for.
        chunk_size: how many results to wait for in one step; 1 gives each as soon as it is there.
        yield_obj_refs: yield the references instead of their values.
        **wait_options: passed to ``core.wait`` (``timeout`` in seconds for each step, ``fetch_local``).

    Raises:
        ValueError: ``chunk_size`` is below 1, or ``num_returns`` is given.
    """
    _check_chunk_size(chunk_size, wait_options)
    return _drain(list(refs), chunk_size, yield_obj_refs, wait_options)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """Apply a remote function to every item; yield results as they become available.

    Args:
        fn: a remote function of one argument.
        items: read as results are taken, so it may be endless.
        backpressure_size: how many tasks may be under way at once; None for no limit.
        chunk_size: how many results to wait for when that many are under way.
        yield_obj_refs: yield the references instead of their values.
        **wait_options: passed to ``core.wait`` (``timeout`` in seconds for each step, ``fetch_local``).

    Raises:
        ValueError: a size is below 1, or ``num_returns`` is given.
    """
    if not callable(getattr(fn, "remote", None)):
        raise TypeError(f"map_unordered() takes a remote function, got {type(fn).__name__}: {fn!r}")
    if backpressure_size is not None and backpressure_size <= 0:
        raise ValueError("backpressure_size must be positive.")
    _check_chunk_size(chunk_size, wait_options)
    return _map(fn, items, backpressure_size, chunk_size, yield_obj_refs, wait_options)


def _check_chunk_size(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be >= 1")
    if "num_returns" in wait_options:
        raise ValueError("Use the `chunk_size` argument instead of `num_returns`.")


def _map(
    fn: Any, items: Iterable[Any], limit: int | None, chunk_size: int, as_refs: bool, wait_options: dict[str, Any]
) -> Iterator[Any]:
    refs: list[ObjectRef[Any]] = []
    for item in items:
        refs.append(fn.remote(item))
        if limit is not None and len(refs) >= limit:
            ready, refs = _step(refs, chunk_size, wait_options)
            yield from _values(ready, as_refs)
    yield from _drain(refs, chunk_size, as_refs, wait_options)


def _drain(refs: list[ObjectRef[Any]], chunk_size: int, as_refs: bool, wait_options: dict[str, Any]) -> Iterator[Any]:
    while refs:
        ready, refs = _step(refs, chunk_size, wait_options)
        yield from _values(ready, as_refs)


def _step(
    refs: list[ObjectRef[Any]], chunk_size: int, wait_options: dict[str, Any]
) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
    ready, unready = core.wait(refs, num_returns=min(chunk_size, len(refs)), **wait_options)
    return ready, unready


def _values(ready: list[ObjectRef[Any]], as_refs: bool) -> Iterable[Any]:
    values: Iterable[Any] = ready if as_refs else core.get(ready)
    return values
