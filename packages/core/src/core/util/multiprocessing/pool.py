"""A pool of worker processes with the interface of ``multiprocessing.Pool``."""

from __future__ import annotations

import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self

import core
from core.argument_checks import whole_number
from core.refs import ObjectRef
from core.util.joining import join_session
from core.util.multiprocessing.crew import Crew, CrewOptions, Job
from core.util.multiprocessing.results import AsyncResult, IMapIterator
from core.util.multiprocessing.worker import Call, Outcome

#: How many pickled functions a pool remembers.
_MAX_FUNCTIONS = 32


class Pool:
    """Drop-in for ``multiprocessing.Pool``; the processes are actors, so they may be on any node.

    Args:
        processes: how many; default: as many as the session has CPUs. Each holds one CPU until the pool is closed.
        initializer: called with ``initargs`` when a process starts.
        initargs: its arguments.
        maxtasksperchild: after so many tasks (chunks of a ``map`` count as one) a process is replaced.
        context: accepted for compatibility; without effect.
        ray_address: the session to join if none runs in this process yet; default: start one of ``processes`` CPUs.
        ray_remote_args: actor options of the processes, for example ``{"num_gpus": 1}``.

    Raises:
        ValueError: ``processes`` is below 1 or above the number of CPUs.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        processes = None if processes is None else whole_number("processes", processes)
        if maxtasksperchild is not None and whole_number("maxtasksperchild", maxtasksperchild) <= 0:
            raise ValueError("maxtasksperchild must be a positive int or None")
        if context is not None:
            warnings.warn("the 'context' argument of Pool has no effect here", stacklevel=2)
        size = _size(processes, ray_address)
        options = CrewOptions(size, initializer, tuple(initargs or ()), maxtasksperchild, dict(ray_remote_args or {}))
        self._crew = Crew(options)
        self._closed = False
        #: functions sent lately, by identity: (function, its pickle in the store)
        self._functions: OrderedDict[int, tuple[Any, ObjectRef[Any]]] = OrderedDict()
        self._finalizer = weakref.finalize(self, self._crew.terminate)

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        kwds: dict[str, Any] | None = None,
    ) -> Any:
        """Return ``func(*args, **kwargs)``, called in a process of the pool (arguments as in :meth:`apply_async`)."""
        return self.apply_async(func, args, kwargs, kwds=kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        kwds: dict[str, Any] | None = None,
    ) -> AsyncResult:
        """Call ``func(*args, **kwargs)`` in a process of the pool; return a handle to the result at once.

        Args:
            func: what to call.
            args: its positional arguments.
            kwargs: its keyword arguments.
            callback: called with the result, in the pool's thread.
            error_callback: called with the error instead if there is one.
            kwds: the standard library's name for ``kwargs``.
        """
        self._check_running()
        result = AsyncResult(self, 1, single=True, callback=callback, error_callback=error_callback)
        call = (tuple(args or ()), {**(kwargs or {}), **(kwds or {})})
        self._crew.submit(Job(self._put_function(func), [call], partial(result.deliver, 0)))
        return result

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Return ``[func(item) for item in iterable]``, computed in the pool.

        Args:
            func: what to call.
            iterable: its arguments; read at once.
            chunksize: how many items go to a process at a time; default: a quarter of each process's share.
        """
        values: list[Any] = self.map_async(func, iterable, chunksize).get()
        return values

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Like :meth:`map`, but return a handle to the result at once (callbacks as in :meth:`apply_async`)."""
        calls: list[Call] = [((item,), {}) for item in iterable]
        return self._map_async(func, calls, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Return ``[func(*args) for args in iterable]``, computed in the pool."""
        values: list[Any] = self.starmap_async(func, iterable, chunksize).get()
        return values

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Like :meth:`starmap`, but return a handle to the result at once."""
        calls: list[Call] = [(tuple(args), {}) for args in iterable]
        return self._map_async(func, calls, chunksize, callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Return an iterator over ``func(item)`` in order; the input is read only as results are taken."""
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Like :meth:`imap`, but each result comes as soon as it is there."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def close(self) -> None:
        """Accept no more work; the processes leave when what was submitted is done."""
        if not self._closed:
            self._closed = True
            self._functions.clear()
            self._crew.close()

    def terminate(self) -> None:
        """End the processes now. Results that are not there yet raise ``RuntimeError``."""
        self._closed = True
        self._functions.clear()
        self._crew.terminate()

    def join(self) -> None:
        """Wait until all processes are gone.

        Raises:
            ValueError: neither ``close`` nor ``terminate`` was called before.
        """
        if not self._closed:
            raise ValueError("Pool is still running")
        self._crew.finished.wait()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *_error: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        if self._closed:
            raise ValueError("Pool not running")

    def _map_async(
        self,
        func: Callable[..., Any],
        calls: list[Call],
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> AsyncResult:
        self._check_running()
        if chunksize is None:
            chunksize = -(-len(calls) // (self._crew.options.size * 4)) or 1
        _check_chunksize(chunksize)
        starts = range(0, len(calls), chunksize)
        result = AsyncResult(self, len(starts), single=False, callback=callback, error_callback=error_callback)
        function = self._put_function(func)
        for index, start in enumerate(starts):
            self._crew.submit(Job(function, calls[start : start + chunksize], partial(result.deliver, index)))
        return result

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, *, ordered: bool
    ) -> IMapIterator:
        self._check_running()
        _check_chunksize(chunksize)
        make_job: Callable[[list[Call], Callable[[Sequence[Outcome]], None]], Job]
        make_job = partial(Job, self._put_function(func))
        return IMapIterator(self._crew, make_job, iterable, chunksize, ordered=ordered, owner=self)

    def _put_function(self, func: Callable[..., Any]) -> ObjectRef[Any]:
        """Return a reference to the pickled function; plain functions are pickled once, not once per call."""
        # Others may hold state that changes from call to call: a bound method's object, a closure's variables.
        if not isinstance(func, types.FunctionType) or func.__closure__:
            stored: ObjectRef[Any] = core.put(func)
            return stored
        known = self._functions.get(id(func))
        if known is None:
            known = self._functions[id(func)] = (func, core.put(func))
            if len(self._functions) > _MAX_FUNCTIONS:
                self._functions.popitem(last=False)
        return known[1]


def _check_chunksize(chunksize: int) -> None:
    if whole_number("chunksize", chunksize) < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")


def _size(processes: int | None, address: str | None) -> int:
    """Return the number of processes to start, in a session that runs."""
    if processes is not None and processes < 1:
        raise ValueError("Processes in the pool must be >0.")
    cpus = join_session(processes, address)
    if processes is not None and processes > cpus:
        raise ValueError(f"Tried to start a pool with {processes} processes, but there are only {cpus} CPUs.")
    return processes or max(cpus, 1)
