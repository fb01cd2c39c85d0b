"""Arguments as bytes: what a call carries, which references it depends on, which it merely mentions."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable
from typing import Any

from core.exceptions import RayError
from core.refs import ActorHandle, ObjectRef
from core.serialization import PRIMITIVES, Parts, dumps

_dumps = pickle.dumps
_PLAIN = PRIMITIVES - {str, bytes}
#: Strings and bytes up to this length need no look at the whole.
_SHORT = 16 * 1024

#: (object id, position or -1, keyword or "")
Dependencies = tuple[tuple[bytes, int, str], ...]


class Packed:
    """Packed arguments: ``data`` (bytes, or Parts too large for a message), dependencies, nested reference ids."""

    __slots__ = ("data", "dependencies", "nested")

    def __init__(self, data: bytes | Parts, dependencies: Dependencies, nested: tuple[bytes, ...]) -> None:
        self.data = data
        self.dependencies = dependencies
        self.nested = nested


class Collector(threading.local):
    """Collects the references met while pickling in this thread."""

    def __init__(self) -> None:
        #: ids met since collecting began, or None outside of any collecting
        self.found: list[bytes] | None = None


class Packer:
    """Packs arguments and values of one process, noting the references inside."""

    def __init__(self) -> None:
        self._collector = Collector()

    def collecting(self) -> list[bytes] | None:
        """Return the list that nested references go to, or None outside of any packing."""
        return self._collector.found

    def value(self, value: Any) -> tuple[bytes | Parts, tuple[bytes, ...]]:
        """Serialize a value; return it and the ids of the references inside."""
        collector = self._collector
        outer, collector.found = collector.found, []
        try:
            data = dumps(value)
            return data, tuple(collector.found)
        finally:
            collector.found = outer

    def arguments(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed | bytes:
        """Pack a call's arguments. Plain small ones come back as bytes, without dependencies.

        Raises:
            TypeError: an argument cannot be pickled; the message names the path to the culprit.
        """
        if not kwargs:
            if not args:
                return b""
            for arg in args:
                kind = type(arg)
                if kind not in _PLAIN and not ((kind is str or kind is bytes) and len(arg) < _SHORT):
                    break
            else:
                return _dumps(args, 5)
        dependencies: list[tuple[bytes, int, str]] = []
        for index, arg in enumerate(args):
            if type(arg) is ObjectRef:
                dependencies.append((arg.id, index, ""))
        for name, arg in kwargs.items():
            if type(arg) is ObjectRef:
                dependencies.append((arg.id, -1, name))
        if dependencies:
            args = tuple(None if type(arg) is ObjectRef else arg for arg in args)
            kwargs = {name: None if type(arg) is ObjectRef else arg for name, arg in kwargs.items()}
        try:
            data, nested = self.value([args, kwargs] if kwargs else args)
        except RayError:
            raise
        except Exception as error:  # user code: reducers raise what they like; it becomes the caller's TypeError
            raise unpicklable_arguments(what, args, kwargs, error) from error
        return Packed(data, tuple(dependencies), nested)


def unpicklable_error(what: str, value: Any, error: BaseException) -> TypeError:
    """Return the error that tells why ``value`` cannot be pickled and where the culprit sits."""
    return _unpicklable(what, [(None, value)], error)


def unpicklable_arguments(what: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException) -> TypeError:
    """Return the error that tells which argument of ``what`` cannot be pickled, why, and where the culprit sits."""
    by_position = [(f"argument {number}", arg) for number, arg in enumerate(args, 1)]
    return _unpicklable(
        f"arguments of {what}", [*by_position, *((f"argument {name!r}", arg) for name, arg in kwargs.items())], error
    )


def _unpicklable(what: str, values: Iterable[tuple[str | None, Any]], error: BaseException) -> TypeError:
    from core.unpicklable import find_unpicklable  # noqa: PLC0415 - only for errors, and every process imports this

    lines = [f"Could not serialize the {what}: {type(error).__name__}: {error}"]
    for name, value in values:
        lines += [f"  {line}" for line in find_unpicklable(value, name=name, opaque=(ObjectRef, ActorHandle))]
    lines.append(
        "Create such things (locks, sockets, connections, threads) inside the task or actor, or pass what they are "
        "made from."
    )
    return TypeError("\n".join(lines))
