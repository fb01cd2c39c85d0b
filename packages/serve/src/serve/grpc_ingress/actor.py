"""The actor of a gRPC proxy: a server of grpc.aio whose calls are relayed to replicas.

Beside the user's services it offers the Open Inference Protocol, Ray Serve's ``RayServeAPIService``, the standard
health service (for ``""``, for each service and for each application by its name) and reflection.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

import core
from serve.config import GRPCOptions
from serve.gateway.marks import TABLE
from serve.grpc_calls.messages import need, own, own_pool
from serve.grpc_calls.records import Uploaded
from serve.grpc_ingress.methods import API, INFERENCE, Method, Methods, load_functions
from serve.grpc_ingress.relay import GRPCRelay
from serve.handle import local_router
from serve.metrics.process import report
from serve.specs import Targets

#: bytes of a message where nothing else is said; gRPC's own limit of 4 MiB is too small for tensors
MAX_MESSAGE_BYTES = 2**31 - 1


class GRPCProxy:
    """See the module's docstring.

    Args:
        actor_name: of this actor, for the replicas.
        options: of gRPC.
        host: address to listen on.
    """

    def __init__(self, actor_name: str, options: GRPCOptions, host: str) -> None:
        self._options = options
        self._host = host
        self._services: list[str] = []
        table = str(Path(core.get_runtime_context().get_temp_dir(), TABLE))
        self._relay = GRPCRelay(actor_name, table, options.request_timeout_s)
        self._server: Any = None
        self._health: Any = None
        self._said: dict[str, bool] = {}
        self._publishing = asyncio.Lock()

    async def start(self, targets: bytes, port: int) -> int:
        """Begin to accept on a port (0: a free one), and return it.

        Raises:
            OSError: the port is taken, or a file of TLS cannot be read.
            ValueError: a servicer function cannot be imported.
            ImportError: the extra ``grpc`` is not installed.
        """
        grpc = need("grpc")
        methods = Methods(load_functions(self._options.grpc_servicer_functions))
        self._services = [*methods.services, INFERENCE, API]
        health = need("grpc_health.v1.health")
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._options.max_message_bytes or MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ]
        )
        self._health = health.aio.HealthServicer()
        need("grpc_health.v1.health_pb2_grpc").add_HealthServicer_to_server(self._health, self._server)
        if self._options.enable_reflection:
            reflection = need("grpc_reflection.v1alpha.reflection")
            services = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(services, self._server, _Pools())
        self._server.add_generic_rpc_handlers((self._api(grpc), _Relayed(grpc, methods, self._relay)))
        await self.publish(targets)
        address = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        credentials = _credentials(grpc, self._options)
        try:
            if credentials is None:
                bound: int = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot serve gRPC at {address}; the port may be taken: {error}") from None
        await self._server.start()
        return bound

    def _api(self, grpc: Any) -> Any:
        """Return the handlers of Ray Serve's own service."""

        async def healthz(_request: bytes, context: Any) -> bytes:
            if not self._relay.applications:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "no application is served")
            message: bytes = own("ray.serve.HealthzResponse")(message="success").SerializeToString()
            return message

        async def list_applications(_request: bytes, _context: Any) -> bytes:
            answer = own("ray.serve.ListApplicationsResponse")(application_names=self._relay.applications)
            message: bytes = answer.SerializeToString()
            return message

        handlers = {"Healthz": healthz, "ListApplications": list_applications}
        return grpc.method_handlers_generic_handler(
            API, {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()}
        )

    # -- the controller and the replicas ------------------------------------------------------------------------------

    async def outlive(self) -> None:
        """Never return: a call whose failure tells the controller of this process's death at once."""
        await asyncio.Event().wait()

    async def publish(self, targets: bytes) -> None:
        """Take over what the controller published."""
        published = msgspec.msgpack.decode(targets, type=Targets)
        local_router.update(published)
        self._relay.update(published)
        serving = {
            app: bool(published.replicas.get(f"{app}#{ingress}")) for app, ingress in published.ingresses.items()
        }
        anything = any(serving.values())
        wanted = dict.fromkeys(("", *self._services), anything) | serving
        wanted |= dict.fromkeys(self._said.keys() - wanted.keys(), False)
        statuses = need("grpc_health.v1.health_pb2").HealthCheckResponse
        async with self._publishing:
            for service, healthy in wanted.items():
                if self._said.get(service) is not healthy:
                    self._said[service] = healthy
                    await self._health.set(service, statuses.SERVING if healthy else statuses.NOT_SERVING)

    async def receive(self, stream_id: int) -> Uploaded:
        """Return messages of a client that streams, to the replica that answers it."""
        return await self._relay.uploads.receive(stream_id)

    def report(self) -> bytes:
        """Return what this proxy has counted (`serve.metrics.report.Report`), for the collector."""
        numbers = self._relay.numbers
        queued = local_router.router().queued()
        return msgspec.msgpack.encode(report(ongoing=numbers.ongoing, queued=queued, families=numbers.families()))

    async def stop(self, grace_s: float) -> bytes:
        """Take no more calls, finish those in progress, for so many seconds at most, and report a last time."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace_s)
        return self.report()


def _credentials(grpc: Any, options: GRPCOptions) -> Any:
    """Return what TLS is done with; None without."""
    if options.ssl_certfile is None or options.ssl_keyfile is None:
        return None
    pair = (Path(options.ssl_keyfile).read_bytes(), Path(options.ssl_certfile).read_bytes())
    ca = None if options.ssl_ca_certs is None else Path(options.ssl_ca_certs).read_bytes()
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


class _Relayed:
    """The handlers of all methods that replicas answer (what grpc calls a generic handler)."""

    def __init__(self, grpc: Any, methods: Methods, relay: GRPCRelay) -> None:
        self._grpc = grpc
        self._methods = methods
        self._relay = relay
        self._made: dict[str, Any] = {}

    def service(self, details: Any) -> Any:
        """Return the handler of a call; None if there is no such method: the client gets UNIMPLEMENTED."""
        path = details.method
        if path not in self._made:
            method = self._methods.find(path)
            if method is None:
                return None
            self._made[path] = self._handler(method)
        return self._made[path]

    def _handler(self, method: Method) -> Any:
        relay = self._relay

        async def single(message: Any, context: Any) -> bytes:
            return await relay.single(method, message, context)

        async def stream(message: Any, context: Any) -> Any:
            async for item in relay.stream(method, message, context):
                yield item

        kinds = {
            (False, False): self._grpc.unary_unary_rpc_method_handler,
            (False, True): self._grpc.unary_stream_rpc_method_handler,
            (True, False): self._grpc.stream_unary_rpc_method_handler,
            (True, True): self._grpc.stream_stream_rpc_method_handler,
        }
        make = kinds[method.client_streams, method.server_streams]
        return make(stream if method.server_streams else single)


class _Pools:
    """The user's descriptors and ours, as reflection looks for them."""

    def __init__(self) -> None:
        self._pools = (need("google.protobuf.descriptor_pool").Default(), own_pool())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("Find"):
            raise AttributeError(name)

        def find(*args: Any) -> Any:
            for pool in self._pools[:-1]:
                try:
                    return getattr(pool, name)(*args)
                except KeyError:
                    continue
            return getattr(self._pools[-1], name)(*args)

        return find
