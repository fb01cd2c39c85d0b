"""``remote``: turns functions into remote functions and classes into actor classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from core.api.actor_class import ActorClass
from core.api.remote_function import RemoteFunction, RemoteGenerator, UntypedRemoteFunction
from core.option_checks import REMOTE_OPTIONS, unknown_option

if TYPE_CHECKING:
    from core.api.option_types import RemoteOptions

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Y = TypeVar("Y")


class RemoteDecorator(Protocol):
    """What ``remote(num_cpus=2)`` returns."""

    # A class is callable and an iterator is an object: the overloads overlap, and the first match is meant.
    @overload
    def __call__(self, cls: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Iterator[Y]], /
    ) -> RemoteGenerator[P, Y]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> RemoteFunction[P, R]: ...


class UntypedRemoteDecorator(Protocol):
    """What ``remote(num_returns=2)`` returns."""

    def __call__(self, function: Callable[P, object], /) -> UntypedRemoteFunction[P]:
        """Make the function remote."""
        raise NotImplementedError


@overload
def remote(cls: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
@overload
def remote(  # type: ignore[overload-overlap]
    function: Callable[P, Iterator[Y]], /
) -> RemoteGenerator[P, Y]: ...
@overload
def remote(function: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(*, num_returns: int | str, **options: Unpack[RemoteOptions]) -> UntypedRemoteDecorator: ...
@overload
def remote(**options: Unpack[RemoteOptions]) -> RemoteDecorator: ...
def remote(*args: Any, **options: Any) -> Any:  # noqa: D417 - the options are the arguments
    """Make a function or a class remote: ``@remote``, ``@remote(num_cpus=2)``, ``remote(f)``, ``remote(A)``.

    Args:
        num_cpus: CPUs a task needs while it runs (1), or an actor while it lives (0, and 1 to be placed).
        num_gpus: GPUs; below 1 for a share of one.
        resources: amounts of custom resources, by name.
        memory: bytes of memory to reserve.
        num_returns: how many references a call returns (1); ``"streaming"`` is the default for generators.
        max_retries: how often a task is run again when its worker dies (3); -1 without limit.
        retry_exceptions: whether errors of the function are retried too (False), or a list of their types.
        max_calls: tasks after which a worker process is replaced (0: never; 1 with GPUs).
        max_restarts: how often an actor is started again when its process dies (0); -1 without limit.
        max_task_retries: how often calls cut short by that are repeated (0); -1 without limit.
        max_concurrency: calls an actor makes at a time (1, or 1000 for a class with ``async`` methods).
        concurrency_groups: names of groups of threads and their sizes, for ``@method(concurrency_group=...)``.
        max_pending_calls: unfinished calls a handle may have (-1: no limit).
        name, namespace, lifetime, get_if_exists: names of actors that others find with ``get_actor``.
        runtime_env: ``env_vars``, ``working_dir`` and ``py_modules`` of the worker process.
        scheduling_strategy: ``"DEFAULT"``, ``"SPREAD"`` or an object of ``core.util.scheduling_strategies``.

    Raises:
        AssertionError: called with parentheses and no option.
        ValueError, TypeError: an option is unknown, does not belong to functions or classes, or has a bad value; an
            ``async def`` function.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _make_remote(args[0], {})
    if args or not options:
        raise AssertionError(
            f"use @remote without parentheses, or with at least one option by name and nothing else, as in "
            f"@remote(num_cpus=2) or remote(num_cpus=2)(f){_given(args, options)}. "
            f"Options are: {', '.join(REMOTE_OPTIONS)}"
        )
    for name in options:
        if name not in REMOTE_OPTIONS:
            raise ValueError(unknown_option(name, REMOTE_OPTIONS, "@remote"))

    def decorate(target: Any) -> Any:
        return _make_remote(target, options)

    return decorate


def _given(args: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in options.items())]
    return f"; got remote({', '.join(given)})" if given else ""


def _make_remote(target: Any, options: Mapping[str, Any]) -> Any:
    if isinstance(target, RemoteFunction | ActorClass):
        raise TypeError(f"{target!r} is remote already")
    if inspect.isclass(target):
        return ActorClass(target, options)
    if inspect.isfunction(target) or inspect.isbuiltin(target) or _is_compiled_function(target):
        return RemoteFunction(target, options)
    hint = "; wrap it in a function: @remote def f(*args): return ..." if callable(target) else ""
    raise TypeError(f"@remote takes a function or a class, got {type(target).__name__}: {target!r}{hint}")


def _is_compiled_function(target: Any) -> bool:
    """Tell whether ``target`` is a function of a compiled module (Cython), which have types of their own."""
    return inspect.isroutine(target) and hasattr(target, "__qualname__") and hasattr(target, "__module__")
