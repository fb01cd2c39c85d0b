"""Find which part of an object cannot be pickled, and name the path to it.

Pickle's own message ("cannot pickle '_thread.lock' object") tells the type of the culprit, not where it hides. The
search pickles an object into a sink; when that fails it looks at what pickle would look at (closure cells, globals
and defaults of functions, members of classes, items, and the state from ``__reduce_ex__``), halves the candidates
until single failing ones remain, and goes on inside those. Each level costs at most a few picklings of the whole, so
the search is quick unless the object is huge; then the deadline ends it with the deepest path known so far.

Buffers (numpy arrays, Arrow) are handed out of band, so they are never copied.
"""

from __future__ import annotations

import dis
import functools
import inspect
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle

from core import custom_serializers

#: How deep the search goes. Real culprits sit within a handful of steps.
MAX_DEPTH = 12
#: How long the search may take, in seconds.
MAX_SECONDS = 1.0
#: How many culprits are reported at most.
MAX_FAILURES = 5

_PICKLE_PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """One object that cannot be pickled though all its parts can (or that is as deep as the search went)."""

    obj: Any
    #: what leads to it, the searched object first: ``("train()", "closure variable model", ".cache", "['lock']")``
    path: tuple[str, ...]
    #: the object it was found in, None for the searched object itself
    parent: Any
    #: why pickling fails, as pickle says it
    reason: str

    def __str__(self) -> str:
        text = self.path[0]
        for step in self.path[1:]:
            text += step if step.startswith((".", "[")) else f" -> {step}"
        return f"{text}: {self.reason}"


def find_unpicklable(obj: Any, *, name: str | None = None, opaque: tuple[type, ...] = ()) -> list[str]:
    """Return one line per culprit that keeps ``obj`` from being pickled; an empty list if it can be pickled.

    Args:
        obj: what could not be pickled.
        name: how to call it in the paths; default: its own name, or its type's.
        opaque: types that count as picklable and are not looked into (those whose pickling has side effects).

    Returns:
        Lines like ``train() -> closure variable model.cache['lock']: cannot pickle '_thread.lock' object``.
    """
    return [str(failure) for failure in find_failures(obj, name=name, opaque=opaque)]


def find_failures(
    obj: Any,
    *,
    name: str | None = None,
    opaque: tuple[type, ...] = (),
    max_depth: int = MAX_DEPTH,
    max_seconds: float = MAX_SECONDS,
) -> list[Failure]:
    """Return the culprits themselves, at most :data:`MAX_FAILURES` (see :func:`find_unpicklable`)."""
    search = _Search(opaque, time.monotonic() + max_seconds)
    try:
        reason = search.probe(obj)
        if reason is not None:
            search.descend(Failure(obj, (name or _name_of(obj),), None, reason), max_depth)
    except _OutOfTimeError:
        if search.deepest is not None and not search.found:
            search.found.append(search.deepest)
    return search.found


class _OutOfTimeError(Exception):
    """The search took too long."""


class _Search:
    """One search: its limits and what it found so far."""

    def __init__(self, opaque: tuple[type, ...], deadline: float) -> None:
        self.opaque = opaque
        self.deadline = deadline
        self.found: list[Failure] = []
        #: where the search is now: the answer when time runs out
        self.deepest: Failure | None = None
        #: ids of the objects on the way, which all live as long as the search: ends cycles
        self.seen: set[int] = set()

    def probe(self, obj: Any) -> str | None:
        """Return why ``obj`` cannot be pickled, None if it can."""
        try:
            _ProbePickler(self).dump(obj)
        except _OutOfTimeError:
            raise
        except Exception as error:  # noqa: BLE001 - runs the user's __reduce__ and __getstate__, which may raise anything
            return str(error) or type(error).__name__
        return None

    def descend(self, failure: Failure, depth: int) -> None:
        """Look for the culprits inside a failing object; it is the culprit itself if no part of it fails."""
        self.deepest = failure
        self.seen.add(id(failure.obj))
        before = len(self.found)
        if depth > 0:
            parts = [part for part in self._parts(failure.obj) if id(part[1]) not in self.seen]
            for step, part, reason in self._failing(parts):
                if len(self.found) >= MAX_FAILURES:
                    return
                if id(part) not in self.seen:
                    self.descend(Failure(part, (*failure.path, step), failure.obj, reason), depth - 1)
        if len(self.found) == before:
            self.found.append(failure)

    def _parts(self, obj: Any) -> list[tuple[str, Any]]:
        try:
            return list(_parts_of(obj))
        except Exception:  # noqa: BLE001 - the user's __reduce__ raised: then the object itself is the culprit
            return []

    def _failing(self, parts: list[tuple[str, Any]]) -> Iterator[tuple[str, Any, str]]:
        """Yield the parts that cannot be pickled, with the reason, by halving."""
        if not parts:
            return
        reason = self.probe([part for _, part in parts])
        if reason is None:
            return
        if len(parts) == 1:
            yield (*parts[0], reason)
            return
        middle = len(parts) // 2
        yield from self._failing(parts[:middle])
        yield from self._failing(parts[middle:])


class _Sink:
    """A file that keeps nothing and watches the clock."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def write(self, data: Any) -> int:
        if time.monotonic() > self._deadline:
            raise _OutOfTimeError
        return len(data)


class _ProbePickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
    """Cloudpickle's rules plus registered serializers; opaque types cost nothing."""

    def __init__(self, search: _Search) -> None:
        super().__init__(_Sink(search.deadline), protocol=_PICKLE_PROTOCOL, buffer_callback=_out_of_band)
        self._opaque = search.opaque

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, self._opaque):
            return _nothing, ()
        custom = custom_serializers.reduce(obj)
        return super().reducer_override(obj) if custom is NotImplemented else custom


def _out_of_band(buffer: Any) -> None:
    """Take a buffer out of band (the pickler reads the falsy answer so)."""


def _nothing() -> None:
    """Stand for an opaque object in a pickle that nobody reads."""


def _name_of(obj: Any) -> str:
    if inspect.isroutine(obj):
        return f"{obj.__qualname__}()"
    if isinstance(obj, type):
        return f"class {obj.__qualname__}"
    return f"{type(obj).__qualname__} object"


def _parts_of(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield what pickle would pickle next inside ``obj``, each with its step of the path."""
    if isinstance(obj, types.FunctionType):
        yield from _parts_of_function(obj)
    elif isinstance(obj, types.MethodType):
        yield f"method {obj.__func__.__qualname__}()", obj.__func__
        yield ".__self__", obj.__self__
    elif isinstance(obj, functools.partial):
        yield ".func", obj.func
        yield from ((f".args[{index}]", value) for index, value in enumerate(obj.args))
        yield from ((f".keywords[{key!r}]", value) for key, value in obj.keywords.items())
    elif isinstance(obj, type):
        yield from ((f"base class {base.__qualname__}", base) for base in obj.__bases__)
        yield from _members(vars(obj))
    elif type(obj) is dict:
        yield from _items(obj)
    elif type(obj) in (list, tuple):
        yield from ((f"[{index}]", value) for index, value in enumerate(obj))
    elif type(obj) in (set, frozenset):
        yield from (("an element", value) for value in obj)
    else:
        yield from _parts_of_instance(obj)


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure variable {name}", cell.cell_contents
        except ValueError:  # the cell is still empty: the variable is assigned later
            continue
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield f"global variable {name}", function.__globals__[name]
    for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
        if parameter.default is not parameter.empty:
            yield f"default of parameter {name}", parameter.default
    yield from _members(vars(function))


def _global_names(code: types.CodeType) -> set[str]:
    """Return the names of the globals that ``code`` and the functions defined in it use."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "STORE_GLOBAL")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _parts_of_instance(obj: Any) -> Iterator[tuple[str, Any]]:
    reduction: Any = custom_serializers.reduce(obj)
    if reduction is not NotImplemented:
        yield "what its registered serializer returns", reduction[1][1]
        return
    reducer = cloudpickle.Pickler.dispatch_table.get(type(obj))
    reduction = reducer(obj) if reducer is not None else obj.__reduce_ex__(_PICKLE_PROTOCOL)
    if not isinstance(reduction, tuple):  # a string: the name of a global
        return
    fields: tuple[Any, ...] = (*reduction, None, None, None)
    arguments, state, items, pairs = fields[1:5]
    yield from _parts_of_state(state)
    yield from ((f"[{index}]", value) for index, value in enumerate(items or ()))
    yield from _items(pairs or ())
    for index, argument in enumerate(arguments):
        yield (_name_of(argument) if isinstance(argument, type) else f"constructor argument {index}"), argument


def _parts_of_state(state: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes in a pickle state: a dict, or a pair of the instance's dict and its slots'."""
    if isinstance(state, dict):
        yield from _members(state)
    elif isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        yield from _members(state[0] or {})
        yield from _members(state[1])
    elif state is not None:
        yield "what its __getstate__ returns", state


def _members(attributes: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield attributes, but not the descriptors (``__dict__``, slots) that a class makes anew."""
    for name, value in attributes.items():
        if not isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
            yield f".{name}", value


def _items(pairs: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        text = f"[{key!r}]" if isinstance(key, str | int | float | bytes | None) else f"[{type(key).__qualname__} key]"
        yield text, value
        yield f"key {text}", key
