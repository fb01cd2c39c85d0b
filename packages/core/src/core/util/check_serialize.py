"""Explain why an object cannot be pickled (``ray.util.inspect_serializability``)."""

from __future__ import annotations

from typing import IO, Any

from core import unpicklable
from core.refs import ActorHandle, ObjectRef

_WIDTH = 80


class FailureTuple:
    """A culprit: ``obj`` found in ``parent`` by following ``path``."""

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        #: what leads to the object, the inspected object first
        self.path = path
        self.parent = parent

    @property
    def name(self) -> str:
        """The last step of the path."""
        return self.path[-1]

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [path={' -> '.join(self.path)}, obj={self.obj}, parent={self.parent}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: IO[str] | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Tell whether an object can be sent to other processes; print which parts of it cannot.

    Args:
        base_obj: the object to check.
        name: how to call it in the report; default: its own name, or its type's.
        depth: how many steps to look into it.
        print_file: where to print; default: standard output.

    Returns:
        Whether it can be pickled, and the culprits found.
    """
    failures = unpicklable.find_failures(
        base_obj, name=name, opaque=(ObjectRef, ActorHandle), max_depth=depth, max_seconds=60
    )
    heading = f"Checking Serializability of {base_obj}"
    print("=" * min(len(heading), _WIDTH), heading, "=" * min(len(heading), _WIDTH), sep="\n", file=print_file)
    if not failures:
        print("It can be serialized.", file=print_file)
    for failure in failures:
        print(f"!!! FAIL serialization: {failure}", file=print_file)
    if failures:
        print(
            "Create such objects where they are used (inside the task, or in the actor's __init__), leave them out in "
            "__getstate__, or use register_serializer.",
            file=print_file,
        )
    return not failures, {FailureTuple(failure.obj, failure.path, failure.parent) for failure in failures}
