"""Handles of actors that come from elsewhere: from another process's pickle, from a name, from inside the actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle

from core.protocol import to_node
from core.protocol.records import ActorInfo, ActorSpec
from core.refs import ActorHandle, ActorToken, MethodInfo, ObjectRef
from core.runtime.actor_client import ActorClient

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


class ActorHandles:
    """Makes handles and tokens around the clients that ``Actors`` owns.

    Args:
        runtime: of this process.
        clients: all clients by actor id.
        by_creation: clients of actors with counted handles here, by creation object.
    """

    def __init__(
        self, runtime: Runtime, clients: dict[bytes, ActorClient], by_creation: dict[bytes, ActorClient]
    ) -> None:
        self._rt = runtime
        self._clients = clients
        self._by_creation = by_creation

    def handle_of(self, info: ActorInfo) -> ActorHandle[Any]:
        """Return a weak handle (not counted) from the node's record of a named actor."""
        methods: dict[str, MethodInfo] = cloudpickle.loads(info.methods) if info.methods else {}
        client = self.client(info.actor_id, info.class_name, info.creation_object, methods)
        is_async = any(method.is_async for method in client.methods.values())
        client.ordered = client.ordered and not is_async
        token = ActorToken(
            info.actor_id, info.class_name, client.methods, client, None, info.name, info.namespace, -1, is_async
        )
        return ActorHandle(token)

    def handle_from_spec(self, spec: ActorSpec) -> ActorHandle[Any]:
        """Return a weak handle to the actor that lives in this process."""
        info = ActorInfo(
            spec.actor_id,
            "ALIVE",
            class_name=spec.class_name,
            name=spec.name,
            namespace=spec.namespace,
            creation_object=spec.creation_object,
            methods=spec.methods,
        )
        return self.handle_of(info)

    def client(self, actor_id: bytes, class_name: str, creation: bytes, methods: dict[str, MethodInfo]) -> ActorClient:
        with self._rt.lock:
            client = self._clients.get(actor_id)
            if client is None:
                client = ActorClient(self._rt, actor_id, class_name, creation)
                client.methods = methods
                self._clients[actor_id] = client
                self._rt.to_node(to_node.WatchActor(actor_id))
                self._rt.flush_node()
        return client

    def reduce(self, token: ActorToken) -> tuple[Any, ...]:
        """Return what :meth:`restore` needs in another process."""
        client: ActorClient = token.client
        if client.session is not self._rt:
            raise self._rt.stale(f"actor {token.class_name}")
        if not client.methods_blob:
            client.methods_blob = cloudpickle.dumps(token.methods)
        return (
            token.actor_id,
            token.ref,
            token.class_name,
            client.methods_blob,
            client.creation,
            token.name,
            token.namespace,
            token.max_pending_calls,
            token.is_async,
            client.ordered,
            client.max_task_retries,
        )

    def restore(
        self,
        actor_id: bytes,
        ref: ObjectRef[Any] | None,
        class_name: str,
        methods_blob: bytes,
        creation: bytes,
        name: str,
        namespace: str,
        max_pending_calls: int,
        is_async: bool,
        ordered: bool,
        max_task_retries: int,
    ) -> ActorToken:
        """Return the token of a handle that came from another process."""
        client = self._clients.get(actor_id)
        if client is None:
            client = self.client(actor_id, class_name, creation, cloudpickle.loads(methods_blob))
            client.methods_blob = methods_blob
            client.ordered = ordered
            client.max_task_retries = max_task_retries
        if ref is not None:
            with self._rt.lock:
                self._by_creation[creation] = client
        return ActorToken(
            actor_id, class_name, client.methods, client, ref, name, namespace, max_pending_calls, is_async
        )
