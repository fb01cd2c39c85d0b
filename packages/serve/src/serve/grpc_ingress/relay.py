"""Relays gRPC calls to replicas: chooses the application and the replica, sends bytes there and bytes back.

Every call ends with a status: what the replica says, or here RESOURCE_EXHAUSTED (the line is full), UNAVAILABLE (no
replica, or it died), NOT_FOUND (no such application), DEADLINE_EXCEEDED. A client that goes away, or whose deadline is
over, cancels the user's method.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from serve.context import new_request_id
from serve.errors import ReplicaUnavailableError, RequestCancelledError
from serve.grpc_calls.messages import need
from serve.grpc_calls.records import Incoming, Outgoing, Upload
from serve.grpc_calls.serving import status_of
from serve.grpc_ingress.gates import Gates, code_of
from serve.grpc_ingress.methods import Method
from serve.grpc_ingress.numbers import Numbers
from serve.grpc_ingress.uploads import Uploads
from serve.handle.call import Call, StreamCall
from serve.handle.response import DeploymentResponse, DeploymentResponseGenerator
from serve.handle.router import Wish
from serve.handle.traffic import draw
from serve.specs import DeploymentID, RequestMeta, Route, Split, Targets
from serve.state.routing import choose_split

_CANCELLED, _UNKNOWN, _DEADLINE_EXCEEDED, _NOT_FOUND, _UNAVAILABLE = 1, 2, 4, 5, 14


class _StatusError(Exception):
    """The call ends here with a status."""

    def __init__(self, code: int, details: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.metadata = metadata


@dataclass
class _Counted:
    """What is known of a call when it ends."""

    application: str = ""
    #: number of its status; cancelled, as long as nothing else is known
    code: int = _CANCELLED


class GRPCRelay:
    """See the module's docstring.

    Args:
        actor_name: of this process's actor, which replicas ask for uploads.
        table: path of the table in which gateways count.
        request_timeout_s: seconds that a call may take; None for as long as its client waits.
    """

    def __init__(self, actor_name: str, table: str, request_timeout_s: float | None) -> None:
        self._actor_name = actor_name
        self._timeout_s = request_timeout_s
        self._routes: dict[str, Route] = {}
        self._gates = Gates(table)
        self.uploads = Uploads()
        grpc = need("grpc")
        self._codes: dict[int, Any] = {code.value[0]: code for code in grpc.StatusCode}
        self._compressions: dict[int, Any] = {int(each): each for each in grpc.Compression}
        self.numbers = Numbers()

    def update(self, targets: Targets) -> None:
        """Take over a publication."""
        routed = {route.app: route for route in targets.routes}
        configs = {app: targets.configs.get(f"{app}#{ingress}", {}) for app, ingress in targets.ingresses.items()}
        self._routes = {
            app: routed.get(app) or _unrouted(app, ingress, targets.splits.get(app), configs[app])
            for app, ingress in targets.ingresses.items()
        }
        self._gates.update({app: gateway for app, config in configs.items() if (gateway := config.get("gateway"))})

    @property
    def applications(self) -> list[str]:
        """Names of the applications that calls can name."""
        return sorted(self._routes)

    # -- the four kinds of calls --------------------------------------------------------------------------------------

    async def single(self, method: Method, message: Any, context: Any) -> bytes:
        """Answer a call whose answer is one message; `message` is an iterator if the client streams."""
        with self._counted(method) as counted:
            outgoing = await self._single(method, message, context, counted)
            counted.code = outgoing.code
            if outgoing.compression is not None:
                context.set_compression(self._compressions[outgoing.compression])
            if outgoing.code:
                await self._abort(context, outgoing)
            context.set_trailing_metadata((*context.trailing_metadata(), *outgoing.metadata))
            if outgoing.details:
                context.set_details(outgoing.details)
            return outgoing.message or b""

    async def _single(self, method: Method, message: Any, context: Any, counted: _Counted) -> Outgoing:
        upload = None
        try:
            upload = self.uploads.begin(message) if method.client_streams else None
            given = None if upload else message
            wish, meta, incoming = self._prepare(method, given, upload, context, counted, stream=False)
            async with _until(meta.deadline):
                call = Call(wish, meta, (incoming,), {})
                call.start()
                outgoing: Outgoing = await DeploymentResponse(call)
                return outgoing
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status
            return _status(error)
        finally:
            if upload is not None:
                self.uploads.end(upload)

    async def stream(self, method: Method, message: Any, context: Any) -> AsyncIterator[bytes]:
        """Answer a call whose answer is a stream; `message` is an iterator if the client streams."""
        with self._counted(method) as counted:
            end = Outgoing()
            async with contextlib.aclosing(self._stream(method, message, context, counted)) as items:
                async for item in items:
                    if type(item) is Outgoing:
                        end = item
                    else:
                        yield item
            counted.code = end.code
            if end.code:
                await self._abort(context, end)
            context.set_trailing_metadata((*context.trailing_metadata(), *end.metadata))
            if end.details:
                context.set_details(end.details)

    async def _stream(self, method: Method, message: Any, context: Any, counted: _Counted) -> AsyncGenerator[Any, None]:
        upload = None
        responses: DeploymentResponseGenerator[Any] | None = None
        try:
            upload = self.uploads.begin(message) if method.client_streams else None
            given = None if upload else message
            wish, meta, incoming = self._prepare(method, given, upload, context, counted, stream=True)
            call = StreamCall(wish, meta, (incoming,), {})
            call.start()
            responses = DeploymentResponseGenerator(call)
            while True:
                async with _until(meta.deadline):
                    item = await anext(responses, None)
                if item is None:
                    responses = None
                    return
                yield item
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status
            yield _status(error)
        finally:
            if responses is not None:
                responses.cancel()
            if upload is not None:
                self.uploads.end(upload)

    # -- their parts --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _counted(self, method: Method) -> Iterator[_Counted]:
        counted, began = _Counted(), time.perf_counter()
        self.numbers.ongoing += 1
        try:
            yield counted
        finally:
            self.numbers.ongoing -= 1
            code = self._codes.get(counted.code, self._codes[_UNKNOWN]).name
            self.numbers.ended(counted.application, method.path, code, time.perf_counter() - began)

    def _prepare(
        self, method: Method, message: Any, upload: int | None, context: Any, counted: _Counted, *, stream: bool
    ) -> tuple[Wish, RequestMeta, Incoming]:
        metadata = tuple((key, value) for key, value in context.invocation_metadata() or ())
        fields = {key: value for key, value in metadata if isinstance(value, str)}
        request_id = fields.get("request_id") or new_request_id()
        context.set_trailing_metadata((("request_id", request_id),))
        route = self._route(fields.get("application", ""))
        counted.application = route.app
        verdict = self._judge(route, method.path, metadata, context.peer())
        model_id = fields.get("multiplexed_model_id", "")
        session_id = fields.get("session_id", "")
        split = choose_split(route, fields, draw(route.app, session_id))
        meta = RequestMeta(
            request_id,
            method.name,
            route.app,
            route.prefix,
            model_id,
            session_id,
            self._deadline(route.request_timeout_s, context.time_remaining(), verdict and verdict.timeout_s),
            stream,
            split.revision if len(route.splits) > 1 else 0,
            grpc=True,
        )
        type_name, module = method.type_name, method.module
        if method.deserializer is not None and message is not None:
            message = method.deserializer(message)
        incoming = Incoming(
            method.path,
            message,
            type_name,
            module,
            None if upload is None else Upload(self._actor_name, upload),
            metadata,
            context.peer(),
            _auth(context),
        )
        rank = verdict.rank if verdict is not None else 0
        return Wish(split.ingress, split.version, model_id, session_id, rank=rank), meta, incoming

    def _judge(self, route: Route, path: str, metadata: tuple[tuple[str, str | bytes], ...], peer: str) -> Any:
        """Return the verdict of the application's gateway, if it has one; who is refused goes no further."""
        try:
            verdict = self._gates.judge(route.app, path, metadata, peer)
        except ValueError as error:
            raise _StatusError(_UNAVAILABLE, str(error)) from None
        if verdict is not None and verdict.status:
            fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in verdict.fields)
            raise _StatusError(code_of(verdict.status), verdict.text, fields)
        return verdict

    def _route(self, application: str) -> Route:
        if application:
            route = self._routes.get(application)
            if route is not None:
                return route
            raise _StatusError(_NOT_FOUND, f"there is no application {application!r}; {self._known()}")
        if len(self._routes) == 1:
            return next(iter(self._routes.values()))
        if not self._routes:
            raise _StatusError(_UNAVAILABLE, "no application is served")
        raise _StatusError(
            _NOT_FOUND, f"several applications are served: name one in the metadata 'application'; {self._known()}"
        )

    def _known(self) -> str:
        return f"there are: {', '.join(self.applications) or 'none'}"

    def _deadline(self, *limits: float | None) -> float | None:
        given = [limit for limit in (*limits, self._timeout_s) if limit is not None]
        return time.time() + min(given) if given else None

    async def _abort(self, context: Any, outgoing: Outgoing) -> None:
        trailing = (*context.trailing_metadata(), *outgoing.metadata)
        code = self._codes.get(outgoing.code, self._codes[_UNKNOWN])
        await context.abort(code, outgoing.details, trailing)


def _unrouted(app: str, ingress: str, shares: tuple[Split, ...] | None, config: dict[str, Any]) -> Route:
    """Return what stands for the route of an application that has none in HTTP."""
    everything = Split(0, DeploymentID(ingress, app), None, 1.0)
    return Route("", app, shares or (everything,), config.get("request_timeout_s"))


def _auth(context: Any) -> dict[str, Any]:
    if context.peer_identity_key() is None:  # nobody has said who they are
        return {}
    return {
        "context": dict(context.auth_context()),
        "identities": list(context.peer_identities() or ()),
        "key": context.peer_identity_key(),
    }


def _status(error: Exception) -> Outgoing:
    match error:
        case _StatusError():
            return Outgoing(None, error.code, error.details, error.metadata)
        case ReplicaUnavailableError():
            return Outgoing(None, _UNAVAILABLE, str(error))
        case RequestCancelledError():
            return Outgoing(None, _CANCELLED, str(error))
        case TimeoutError():
            return Outgoing(None, _DEADLINE_EXCEEDED, "the request's time is over")
    return Outgoing(None, *status_of(error))


def _until(deadline: float | None) -> asyncio.Timeout:
    return asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time()))
