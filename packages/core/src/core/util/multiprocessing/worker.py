"""What runs inside a pool's worker processes."""

from __future__ import annotations

import pickle
import traceback
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle

import core
from core.refs import ObjectRef

#: One call: positional and keyword arguments.
Call = tuple[tuple[Any, ...], dict[str, Any]]

#: How many functions a worker keeps loaded.
_MAX_FUNCTIONS = 32


class Outcome(NamedTuple):
    """How one call ended."""

    value: Any = None
    error: BaseException | None = None
    #: the traceback in the worker, as text
    traceback: str = ""


class PoolWorker:
    """The actor behind one process of a pool.

    Functions arrive as references to their pickles and stay loaded, so that a function's module-level state lives from
    call to call, as in a forked process.
    """

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self._functions: OrderedDict[ObjectRef[Any], Callable[..., Any]] = OrderedDict()
        self._globals = Initialised(initializer, initargs)

    def run(self, boxed_function: list[ObjectRef[Any]], calls: list[Call]) -> list[Outcome]:
        """Call the function once per element of ``calls``.

        It comes boxed so that the engine does not load it anew each time.
        """
        function = self._function(boxed_function[0])
        return [_outcome(function, args, kwargs) for args, kwargs in calls]

    def _function(self, ref: ObjectRef[Any]) -> Callable[..., Any]:
        function = self._functions.get(ref)
        if function is None:
            function = core.get(ref)
            self._globals.share_with(function)
            self._functions[ref] = function
            if len(self._functions) > _MAX_FUNCTIONS:
                self._functions.popitem(last=False)
        self._functions.move_to_end(ref)
        return function


class Initialised:
    """Runs an initializer and remembers which globals it set.

    A function of the driver's ``__main__`` is pickled by value, with globals of its own: what an initializer assigns
    with ``global`` would be invisible to it, although programs written for ``multiprocessing`` rely on just that.
    """

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self._module = ""
        self._assigned: dict[str, Any] = {}
        if initializer is None:
            return
        before = dict(getattr(initializer, "__globals__", {}))
        initializer(*initargs)
        self._module = getattr(initializer, "__module__", "")
        after = getattr(initializer, "__globals__", {})
        missing = object()
        self._assigned = {name: value for name, value in after.items() if before.get(name, missing) is not value}

    def share_with(self, function: Callable[..., Any]) -> None:
        """Put the assigned globals where ``function`` looks for them, if it comes from the initializer's module."""
        if isinstance(function, types.FunctionType) and function.__module__ == self._module:
            function.__globals__.update(self._assigned)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    try:
        return Outcome(function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - this is the user's function; its error is a result
        return Outcome(error=_picklable(error), traceback="".join(traceback.format_exception(error)))


def _picklable(error: Exception) -> Exception:
    """Return the error itself if it survives pickling, else a RuntimeError that says the same."""
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - the user's __reduce__ or __init__ may raise anything
        return RuntimeError(f"{type(error).__qualname__}: {error}")
    return error
