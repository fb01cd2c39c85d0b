"""How type checkers see calls through handles: the method's own parameters, and responses in their place.

``handle.remote(1, b="x")`` is checked against ``__call__`` of the class (or the function) as a direct call would be,
and the response knows its type. Besides, each of up to four positional arguments may be a `DeploymentResponse` of what
the parameter takes, because responses are replaced by their values. Other methods are checked through `typed`, if they
are decorated with `method`.

Nothing here does anything at run time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from serve.handle.deployment_handle import DeploymentHandle, StreamingHandle
    from serve.handle.response import DeploymentResponse, DeploymentResponseGenerator

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
Y = TypeVar("Y")
Local = TypeVar("Local")
Remote = TypeVar("Remote")
F_co = TypeVar("F_co", covariant=True)
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")


class Holds(Protocol[F_co]):
    """Anything that holds a callable of type ``F_co``; lets an overload look at the parameters of a ``ParamSpec``."""

    @property
    def _function(self) -> F_co: ...


class RemoteCall(Generic[P, Remote]):
    """The type of ``.remote``: takes what a function with parameters ``P`` takes, returns ``Remote``."""

    if TYPE_CHECKING:

        @property
        def _function(self) -> Callable[P, object]: ...
        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Remote: ...
        @overload
        def __call__(self: Holds[Callable[[A1], object]], a1: A1 | DeploymentResponse[A1], /) -> Remote: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2], object]],
            a1: A1 | DeploymentResponse[A1],
            a2: A2 | DeploymentResponse[A2],
            /,
        ) -> Remote: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3], object]],
            a1: A1 | DeploymentResponse[A1],
            a2: A2 | DeploymentResponse[A2],
            a3: A3 | DeploymentResponse[A3],
            /,
        ) -> Remote: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3, A4], object]],
            a1: A1 | DeploymentResponse[A1],
            a2: A2 | DeploymentResponse[A2],
            a3: A3 | DeploymentResponse[A3],
            a4: A4 | DeploymentResponse[A4],
            /,
        ) -> Remote: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Submit the call."""


class RemoteOfHandle:
    """The type of a handle's attribute ``remote``: depends on what the handle calls."""

    if TYPE_CHECKING:

        @overload
        def __get__(
            self, instance: StreamingHandle[Callable[P, AsyncIterator[Y]]], owner: Any
        ) -> RemoteCall[P, DeploymentResponseGenerator[Y]]: ...
        @overload
        def __get__(
            self, instance: StreamingHandle[Callable[P, Iterator[Y]]], owner: Any
        ) -> RemoteCall[P, DeploymentResponseGenerator[Y]]: ...
        @overload
        def __get__(
            self, instance: DeploymentHandle[Callable[P, Coroutine[Any, Any, R]]], owner: Any
        ) -> RemoteCall[P, DeploymentResponse[R]]: ...
        @overload
        def __get__(
            self, instance: DeploymentHandle[Callable[P, R]], owner: Any
        ) -> RemoteCall[P, DeploymentResponse[R]]: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class MethodDefinition(Generic[S, P, Local, Remote]):
    """How type checkers see a method decorated with `method`: to call inside, and by ``.remote`` on handles."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> Callable[Concatenate[S, P], Local]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> BoundMethod[P, Local, Remote]: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class BoundMethod(Generic[P, Local, Remote]):
    """A method decorated with `method`, of an instance or of a handle seen through `typed`."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Local:
            """Call the method directly, inside of the deployment."""
            raise NotImplementedError

        @property
        def remote(self) -> RemoteCall[P, Remote]:
            """Call the method on a replica; return a response at once."""
            raise NotImplementedError

        def options(self, **options: Any) -> Any:
            """Return the same method with other options for this call."""
            raise NotImplementedError


@overload
def method(
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
) -> MethodDefinition[S, P, Coroutine[Any, Any, R], DeploymentResponse[R]]: ...
@overload
def method(  # type: ignore[overload-overlap]  # an iterator is an object; the first match is meant
    function: Callable[Concatenate[S, P], AsyncIterator[Y]], /
) -> MethodDefinition[S, P, AsyncIterator[Y], DeploymentResponseGenerator[Y]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[S, P], Iterator[Y]], /
) -> MethodDefinition[S, P, Iterator[Y], DeploymentResponseGenerator[Y]]: ...
@overload
def method(function: Callable[Concatenate[S, P], R], /) -> MethodDefinition[S, P, R, DeploymentResponse[R]]: ...
def method(function: Any, /) -> Any:
    """Let type checkers know a method of a deployment through `typed`. At run time it returns the method itself.

    Args:
        function: the method. A generator is called through ``typed(handle.options(stream=True))``.
    """
    return function


def typed(handle: DeploymentHandle[T]) -> T:
    """Return a handle as a type checker's instance of the deployment's class, at no cost.

    Methods decorated with `method` are then checked: ``typed(model).predict.remote("x")`` is an error if ``predict``
    takes an int, and the response it returns knows its type. At run time it returns ``handle`` itself.
    """
    same: Any = handle
    return same  # type: ignore[no-any-return]
