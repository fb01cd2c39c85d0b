"""The methods that clients can call: those of the services the user named, and of ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from serve.grpc_calls.messages import OWN, need, own_pool

#: the services that every proxy offers
INFERENCE = "inference.GRPCInferenceService"
API = "ray.serve.RayServeAPIService"


@dataclass(frozen=True)
class Method:
    """One method of a service."""

    path: str
    client_streams: bool
    server_streams: bool
    #: of the request's message, and the module that defines it; empty if only `deserializer` knows
    type_name: str
    module: str
    #: what makes the request of its bytes, where the replica cannot
    deserializer: Callable[[bytes], Any] | None = None

    @property
    def name(self) -> str:
        """The method of the deployment."""
        return self.path.rpartition("/")[2]


class Methods:
    """All methods by path, found out when they are called first.

    Args:
        functions: ``add_...Servicer_to_server`` functions of generated modules.
    """

    def __init__(self, functions: Iterable[Callable[[Any, Any], object]]) -> None:
        recorder = _Recorder()
        for function in functions:
            function(_Servicer(), recorder)
        self._handlers: list[Any] = recorder.handlers
        self._known: dict[str, Method | None] = {method.path: method for method in _own_methods()}
        self._details: Any = need("grpc").HandlerCallDetails

    @property
    def services(self) -> list[str]:
        """Full names of the user's services."""
        return [str(handler.service_name()) for handler in self._handlers]

    def find(self, path: str) -> Method | None:
        """Return a method; None if no service has it."""
        if path not in self._known:
            found = self._look(path)
            if found is None:  # not remembered: clients may think of any number of names
                return None
            self._known[path] = found
        return self._known[path]

    def _look(self, path: str) -> Method | None:
        details = _Details(path)
        for handler in self._handlers:
            described = handler.service(details)
            if described is not None:
                break
        else:
            return None
        deserializer = described.request_deserializer
        message = getattr(deserializer, "__self__", None)
        descriptor = getattr(message, "DESCRIPTOR", None)
        streams = bool(described.request_streaming), bool(described.response_streaming)
        if descriptor is None:
            return Method(path, *streams, "", "", deserializer)
        return Method(path, *streams, str(descriptor.full_name), str(message.__module__))


class _Details:
    """What a generic handler looks at to tell whether a call is its."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


class _Servicer:
    """Has every method; none is ever called."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _Recorder:
    """Stands in for a server while the user's functions register their services."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Note handlers."""
        self.handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Do nothing: generated code that calls this has called the other too."""


def _own_methods() -> list[Method]:
    service = own_pool().FindServiceByName(INFERENCE)
    return [
        Method(
            f"/{INFERENCE}/{method.name}",
            method.client_streaming,
            method.server_streaming,
            method.input_type.full_name,
            OWN,
        )
        for method in service.methods
    ]


def load_functions(given: Iterable[str]) -> list[Callable[[Any, Any], object]]:
    """Import ``add_...Servicer_to_server`` functions.

    Args:
        given: their import paths: ``package.module.function`` or ``package.module:function``.

    Raises:
        ValueError: a path does not lead to a function; says which, and why.
    """
    return [_load(path) for path in given]


def _load(path: str) -> Callable[[Any, Any], object]:
    module, _, attribute = path.replace(":", ".").rpartition(".")
    if not module:
        raise ValueError(
            f"grpc_servicer_functions: {path!r} is no import path; expected package.module.add_...Servicer_to_server"
        )
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"grpc_servicer_functions: {path!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ValueError(  # noqa: TRY004 - the value is the import path
            f"grpc_servicer_functions: {path!r} is {function!r}, which is no function"
        )
    found: Callable[[Any, Any], object] = function
    return found
