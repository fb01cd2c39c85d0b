"""Handles of actors that come from elsewhere: from another process's pickle, from a name, from inside the actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec

from core.protocol import to_node
from core.protocol.records import ActorInfo, ActorSpec
from core.refs import ActorHandle, ActorToken, MethodInfo, ObjectRef
from core.runtime.actor_client import ActorClient, CallingOptions

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
        """Return a weak handle (not counted, without a limit of calls) from the node's record of a named actor."""
        methods: dict[str, MethodInfo] = cloudpickle.loads(info.methods) if info.methods else {}
        calling = msgspec.msgpack.decode(info.calling, type=CallingOptions) if info.calling else CallingOptions()
        client = self._client(info.actor_id, info.class_name, info.creation_object, methods, calling)
        is_async = any(method.is_async for method in client.methods.values())
        return ActorHandle(token_of_client(client, None, info.name, info.namespace, is_async))

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
            calling=spec.calling,
        )
        return self.handle_of(info)

    def _client(
        self, actor_id: bytes, class_name: str, creation: bytes, methods: dict[str, MethodInfo], calling: CallingOptions
    ) -> ActorClient:
        with self._rt.lock:
            client = self._clients.get(actor_id)
            if client is None:
                client = ActorClient(self._rt, actor_id, class_name, creation, methods, calling)
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
            client.calling,
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
        calling: CallingOptions,
    ) -> ActorToken:
        """Return the token of a handle that came from another process."""
        client = self._clients.get(actor_id)
        if client is None:
            client = self._client(actor_id, class_name, creation, cloudpickle.loads(methods_blob), calling)
            client.methods_blob = methods_blob
        if ref is not None:
            with self._rt.lock:
                self._by_creation[creation] = client
        return token_of_client(client, ref, name, namespace, is_async, max_pending_calls)


def token_of_client(
    client: ActorClient,
    ref: ObjectRef[Any] | None,
    name: str,
    namespace: str,
    is_async: bool,
    max_pending_calls: int = -1,
) -> ActorToken:
    """Return what all handles around ``client`` share; ``ref`` counts them (None: they do not keep the actor alive)."""
    return ActorToken(
        client.actor_id,
        client.class_name,
        client.methods,
        client,
        ref,
        name,
        namespace,
        max_pending_calls,
        is_async,
    )
