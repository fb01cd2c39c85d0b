"""Objects, actors by name, and state: ``get``, ``put``, ``wait``, ``cancel``, ``kill``, ``nodes`` and their like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from core import current
from core.argument_checks import flag, seconds, text, whole_number
from core.refs import ActorHandle, ObjectRef, ObjectRefGenerator, token_of

R = TypeVar("R")
G = TypeVar("G", bound=ObjectRefGenerator[Any])
W = TypeVar("W", bound=ObjectRef[Any] | ObjectRefGenerator[Any])


@overload
def get(refs: ObjectRef[R], *, timeout: float | None = None) -> R: ...
@overload
def get(refs: G, *, timeout: float | None = None) -> G: ...
@overload
def get(refs: Sequence[ObjectRef[R]], *, timeout: float | None = None) -> list[R]: ...
@overload
def get(refs: Sequence[ObjectRef[Any]], *, timeout: float | None = None) -> list[Any]: ...
def get(refs: Any, *, timeout: float | None = None) -> Any:
    """Return the value of a reference, or the list of values of a list of references; wait for them if need be.

    Arrays in the values are read-only views of shared memory. A generator is returned unchanged.

    Args:
        refs: an ``ObjectRef`` or a list of them.
        timeout: seconds to wait at most; 0: not at all; None (or less than 0): without limit.

    Raises:
        RayTaskError: the task raised; the error is also an instance of what it raised. In a list, the first failure
            known is raised at once.
        GetTimeoutError: the time is over and a value is not there.
        ValueError: ``refs`` is neither a reference nor a list.
        TypeError: the list holds something else than references.
    """
    if timeout is not None:
        timeout = seconds("timeout of get()", timeout)
        timeout = None if timeout is None or timeout < 0 else timeout
    if type(refs) is ObjectRef:
        return (current.engine or current.running("get()")).get_one(refs, timeout)
    if isinstance(refs, list):
        if not refs:
            return []
        _check_refs(refs, "get()")
        return (current.engine or current.running("get()")).get_many(refs, timeout)
    if isinstance(refs, ObjectRefGenerator):
        return refs
    raise ValueError(f"get() takes an ObjectRef or a list of them, got {type(refs).__name__}: {refs!r}")


def put(value: R) -> ObjectRef[R]:
    """Store a value and return a reference to it. The value is copied now: changing it afterwards is not seen.

    Raises:
        TypeError: the value is a reference already, or cannot be pickled.
        ObjectStoreFullError, OutOfDiskError: there is no room for it.
    """
    if isinstance(value, ObjectRef | ObjectRefGenerator):
        raise TypeError(
            f"put() takes a value, got {type(value).__name__}. Pass the reference on as it is, or put a list that "
            "contains it."
        )
    return (current.engine or current.require()).put(value)


def wait(
    refs: list[W],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[W], list[W]]:
    """Wait until ``num_returns`` of the references are ready; return the ready ones and the others, in order.

    A reference whose task failed is ready. The first list never has more than ``num_returns`` elements: further ones
    that are ready come in the second. Generators among the references are ready when their next item is, or the end.

    Args:
        refs: references, without duplicates.
        num_returns: how many to wait for, at least 1.
        timeout: seconds to wait at most; None: without limit. Then fewer than ``num_returns`` may come back.
        fetch_local: wait until values are on this machine, not only until they exist.

    Raises:
        TypeError: ``refs`` is no list of references.
        ValueError: duplicates, or ``num_returns`` or ``timeout`` out of range.
    """
    if not isinstance(refs, list):
        raise TypeError(f"wait() takes a list of ObjectRef, got {type(refs).__name__}")
    if timeout is not None:
        timeout = seconds("timeout of wait()", timeout)
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout of wait() must not be negative, got {timeout}")
    if not refs:
        return [], []
    # Programs call wait() in a loop over what is left: only passes in C over the whole list are affordable.
    kinds = set(map(type, refs))
    if kinds != _REFS_ONLY:
        _check_kinds(refs)
    if len(set(refs)) != len(refs):
        raise ValueError("wait() takes a list without duplicates")
    num_returns = whole_number("num_returns", num_returns)
    if not 1 <= num_returns <= len(refs):
        raise ValueError(f"num_returns must be between 1 and the number of references ({len(refs)}), got {num_returns}")
    engine = current.engine or current.running("wait()")
    return engine.wait(refs, num_returns, timeout, fetch_local)


_REFS_ONLY = {ObjectRef}


def _check_kinds(refs: list[Any]) -> None:
    for ref in refs:
        if not isinstance(ref, ObjectRef | ObjectRefGenerator):
            raise TypeError(f"wait() takes a list of ObjectRef, got a list with a {type(ref).__name__}: {ref!r}")


def cancel(ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes a reference; ``get`` then raises ``TaskCancelledError``. No-op for finished ones.

    A queued task is forgotten. A running one is interrupted: a ``KeyboardInterrupt`` in a synchronous function, also in
    the middle of a sleep, ``asyncio.CancelledError`` in an asyncio actor.

    Args:
        ref: what the task returned at submission.
        force: end the worker process if it is running. Not for actor methods.
        recursive: cancel the tasks it submitted, too.

    Raises:
        TypeError: ``ref`` is no reference.
        ValueError: ``force`` for an actor method.
    """
    force, recursive = flag("force", force), flag("recursive", recursive)
    if isinstance(ref, ObjectRefGenerator):
        current.running("cancel()").cancel_generator(ref, force, recursive)
    elif isinstance(ref, ObjectRef):
        current.running("cancel()").cancel(ref, force, recursive)
    else:
        raise TypeError(f"cancel() takes an ObjectRef or an ObjectRefGenerator, got {type(ref).__name__}: {ref!r}")


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """End an actor's process at once, without running ``atexit`` handlers. Its unfinished calls fail.

    Args:
        actor: a handle to it.
        no_restart: whether it stays dead even if it has restarts left.

    Raises:
        ValueError: ``actor`` is no actor handle.
        ActorHandleNotFoundError: the handle belongs to a session that is over.
    """
    token, no_restart = token_of(actor), flag("no_restart", no_restart)
    current.running("kill()").kill_actor(token, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return a handle to a named actor. Unless the actor is detached, the handle does not keep it alive.

    Args:
        name: the name it was given in ``.options(name=...)``.
        namespace: default: the session's.

    Raises:
        ValueError: there is no such actor, or a name is empty.
    """
    if not name:
        raise ValueError("get_actor() needs a name that is not empty")
    text("the name of an actor", name)
    if namespace is not None:
        text("namespace", namespace)
    if namespace == "":
        raise ValueError("namespace must not be empty; leave it out for the session's")
    return (current.engine or current.require()).get_named_actor(name, namespace)


def empty(shape: int | Sequence[int], dtype: Any = float) -> Any:
    """Return a new numpy array that lives in shared memory already, so that ``put`` of it copies nothing.

    Fill it, then ``put`` it; after that it must not be written to any more. Its contents are undefined before.

    Args:
        shape: as for ``numpy.empty``.
        dtype: as for ``numpy.empty``; no object types.

    Raises:
        ObjectStoreFullError, OutOfDiskError: there is no room for it.
        ImportError: numpy is not installed (``pip install skate-core[numpy]``).
    """
    dimensions = tuple(whole_number("a dimension of empty()", size) for size in _sizes(shape))
    if any(size < 0 for size in dimensions):
        raise ValueError(f"empty() makes no arrays with negative dimensions, got {shape!r}")
    return (current.engine or current.require()).empty(dimensions, dtype)


def _sizes(shape: Any) -> Iterable[Any]:
    if hasattr(shape, "__index__"):
        return (shape,)
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise TypeError(f"the shape of empty() must be an int or a tuple of them, got {shape!r}")
    return shape


def nodes() -> list[dict[str, Any]]:
    """Return a dictionary per node, with Ray's keys: ``NodeID``, ``Alive``, ``Resources``, ``Labels``, ..."""
    return current.running("nodes()").query("nodes")


def cluster_resources() -> dict[str, float]:
    """Return the amounts of all resources of the session."""
    return current.running("cluster_resources()").query("cluster_resources")[0]


def available_resources() -> dict[str, float]:
    """Return the amounts of resources not in use now; those used up are left out."""
    return current.running("available_resources()").query("available_resources")[0]


def get_gpu_ids() -> list[int]:
    """Return the ids of the GPUs assigned to the current task or actor, as in ``CUDA_VISIBLE_DEVICES``."""
    return (current.engine or current.require()).facts().gpu_ids


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return what ran so far as events for ``chrome://tracing``, or write them to a JSON file and return None."""
    events = current.running("timeline()").timeline()
    if filename is None:
        return events
    Path(filename).write_bytes(msgspec.json.encode(events))
    return None


def _check_refs(refs: list[Any], what: str) -> None:
    for ref in refs:
        if type(ref) is not ObjectRef:
            raise TypeError(f"{what} takes ObjectRefs, got a list with a {type(ref).__name__}: {ref!r}")
