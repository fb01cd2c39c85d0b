"""Serializers that users register for their own classes (``util.register_serializer``).

The pickler asks :func:`reduce` first, for each object it has no built-in rule for. What it writes is a call of
the deserializer, itself pickled: so a process that only *reads* needs no registration, and one that writes needs its
own (as in Ray: register in each process that sends such objects, for example at the top of the task).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Serializer = Callable[[Any], Any]
Deserializer = Callable[[Any], Any]

#: class -> (serializer, deserializer), for exact classes only: a subclass may hold more than its parent's serializer
#: knows of. One per process because pickling is; only the functions below write to it.
table: dict[type, tuple[Serializer, Deserializer]] = {}


def register(cls: type, serializer: Serializer, deserializer: Deserializer) -> None:
    """Pickle instances of exactly ``cls`` as ``deserializer(serializer(instance))``, in this process.

    Raises:
        TypeError: ``cls`` is no class, or one of the functions cannot be called.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer needs a class, got {cls!r}")
    for role, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(f"the {role} of {cls.__qualname__} must be callable, got {function!r}")
    table[cls] = (serializer, deserializer)


def deregister(cls: type) -> None:
    """Forget the serializer of ``cls``; does nothing if there is none."""
    table.pop(cls, None)


def reduce(obj: Any) -> Any:
    """Return the pickle reduction of ``obj``, ``NotImplemented`` if its class is not registered.

    That is what ``Pickler.reducer_override`` may return.
    """
    functions = table.get(type(obj))
    if functions is None:
        return NotImplemented
    serializer, deserializer = functions
    return reconstruct, (deserializer, serializer(obj))


def reconstruct(deserializer: Deserializer, payload: Any) -> Any:
    """Rebuild an instance; what a pickle made by :func:`reduce` calls."""
    return deserializer(payload)
