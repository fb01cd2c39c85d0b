"""How type checkers see ``.remote``: the function's own parameters, and references in their place.

``f.remote(1, b="x")`` is checked against the parameters of ``f`` as a direct call would be. Besides, each of up to
eight positional arguments may be an ``ObjectRef`` of what the parameter takes, because references are replaced by their
values before the function runs. (References given by keyword cannot be expressed; write ``# type: ignore`` there.)

Nothing here exists at run time but the names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from core.refs import ObjectRef

P = ParamSpec("P")
H = TypeVar("H")
F_co = TypeVar("F_co", covariant=True)
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
A6 = TypeVar("A6")
A7 = TypeVar("A7")
A8 = TypeVar("A8")


class Holds(Protocol[F_co]):
    """Anything that holds a callable of type ``F_co``; lets an overload look at the parameters of a ``ParamSpec``."""

    @property
    def _function(self) -> F_co: ...


class RemoteCall(Generic[P, H]):
    """The type of ``.remote``: takes what a function with parameters ``P`` takes, returns ``H``."""

    if TYPE_CHECKING:

        @property
        def _function(self) -> Callable[P, object]: ...
        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1], object]],
            a1: A1 | ObjectRef[A1],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            a3: A3 | ObjectRef[A3],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3, A4], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            a3: A3 | ObjectRef[A3],
            a4: A4 | ObjectRef[A4],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3, A4, A5], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            a3: A3 | ObjectRef[A3],
            a4: A4 | ObjectRef[A4],
            a5: A5 | ObjectRef[A5],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3, A4, A5, A6], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            a3: A3 | ObjectRef[A3],
            a4: A4 | ObjectRef[A4],
            a5: A5 | ObjectRef[A5],
            a6: A6 | ObjectRef[A6],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3, A4, A5, A6, A7], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            a3: A3 | ObjectRef[A3],
            a4: A4 | ObjectRef[A4],
            a5: A5 | ObjectRef[A5],
            a6: A6 | ObjectRef[A6],
            a7: A7 | ObjectRef[A7],
            /,
        ) -> H: ...
        @overload
        def __call__(
            self: Holds[Callable[[A1, A2, A3, A4, A5, A6, A7, A8], object]],
            a1: A1 | ObjectRef[A1],
            a2: A2 | ObjectRef[A2],
            a3: A3 | ObjectRef[A3],
            a4: A4 | ObjectRef[A4],
            a5: A5 | ObjectRef[A5],
            a6: A6 | ObjectRef[A6],
            a7: A7 | ObjectRef[A7],
            a8: A8 | ObjectRef[A8],
            /,
        ) -> H: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Submit the call."""
