"""Actor classes: what ``@remote`` makes of a class, and ``@method``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, Protocol, TypeVar, Unpack, overload

from core import current
from core.engine.base import ClassDescriptor
from core.options import ActorOptions, MethodOptions
from core.refs import ActorHandle, MethodInfo, ObjectRef, ObjectRefGenerator, engine_for_call
from core.signature import CallSignature

if TYPE_CHECKING:
    from core.api.calls import Holds, RemoteCall
    from core.api.option_types import ActorCallOptions, MethodDecoratorOptions

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
S = TypeVar("S")
T = TypeVar("T")
Local = TypeVar("Local")
Remote = TypeVar("Remote")

#: Attribute of a function that ``@method`` leaves its options in.
_METHOD_OPTIONS = "__ray_method_options__"

#: mypy alone takes this for true. It does not see the constructor's parameters of a class it knows as ``type[T]``.
MYPY = False

#: Methods every actor has besides its own; workers know them by name.
BUILTIN_METHODS = {
    "__ray_ready__": CallSignature(name="__ray_ready__", max_positional=0),
    "__ray_call__": CallSignature(
        name="__ray_call__", min_positional=1, positional=("function",), positional_only=1, required=1,
        takes_any_keyword=True,
    ),
    "__ray_terminate__": CallSignature(name="__ray_terminate__", max_positional=0),
}  # fmt: skip


class ActorClass(Generic[T]):
    """A class whose instances live in processes of their own: ``A.remote(...)`` returns a handle at once.

    Made by ``@remote``. Cannot be instantiated or subclassed directly; subclass the plain class and decorate that.
    """

    def __init__(self, cls: type[T], options: Mapping[str, Any]) -> None:
        self._set(describe_class(cls), ActorOptions.of(options))

    def _set(self, descriptor: ClassDescriptor, options: ActorOptions) -> None:
        _check_options(descriptor, options)
        self._descriptor = descriptor
        self._signature = _init_signature(descriptor.cls)
        self._options = options
        wrapper: Any = self
        functools.update_wrapper(wrapper, descriptor.cls, updated=())

    @property
    def _function(self) -> type[T]:
        return self._descriptor.cls

    if MYPY:

        @property
        def remote(self) -> RemoteCall[..., ActorHandle[T]]:  # pyright: ignore[reportRedeclaration]
            """Start an actor; return a handle to it at once."""
            raise NotImplementedError

    elif TYPE_CHECKING:

        @property
        def remote(self: Holds[Callable[P, object]]) -> RemoteCall[P, ActorHandle[T]]:
            """Start an actor; return a handle to it at once."""
            raise NotImplementedError

    else:

        def remote(self, *args, **kwargs):
            """Start an actor; return a handle to it at once.

            An error of its ``__init__`` shows at the first call of a method, as ``ActorDiedError``.

            Raises:
                TypeError: the arguments do not fit ``__init__``, or cannot be pickled.
                ActorAlreadyExistsError: its name is taken.
            """
            engine = current.engine
            if engine is None:
                engine = engine_for_call(self._descriptor.name, args, kwargs)
            self._signature.check(args, kwargs)
            return engine.create_actor(self._descriptor, args, kwargs, self._options)

    def options(self, **options: Unpack[ActorCallOptions]) -> ActorClass[T]:
        """Return the same class with other options: ``A.options(name="a").remote(...)``.

        Raises:
            ValueError, TypeError: an option is unknown or has a bad value.
        """
        changed: ActorClass[T] = ActorClass.__new__(ActorClass)
        changed._set(self._descriptor, self._options.updated(options))
        return changed

    if not TYPE_CHECKING:  # so that type checkers refuse direct calls, too

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
            """Refuse a direct call."""
            name = self._descriptor.name
            raise TypeError(f"actors cannot be instantiated directly: use {name}.remote() instead of {name}()")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        name = self._descriptor.name
        raise TypeError(
            f"the actor class {name} cannot be subclassed: subclass the plain class and decorate the subclass with "
            "@remote, or write Sub = remote(PlainSub)"
        )

    def __repr__(self) -> str:
        return f"ActorClass({self._descriptor.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        # In two steps, the object and then its contents, because methods may mention their own actor class.
        return (_blank, (), (self._descriptor.cls, self._options))

    def __setstate__(self, state: tuple[type[T], ActorOptions]) -> None:
        cls, options = state
        self._set(describe_class(cls), options)


def _blank() -> ActorClass[Any]:
    return ActorClass.__new__(ActorClass)


def describe_class(cls: type) -> ClassDescriptor:
    """Return what engines need to know of an actor class: its methods, their signatures and options.

    Raises:
        ValueError, TypeError: the options of a method are bad.
    """
    methods = {name: _describe_method(cls, name) for name in dir(cls) if _is_method(cls, name)}
    is_async = any(info.is_async for info in methods.values())
    for name, signature in BUILTIN_METHODS.items():
        methods[name] = MethodInfo(name, MethodOptions(), signature)
    return ClassDescriptor(cls, cls.__name__, methods, is_async)


def _is_method(cls: type, name: str) -> bool:
    attribute = inspect.getattr_static(cls, name, None)
    return isinstance(attribute, staticmethod | classmethod) or (
        # Functions of Python, and those of compiled modules, which are no functions to inspect.isfunction.
        inspect.isroutine(attribute) and not hasattr(object, name) and not inspect.isclass(attribute)
    ) or (inspect.isfunction(attribute) and name not in ("__init__", "__new__"))  # fmt: skip


def _describe_method(cls: type, name: str) -> MethodInfo:
    attribute = inspect.getattr_static(cls, name)
    unbound = isinstance(attribute, staticmethod | classmethod)
    function = inspect.unwrap(getattr(cls, name))
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    given: dict[str, Any] = getattr(attribute, _METHOD_OPTIONS, None) or getattr(function, _METHOD_OPTIONS, {})
    return MethodInfo(
        name,
        MethodOptions.of(given, is_generator=is_generator),
        CallSignature.of(getattr(cls, name), skip_self=not unbound),
        is_generator,
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
    )


def _init_signature(cls: type) -> CallSignature:
    for name in ("__init__", "__new__"):
        constructor = getattr(cls, name)
        if constructor is not getattr(object, name):
            return CallSignature.of(constructor, skip_self=True)
    return CallSignature(name=f"{cls.__qualname__}.__init__", max_positional=0)


def _check_options(descriptor: ClassDescriptor, options: ActorOptions) -> None:
    concurrent = descriptor.is_async or options.max_concurrency > 1 or bool(options.concurrency_groups)
    if concurrent and options.out_of_order is False:
        raise ValueError(
            f"allow_out_of_order_execution=False needs an actor that makes one call at a time; {descriptor.name} is "
            "an asyncio or threaded actor"
        )
    groups = {name for name, _ in options.concurrency_groups}
    for info in descriptor.methods.values():
        wanted = info.options.concurrency_group
        if wanted and wanted not in groups:
            raise ValueError(
                f"method {info.name} of {descriptor.name} asks for the concurrency group {wanted!r}, which "
                f"@remote(concurrency_groups=...) does not define (it defines {sorted(groups) or 'none'})"
            )


# @method -------------------------------------------------------------------------------------------------------------


class ActorMethodDefinition(Generic[S, P, Local, Remote]):
    """How type checkers see a method decorated with ``@method``: callable inside the actor, ``.remote`` on handles."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> Callable[Concatenate[S, P], Local]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> BoundActorMethod[P, Local, Remote]: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class BoundActorMethod(Generic[P, Local, Remote]):
    """A method decorated with ``@method``, of an instance or of a handle seen through :func:`typed`."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Local:
            """Call the method directly, inside of the actor."""
            raise NotImplementedError

        @property
        def remote(self) -> RemoteCall[P, Remote]:
            """Call the method on the actor; return a reference to its result at once."""
            raise NotImplementedError

        def options(self, **options: Any) -> Any:
            """Return the same method with other options for this call."""
            raise NotImplementedError


class _MethodDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
    ) -> ActorMethodDefinition[S, P, Coroutine[Any, Any, R], ObjectRef[R]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # an iterator is an object; the first match is meant
        self, function: Callable[Concatenate[S, P], Iterator[Y]], /
    ) -> ActorMethodDefinition[S, P, Iterator[Y], ObjectRefGenerator[Y]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[S, P], R], /) -> ActorMethodDefinition[S, P, R, ObjectRef[R]]: ...


class _UntypedMethodDecorator(Protocol):
    def __call__(self, function: Callable[Concatenate[S, P], R], /) -> ActorMethodDefinition[S, P, R, Any]: ...


@overload
def method(
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
) -> ActorMethodDefinition[S, P, Coroutine[Any, Any, R], ObjectRef[R]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[S, P], Iterator[Y]], /
) -> ActorMethodDefinition[S, P, Iterator[Y], ObjectRefGenerator[Y]]: ...
@overload
def method(function: Callable[Concatenate[S, P], R], /) -> ActorMethodDefinition[S, P, R, ObjectRef[R]]: ...
@overload
def method(*, num_returns: int | str, **options: Unpack[MethodDecoratorOptions]) -> _UntypedMethodDecorator: ...
@overload
def method(**options: Unpack[MethodDecoratorOptions]) -> _MethodDecorator: ...
def method(*args: Any, **options: Any) -> Any:  # noqa: D417 - the options are the arguments
    """Set options of one method of an actor class, bare or with arguments.

    Args:
        num_returns: how many references a call returns (1); ``"streaming"`` is the default for generators.
        concurrency_group: the group whose threads run the method.
        max_task_retries: how often a call cut short by the death of the actor is repeated.
        retry_exceptions: whether errors of the method are retried too, or which.
        _generator_backpressure_num_objects: how many items a generator may be ahead of its consumer.

    Raises:
        ValueError, TypeError: an option is unknown or has a bad value.
        AssertionError: called with parentheses and no option.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _mark_method(args[0], {})
    if args or not options:
        raise AssertionError("use @method, or @method with options: @method(num_returns=2)")
    MethodOptions.of(options, is_generator=True)  # whether it is a generator shows when the class is decorated
    return functools.partial(_mark_method, options=options)


def _mark_method(function: Any, options: dict[str, Any]) -> Any:
    setattr(function, _METHOD_OPTIONS, options)
    return function


def typed(handle: ActorHandle[T]) -> T:
    """Return an actor handle as a type checker's instance of its class, at no cost.

    Methods decorated with ``@method`` are then checked: ``typed(counter).add.remote("x")`` is an error if ``add``
    takes an int, and the reference it returns knows its type. At run time it returns ``handle`` itself.
    """
    same: Any = handle
    return same  # type: ignore[no-any-return]
