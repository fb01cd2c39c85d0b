"""The seam between the public API and what runs programs: one protocol, several engines.

An engine owns every object of a session and all that runs in it. The public functions check arguments, then delegate
here; so an engine may rely on: lists hold :class:`~core.refs.ObjectRef` only, options are validated, signatures fit.

Threads: every method may be called from any thread of the process. ``note_serialized`` and ``adopt_ref`` are called
from inside pickling. What dies lands in ``refs.dropped`` and ``refs.dropped_generators``, for the engine to drain.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any, Protocol

from core.descriptors import ClassDescriptor, FunctionDescriptor, InitConfig, PlacementGroupState, RuntimeFacts
from core.options import ActorOptions, TaskOptions
from core.protocol.from_node import KeyChanges, KeyReply
from core.refs import ActorHandle, ActorToken, MethodInfo, ObjectRef, ObjectRefGenerator

__all__ = [
    "ClassDescriptor",
    "Engine",
    "FunctionDescriptor",
    "InitConfig",
    "KeyValueStore",
    "PlacementGroupState",
    "RuntimeFacts",
]


class KeyValueStore(Protocol):
    """The session's keys and values (:mod:`core.util.kv`), by the records of the native engine's protocol.

    Futures complete in a thread of the engine, which their callbacks must not block.
    """

    def get(self, key: str) -> KeyReply: ...
    def put(self, key: str, value: bytes, expected: int | None) -> KeyReply: ...
    def delete(self, key: str, expected: int | None) -> KeyReply: ...
    def keys(self, prefix: str) -> list[str]: ...
    def new_watch(self) -> int:
        """Return a number for a new watcher."""

    def changes(self, watch: int, prefix: str, after: int) -> concurrent.futures.Future[KeyChanges]:
        """Return what will hold a watcher's next changes; asking tells that it has taken in those up to ``after``."""

    def wait(self, future: concurrent.futures.Future[KeyChanges], timeout: float | None) -> bool:
        """Wait for :meth:`changes` in any thread, one that reads for all others included; return whether it is done."""

    def unwatch(self, watch: int, asking: concurrent.futures.Future[KeyChanges] | None) -> None:
        """End a watcher, and cancel what it waits for."""

    def when_taken(self, key: str, version: int) -> concurrent.futures.Future[KeyReply]: ...


class Engine(Protocol):
    """What runs a program (see the module's docstring for the contract)."""

    #: "native", "inline" or "ray"
    name: str

    @property
    def key_values(self) -> KeyValueStore: ...

    # tasks and objects
    def submit_task(
        self, function: FunctionDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> Any:
        """Submit; return an ObjectRef, a list of them, an ObjectRefGenerator, or None for ``num_returns=0``."""

    def put(self, value: Any) -> ObjectRef[Any]: ...
    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any: ...
    def get_many(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]: ...
    def wait(
        self, refs: list[Any], num_returns: int, timeout: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        """See the API; generators may be among the references."""

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None: ...
    def cancel_generator(self, generator: ObjectRefGenerator[Any], force: bool, recursive: bool) -> None: ...
    def future(self, ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]: ...
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a writable numpy array that lives in the object store already."""

    # generators
    def next_item(self, task: bytes, index: int, timeout: float | None) -> ObjectRef[Any] | None:
        """Wait for item ``index``; None at the end. Raises GetTimeoutError."""

    def next_item_future(self, task: bytes, index: int) -> concurrent.futures.Future[ObjectRef[Any] | None]: ...
    def item_ready(self, task: bytes, index: int) -> bool: ...

    # references
    def note_serialized(self, ref: ObjectRef[Any]) -> None: ...
    def adopt_ref(self, identifier: bytes, /) -> ObjectRef[Any]: ...

    # actors
    def create_actor(
        self, cls: ClassDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: ActorOptions
    ) -> ActorHandle[Any]: ...
    def call_actor(
        self, token: ActorToken, method: MethodInfo, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any: ...
    def kill_actor(self, token: ActorToken, no_restart: bool) -> None: ...
    def get_named_actor(self, name: str, namespace: str | None) -> ActorHandle[Any]: ...
    def list_named_actors(self, all_namespaces: bool) -> list[tuple[str, str]]: ...
    def exit_actor(self) -> None:
        """End the actor that the calling thread runs in; never returns normally."""

    def current_actor(self) -> ActorHandle[Any] | None:
        """Return a handle to the actor that the calling thread runs in."""

    def reduce_handle(self, token: ActorToken) -> tuple[Any, ...]: ...
    def restore_token(self, *state: Any) -> ActorToken: ...

    # placement groups
    def create_placement_group(
        self, bundles: list[dict[str, float]], strategy: str, name: str, detached: bool
    ) -> PlacementGroupState: ...
    def remove_placement_group(self, placement_group_id: bytes) -> None: ...
    def get_placement_group(self, placement_group_id: bytes, name: str) -> PlacementGroupState | None: ...

    # state
    def query(self, what: str) -> list[dict[str, Any]]:
        """Return state for people and for the API.

        ``"nodes"``: one dictionary per node with the keys of Ray's ``nodes()``. ``"cluster_resources"`` and
        ``"available_resources"``: one dictionary, natural units. ``"session"``: one dictionary for the context that
        ``init`` returns (``node_ip_address``, ``session_dir``, ``node_id``, ``address``, ...).
        """
        ...

    def facts(self) -> RuntimeFacts: ...
    def timeline(self) -> list[dict[str, Any]]:
        """Return Chrome-trace events of what ran so far."""
        ...

    def shutdown(self) -> None: ...
