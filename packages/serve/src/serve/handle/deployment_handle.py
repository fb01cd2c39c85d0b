"""``DeploymentHandle``: a deployment as Python code sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

import msgspec

from serve.context import get_request_context, new_request_id
from serve.handle import local_router, traffic
from serve.handle.call import Call, StreamCall
from serve.handle.response import DeploymentResponse, DeploymentResponseGenerator
from serve.handle.router import Wish
from serve.specs import DeploymentID, RequestMeta

if TYPE_CHECKING:
    import typing_extensions

    from serve.handle.typed import RemoteOfHandle

    T_co = typing_extensions.TypeVar("T_co", covariant=True, default=Any)
else:
    T_co = TypeVar("T_co", covariant=True)


class Startable(Protocol):
    """A call that can wait for its arguments."""

    def start_with(self, resolve: Callable[[Any], Any]) -> None:
        """Start with other arguments: `resolve` returns what takes the place of each; errors are the outcome."""


class _Options(msgspec.Struct, frozen=True):
    method_name: str = "__call__"
    multiplexed_model_id: str = ""
    session_id: str = ""
    stream: bool = False
    revision: int = 0


_CHECKS: dict[str, type] = {
    "method_name": str,
    "multiplexed_model_id": str,
    "session_id": str,
    "stream": bool,
    "revision": int,
}


class HandleOptions(TypedDict, total=False):
    """Options of a handle that leave open what it calls and how."""

    multiplexed_model_id: str
    session_id: str
    revision: int


class DeploymentHandle(Generic[T_co]):
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

    if TYPE_CHECKING:

        @overload
        def options(self, *, stream: Literal[True], **options: Unpack[HandleOptions]) -> StreamingHandle[T_co]: ...
        @overload
        def options(
            self, *, method_name: str, stream: bool = ..., **options: Unpack[HandleOptions]
        ) -> DeploymentHandle[Any]: ...
        @overload
        def options(
            self, *, stream: Literal[False] = ..., **options: Unpack[HandleOptions]
        ) -> DeploymentHandle[T_co]: ...

    def options(self, **options: Any) -> DeploymentHandle[Any]:
        """Return the same handle with other options.

        Args:
            **options: ``method_name``; ``multiplexed_model_id``: the model that the request is for; ``session_id``:
                requests of one session go to one replica; ``stream``: the result is a generator; ``revision``: of two
                revisions that share the requests, the one that answers.

        Raises:
            ValueError: an unknown option.
            TypeError: a value of the wrong type.
        """
        for name, value in options.items():
            if name not in _CHECKS:
                raise ValueError(f"unknown option {name!r} of a handle; expected one of {', '.join(_CHECKS)}")
            if not isinstance(value, _CHECKS[name]):
                raise TypeError(f"{name} is a {_CHECKS[name].__name__}, not {value!r}")
        changed = msgspec.structs.replace(self.__dict__["_options"], **options)
        return type(self)(self.deployment_name, self.app_name, changed)

    def __getattr__(self, name: str) -> DeploymentHandle[Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        method = self.options(method_name=name)
        self.__dict__[name] = method
        return method

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a handle has no attributes to set ({name!r})")

    if TYPE_CHECKING:
        remote: RemoteOfHandle
        """Call, and return a `DeploymentResponse` at once (with ``stream=True`` a `DeploymentResponseGenerator`)."""

    else:

        def remote(self, *args, **kwargs):
            """Call, and return a `DeploymentResponse` at once (with ``stream=True`` a `DeploymentResponseGenerator`).

            Args:
                *args: for the method; responses among them are waited for and replaced by their values.
                **kwargs: likewise.

            Raises:
                TypeError: an argument cannot be pickled.
            """
            identifier: DeploymentID = self.__dict__["_id"]
            meta = self._meta()
            wish = Wish(identifier, None, meta.multiplexed_model_id, meta.session_id)
            targets = local_router.targets()
            if targets is not None and identifier.app in targets.splits:
                wish = traffic.direct(wish, meta, targets, get_request_context())
            pending = [value for value in (*args, *kwargs.values()) if isinstance(value, DeploymentResponse)]
            call = (StreamCall if meta.stream else Call)(wish, meta, args, kwargs)
            if pending:
                start_after(call, pending)
            else:
                call.start()
                if targets is not None and identifier.app in targets.splits:
                    traffic.cast_shadows(wish, meta, targets, get_request_context(), args, kwargs)
            return DeploymentResponseGenerator(call) if isinstance(call, StreamCall) else DeploymentResponse(call)

    def _meta(self) -> RequestMeta:
        """What goes with a call: the options, and what the calling task knows of its own request."""
        options: _Options = self.__dict__["_options"]
        context = get_request_context()
        return RequestMeta(
            context.request_id or new_request_id(),
            options.method_name,
            self.app_name,
            context.route,
            options.multiplexed_model_id,
            options.session_id,
            context.deadline,
            options.stream,
            options.revision,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeploymentHandle):
            return False
        mine: object = self.__dict__["_options"]
        theirs: object = other.__dict__["_options"]
        return self.deployment_id == other.deployment_id and mine == theirs

    def __hash__(self) -> int:
        return hash((self.deployment_id, self.__dict__["_options"]))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.deployment_name, self.app_name, self.__dict__["_options"]))

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment={self.deployment_name!r}, app={self.app_name!r})"


if TYPE_CHECKING:

    class StreamingHandle(DeploymentHandle[T_co]):
        """How type checkers see a handle with ``stream=True``: it is called for generators."""


def start_after(call: Startable, pending: list[DeploymentResponse[Any]]) -> None:
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
