"""A gRPC call in a replica: the message is decoded, the user's method called, its answer or error encoded.

What the user's method raises becomes a status here, so that it needs not to be pickled. A method's errors are INTERNAL
unless they say otherwise: a status that the method set on its context, or an error with ``code()`` and ``details()``
as `grpc.RpcError` and `serve.grpc_util.gRPCStatusError` have them.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import core
from core.exceptions import RayTaskError
from serve.errors import BackPressureError, DeploymentUnavailableError, RayServeException
from serve.grpc_calls.messages import find, need
from serve.grpc_calls.records import Incoming, Outgoing, Upload, Uploaded
from serve.grpc_util import RayServegRPCContext, gRPCInputStream
from serve.specs import NAMESPACE

logger = logging.getLogger("serve")

#: bytes of a status' text; clients refuse long trailers
MAX_DETAILS = 4096


class Code(Protocol):
    """What a replica knows of the user's code."""

    def method(self, name: str) -> Callable[..., Any]:
        """Return a method; AttributeError if there is none."""

    async def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it."""

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Call it and iterate over what it yields."""


async def answer(code: Code, name: str, call: Incoming) -> Outgoing:
    """Answer a call with a single message."""
    context = None
    try:
        args, kwargs = _arguments(code, name, call)
        context = kwargs.get("grpc_context")
        result = await code.call(name, args, kwargs)
        return _end(_encoded(result, call), context)
    except Exception as error:  # noqa: BLE001 - the user's
        return _failed(error, call, context)


async def stream(code: Code, name: str, call: Incoming) -> AsyncIterator[Any]:
    """Answer a call with a stream of messages, and an `Outgoing` at its end."""
    context = None
    try:
        args, kwargs = _arguments(code, name, call)
        context = kwargs.get("grpc_context")
        async for item in code.stream(name, args, kwargs):
            yield _encoded(item, call)
        end = _end(None, context)
    except Exception as error:  # noqa: BLE001 - the user's
        end = _failed(error, call, context)
    yield end


def _arguments(code: Code, name: str, call: Incoming) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        method = code.method(name)
    except AttributeError as error:
        raise _ClientError("UNIMPLEMENTED", str(error)) from None
    given = _input_stream(call.upload, call) if call.upload is not None else _decoded(call.message, call)
    if not _takes_context(getattr(method, "__func__", method)):
        return (given,), {}
    return (given,), {"grpc_context": RayServegRPCContext(_Client(call))}


@functools.lru_cache(maxsize=256)
def _takes_context(function: Callable[..., Any]) -> bool:
    return "grpc_context" in inspect.signature(function).parameters


class _ClientError(RayServeException):
    """The call cannot be made of this deployment, or not so: the user's code has no part in it.

    Args:
        code: name of the status.
        details: for the client.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(code, details)
        self._code = code
        self._details = details

    def code(self) -> Any:
        return need("grpc").StatusCode[self._code]

    def details(self) -> str:
        return self._details


class _Client:
    """What `RayServegRPCContext` takes over, from a record."""

    def __init__(self, call: Incoming) -> None:
        self._call = call

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._call.metadata

    def peer(self) -> str:
        return self._call.peer

    def auth_context(self) -> dict[str, Any]:
        context: dict[str, Any] = self._call.auth.get("context", {})
        return context

    def peer_identities(self) -> Any:
        return self._call.auth.get("identities")

    def peer_identity_key(self) -> Any:
        return self._call.auth.get("key")


def _decoded(message: Any, call: Incoming) -> Any:
    if not call.type_name:
        return message
    try:
        return find(call.type_name, call.module).FromString(message)
    except need("google.protobuf.message").DecodeError:
        raise _ClientError("INVALID_ARGUMENT", f"what was sent to {call.path} is no {call.type_name}") from None


def _encoded(result: Any, call: Incoming) -> bytes:
    if isinstance(result, bytes):
        return result
    serialize = getattr(result, "SerializeToString", None)
    if serialize is None:
        raise TypeError(f"the method for {call.path} must return a message of its service, not {result!r}")
    encoded: bytes = serialize()
    return encoded


def _input_stream(upload: Upload, call: Incoming) -> gRPCInputStream[Any]:
    proxy: Any = None

    async def more() -> tuple[Sequence[Any], bool, bool]:
        nonlocal proxy
        proxy = proxy or core.get_actor(upload.actor_name, namespace=NAMESPACE)
        batch: Uploaded = await proxy.receive.remote(upload.stream_id)
        return [_decoded(message, call) for message in batch.messages], batch.ended, batch.cancelled

    return gRPCInputStream(more)


def _end(message: bytes | None, context: RayServegRPCContext | None) -> Outgoing:
    if context is None:
        return Outgoing(message)
    code, compression = context.code(), context.compression()
    return Outgoing(
        message,
        0 if code is None else int(code.value[0]),
        context.details(),
        tuple(context.trailing_metadata()),
        None if compression is None else int(compression),
    )


def _failed(error: Exception, call: Incoming, context: RayServegRPCContext | None) -> Outgoing:
    code, details = status_of(error)
    end = _end(None, context)
    if end.code:  # the method's own word
        code, details = end.code, end.details or details
    elif code in _OURS:
        logger.error("the method for %s failed", call.path, exc_info=error)
    return Outgoing(None, code, details, end.metadata, end.compression)


#: numbers of statuses
_UNKNOWN, _DEADLINE_EXCEEDED, _RESOURCE_EXHAUSTED, _INTERNAL, _UNAVAILABLE = 2, 4, 8, 13, 14
#: those that say that the user's code is at fault, so that its traceback is logged
_OURS = (_UNKNOWN, _INTERNAL)


def status_of(error: BaseException) -> tuple[int, str]:
    """Return the number of the status, and the text, that an error ends a call with."""
    if isinstance(error, RayTaskError) and error.cause is not None:  # of another deployment that was called
        error = error.cause
    if isinstance(error, BackPressureError):
        return _RESOURCE_EXHAUSTED, str(error)
    if isinstance(error, DeploymentUnavailableError):
        return _UNAVAILABLE, str(error)
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if callable(code) and callable(details):
        status = getattr(code(), "value", None)
        if isinstance(status, tuple) and status and status[0]:
            return int(status[0]), _short(str(details() or ""))
    if isinstance(error, TimeoutError):
        return _DEADLINE_EXCEEDED, _short(str(error) or "the request's time is over")
    return _INTERNAL, _short(f"{type(error).__name__}: {error}")


def _short(text: str) -> str:
    return text.encode()[:MAX_DETAILS].decode(errors="ignore")
