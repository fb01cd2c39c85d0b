"""``DeploymentHandle``: a deployment as Python code sees it."""

from __future__ import annotations

import threading
from typing import Any, Generic, TypeVar

import msgspec

from serve.context import get_request_context, new_request_id
from serve.handle.call import Call, StreamCall
from serve.handle.response import DeploymentResponse, DeploymentResponseGenerator
from serve.handle.router import Wish
from serve.specs import DeploymentID, RequestMeta

T = TypeVar("T")


class _Options(msgspec.Struct, frozen=True):
    method_name: str = "__call__"
    multiplexed_model_id: str = ""
    session_id: str = ""
    stream: bool = False


_CHECKS: dict[str, type] = {"method_name": str, "multiplexed_model_id": str, "session_id": str, "stream": bool}


class DeploymentHandle(Generic[T]):
    """Calls a deployment's replicas: ``handle.method.remote(...)``, or ``handle.remote(...)`` for ``__call__``.

    Comes from ``serve.run``, ``serve.get_app_handle``, ``serve.get_deployment_handle``, or in place of a deployment
    bound into another. Can be pickled, kept, and used by many threads and tasks at a time.
    """

    def __init__(self, deployment_name: str, app_name: str = "default", _options: _Options | None = None) -> None:
        self.__dict__["_id"] = DeploymentID(deployment_name, app_name)
        self.__dict__["_options"] = _options or _Options()

    @property
    def deployment_id(self) -> DeploymentID:
        """Which deployment of which application."""
        identifier: DeploymentID = self.__dict__["_id"]
        return identifier

    @property
    def deployment_name(self) -> str:
        """Name of the deployment."""
        return self.deployment_id.name

    @property
    def app_name(self) -> str:
        """Name of the application."""
        return self.deployment_id.app

    def options(self, **options: Any) -> DeploymentHandle[T]:
        """Return the same handle with other options.

        Args:
            **options: ``method_name``; ``multiplexed_model_id``: the model that the request is for; ``session_id``:
                requests of one session go to one replica; ``stream``: the result is a generator.

        Raises:
            ValueError: an unknown option.
            TypeError: a value of the wrong type.
        """
        for name, value in options.items():
            if name not in _CHECKS:
                raise ValueError(f"unknown option {name!r} of a handle; expected one of {', '.join(_CHECKS)}")
            if not isinstance(value, _CHECKS[name]):
                raise TypeError(f"{name} is a {_CHECKS[name].__name__}, not {value!r}")
        return DeploymentHandle(
            self.deployment_name, self.app_name, msgspec.structs.replace(self.__dict__["_options"], **options)
        )

    def __getattr__(self, name: str) -> DeploymentHandle[T]:
        if name.startswith("__"):
            raise AttributeError(name)
        method = self.options(method_name=name)
        self.__dict__[name] = method
        return method

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a handle has no attributes to set ({name!r})")

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call, and return a `DeploymentResponse` at once (with ``stream=True`` a `DeploymentResponseGenerator`).

        Args:
            *args: for the method; responses among them are waited for and replaced by their values.
            **kwargs: likewise.

        Raises:
            TypeError: an argument cannot be pickled.
        """
        identifier: DeploymentID = self.__dict__["_id"]
        options: _Options = self.__dict__["_options"]
        context = get_request_context()
        meta = RequestMeta(
            context.request_id or new_request_id(),
            options.method_name,
            identifier.app,
            context.route,
            options.multiplexed_model_id,
            options.session_id,
            context.deadline,
            options.stream,
        )
        wish = Wish(identifier, None, options.multiplexed_model_id, options.session_id)
        pending = [value for value in (*args, *kwargs.values()) if isinstance(value, DeploymentResponse)]
        call = (StreamCall if options.stream else Call)(wish, meta, args, kwargs)
        if pending:
            _start_after(call, pending)
        else:
            call.start()
        return DeploymentResponseGenerator(call) if isinstance(call, StreamCall) else DeploymentResponse(call)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeploymentHandle):
            return False
        mine: object = self.__dict__["_options"]
        theirs: object = other.__dict__["_options"]
        return self.deployment_id == other.deployment_id and mine == theirs

    def __hash__(self) -> int:
        return hash((self.deployment_id, self.__dict__["_options"]))

    def __reduce__(self) -> tuple[Any, ...]:
        return (DeploymentHandle, (self.deployment_name, self.app_name, self.__dict__["_options"]))

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment={self.deployment_name!r}, app={self.app_name!r})"


def _start_after(call: Call, pending: list[DeploymentResponse[Any]]) -> None:
    """Start a call when the responses among its arguments are there; the last one to come starts it."""
    missing = len(pending)
    lock = threading.Lock()

    def arrived() -> None:
        nonlocal missing
        with lock:
            missing -= 1
            last = not missing
        if last:
            call.start_with(lambda value: value.reference() if isinstance(value, DeploymentResponse) else value)

    for response in pending:
        response.when_done(arrived)
