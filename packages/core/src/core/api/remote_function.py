"""Remote functions: what ``@remote`` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, Unpack, overload

from core import current
from core.engine.base import FunctionDescriptor
from core.options import TaskOptions
from core.refs import ObjectRef, ObjectRefGenerator, engine_for_call
from core.signature import CallSignature

if TYPE_CHECKING:
    from core.api.calls import RemoteCall
    from core.api.option_types import TaskCallOptions

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")


class _RemoteCallable:
    """What all kinds of remote functions share; see :class:`RemoteFunction`."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        _refuse_coroutine_function(function)
        is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        name = f"{function.__module__}.{function.__qualname__}"
        self._set(
            FunctionDescriptor(function, name, is_generator),
            CallSignature.of(function),
            TaskOptions.of(options, is_generator=is_generator),
        )

    def _set(self, descriptor: FunctionDescriptor, signature: CallSignature, options: TaskOptions) -> None:
        self._descriptor = descriptor
        self._signature = signature
        self._check = signature.check
        self._options = options
        wrapper: Any = self
        functools.update_wrapper(wrapper, descriptor.function)

    @property
    def _function(self) -> Any:
        return self._descriptor.function

    @property
    def plain(self) -> tuple[Callable[..., Any], TaskOptions]:
        """The plain function and its options."""
        return self._descriptor.function, self._options

    def _submit(self, *args: Any, **kwargs: Any) -> Any:
        """Start the function in another process; return a reference to its result at once.

        References among the arguments (not inside other containers) are replaced by their values before the function
        runs. Arguments are copied now: changing them afterwards is not seen.

        Returns:
            An ``ObjectRef``; a list of them if ``num_returns`` is not 1; None if it is 0; for a generator function an
            ``ObjectRefGenerator``.

        Raises:
            TypeError: the arguments do not fit the function's signature, or cannot be pickled.
        """
        engine = current.engine
        if engine is None:
            engine = engine_for_call(self._descriptor.name, args, kwargs)
        self._check(args, kwargs)
        return engine.submit_task(self._descriptor, args, kwargs, self._options)

    def _with_options(self, options: Mapping[str, Any]) -> Any:
        # The descriptor is shared, so the engine exports the function once however it is called.
        changed = type(self).__new__(type(self))
        changed._set(self._descriptor, self._signature, self._options.updated(options))  # noqa: SLF001
        return changed

    if not TYPE_CHECKING:  # so that type checkers refuse direct calls, too

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
            """Refuse a direct call."""
            name = getattr(self._function, "__name__", "function")
            raise TypeError(f"remote functions cannot be called directly: use {name}.remote() instead of {name}()")

    def __repr__(self) -> str:
        return f"RemoteFunction({self._descriptor.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        # In two steps, the object and then its contents, because a recursive function contains itself.
        return (_blank, (type(self),), (self._function, self._signature, self._options))

    def __setstate__(self, state: tuple[Any, CallSignature, TaskOptions]) -> None:
        function, signature, options = state
        name = f"{function.__module__}.{function.__qualname__}"
        self._set(FunctionDescriptor(function, name, options.is_generator), signature, options)


def _blank(cls: type[_RemoteCallable]) -> _RemoteCallable:
    return cls.__new__(cls)


def _refuse_coroutine_function(function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        raise ValueError(
            f"{function.__qualname__} is an 'async def' function, which cannot be a remote function. "
            "Make it a method of an actor, or wrap it: @remote def f(): return asyncio.run(...)"
        )


class UntypedRemoteFunction(_RemoteCallable, Generic[P]):
    """A remote function called with ``num_returns``: what a call returns depends on it."""

    if TYPE_CHECKING:

        @property
        def remote(self) -> RemoteCall[P, Any]:
            """Start the function; see :meth:`RemoteFunction.remote`."""
            raise NotImplementedError

        def options(self, *, num_returns: Any = ..., **options: Unpack[TaskCallOptions]) -> UntypedRemoteFunction[P]:
            """Return the same function with other options."""
            raise NotImplementedError


class RemoteFunction(_RemoteCallable, Generic[P, R]):
    """A function that runs in other processes: ``f.remote(...)`` returns an ``ObjectRef`` at once.

    Made by ``@remote``. Keeps the function's name, docstring and signature; can be pickled.
    """

    if TYPE_CHECKING:

        @property
        def _function(self) -> Callable[P, R]: ...

        @property
        def remote(self) -> RemoteCall[P, ObjectRef[R]]:
            """Start the function in another process; return a reference to its result at once."""
            raise NotImplementedError

        @overload
        def options(
            self, *, num_returns: int | str, **options: Unpack[TaskCallOptions]
        ) -> UntypedRemoteFunction[P]: ...
        @overload
        def options(self, **options: Unpack[TaskCallOptions]) -> RemoteFunction[P, R]: ...
        def options(self, **options: Any) -> Any:
            """Return the same function with other options: ``f.options(num_cpus=2).remote(...)``."""
            raise NotImplementedError

    else:
        remote = _RemoteCallable._submit  # noqa: SLF001 - one function, so that no call stands between

        def options(self, **options):
            """Return the same function with other options: ``f.options(num_cpus=2).remote(...)``.

            Raises:
                ValueError, TypeError: an option is unknown or has a bad value.
            """
            return self._with_options(options)


class RemoteGenerator(_RemoteCallable, Generic[P, Y]):
    """A generator function that runs in other processes (to type checkers; at run time a :class:`RemoteFunction`).

    ``g.remote(...)`` returns an ``ObjectRefGenerator``, which gives a reference per yielded value, as they come.
    """

    if TYPE_CHECKING:

        @property
        def remote(self) -> RemoteCall[P, ObjectRefGenerator[Y]]:
            """Start the generator; return the references it will yield."""
            raise NotImplementedError

        @overload
        def options(
            self, *, num_returns: int | str, **options: Unpack[TaskCallOptions]
        ) -> UntypedRemoteFunction[P]: ...
        @overload
        def options(self, **options: Unpack[TaskCallOptions]) -> RemoteGenerator[P, Y]: ...
        def options(self, **options: Any) -> Any:
            """Return the same function with other options: ``f.options(num_cpus=2).remote(...)``."""
            raise NotImplementedError
