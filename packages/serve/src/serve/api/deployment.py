"""``@serve.deployment``, ``.options``, ``.bind``: what is served, before it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, Unpack, overload

from serve.api.options import DeploymentOptions, NamedOptions
from serve.config import DeploymentConfig

if TYPE_CHECKING:
    import typing_extensions

    from serve.handle.deployment_handle import DeploymentHandle
    from serve.handle.typed import Holds

    T_co = typing_extensions.TypeVar("T_co", covariant=True, default=Any)
else:
    T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

#: mypy alone takes this for true. It does not see the constructor's parameters of a class it knows as ``type[T]``.
MYPY = False

if TYPE_CHECKING:

    class _Bound(DeploymentHandle[T_co]):
        """Among the arguments of ``bind``, an application stands for the handle that takes its place."""

else:
    _Bound = Generic


class Application(_Bound[T_co]):
    """A deployment bound to its arguments, ready for ``serve.run``; others among the arguments make it a graph.

    Made by `Deployment.bind`.
    """

    def __init__(self, deployment: Deployment[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.deployment = deployment
        self.args = args
        self.kwargs = kwargs

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Say what a caller wants who takes it for a handle."""
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(
                f"{self!r} does not run yet, so it has no {name!r}; serve.run(app) runs it and returns a handle to call"
            )

    def __repr__(self) -> str:
        return f"Application({self.deployment.name})"


class Deployment(Generic[T]):
    """A class or function that replicas serve, with its options. Made by ``@serve.deployment``."""

    def __init__(self, target: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
        self._target = target
        self._name = name
        self._options = options
        self._config = DeploymentConfig.of(f"deployment {name!r}", options)

    @property
    def name(self) -> str:
        """The name, unique within an application."""
        return self._name

    @property
    def func_or_class(self) -> Callable[..., Any]:
        """What was decorated."""
        return self._target

    @property
    def config(self) -> DeploymentConfig:
        """The checked options."""
        return self._config

    @property
    def given_options(self) -> dict[str, Any]:
        """The options that were given, as they were given."""
        return dict(self._options)

    if TYPE_CHECKING:

        @property
        def _function(self) -> type[T]: ...

    def options(self, **options: Unpack[NamedOptions]) -> Deployment[T]:
        """Return the same deployment with other options.

        Args:
            **options: as for ``@serve.deployment``; those not named stay.

        Raises:
            ValueError: an unknown option or a wrong value.
        """
        given: dict[str, Any] = dict(options)
        name = given.pop("name", None) or self._name
        _refuse_removed("Deployment.options", given)
        merged = {**self._options, **given}
        if given.get("num_replicas") not in (None, "auto") and "autoscaling_config" not in given:
            merged.pop("autoscaling_config", None)
        if given.get("autoscaling_config") is not None and "num_replicas" not in given:
            merged.pop("num_replicas", None)
        return Deployment(self._target, name, merged)

    if MYPY:

        def bind(self, *args: Any, **kwargs: Any) -> Application[T]:  # pyright: ignore[reportRedeclaration]
            """Bind the arguments of the constructor and return an application."""
            raise NotImplementedError

    elif TYPE_CHECKING:

        def bind(self: Holds[Callable[P, object]], *args: P.args, **kwargs: P.kwargs) -> Application[T]:
            """Bind the arguments of the constructor and return an application."""
            raise NotImplementedError

    else:

        def bind(self, *args, **kwargs):
            """Bind the arguments of the constructor and return an application.

            Args:
                *args: positional arguments; an `Application` among them, however deep, becomes a `DeploymentHandle`
                    there.
                **kwargs: keyword arguments, likewise.

            Raises:
                TypeError: the arguments do not fit the constructor, or a function was given some.
            """
            _check_arguments(self._target, self._name, args, kwargs)
            return Application(self, args, kwargs)

    if not TYPE_CHECKING:  # so that type checkers refuse direct calls, too

        def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            """Refuse to be called: a deployment runs in replicas."""
            raise TypeError(
                f"deployment {self._name!r} cannot be called here: use .bind() with serve.run(), or .func_or_class for "
                "the plain class or function"
            )

        def __getattr__(self, name: str) -> NoReturn:
            """Say what a caller wants who takes it for its class or for a handle."""
            if name.startswith("_"):
                raise AttributeError(name)
            if name == "remote" or hasattr(self._target, name):
                raise AttributeError(
                    f"{self._name!r} is a deployment, which does not run yet; serve.run({self._name}.bind(...)) "
                    "runs it and returns a handle to call; .func_or_class is the plain class or function"
                )
            raise AttributeError(f"deployment {self._name!r} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"Deployment(name={self._name!r})"


if TYPE_CHECKING:

    class FunctionDeployment(Deployment[F]):
        """How type checkers see the deployment of a function: nothing can be bound to it."""

        def options(self, **options: Unpack[NamedOptions]) -> FunctionDeployment[F]:
            """Return the same deployment with other options."""
            raise NotImplementedError

        def bind(self) -> Application[F]:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Return an application."""
            raise NotImplementedError


class _Decorator(Protocol):
    # A class is callable: the overloads overlap, and the first match is meant.
    @overload
    def __call__(self, target: type[T], /) -> Deployment[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, target: F, /) -> FunctionDeployment[F]: ...


@overload
def deployment(target: type[T], /) -> Deployment[T]: ...  # type: ignore[overload-overlap]
@overload
def deployment(target: F, /) -> FunctionDeployment[F]: ...
@overload
def deployment(*, name: str | None = None, **options: Unpack[DeploymentOptions]) -> _Decorator: ...
def deployment(target: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Make a class or function deployable; bare, or with options.

    ::

        @serve.deployment(num_replicas=2, max_ongoing_requests=20)
        class Model:
            def __call__(self, request): ...

    Args:
        target: the class or function, when used bare.
        name: name within the application; default: the class's or function's.
        **options: ``num_replicas`` (1, or ``"auto"``), ``max_ongoing_requests`` (100; Ray: 5),
            ``max_queued_requests``, ``user_config``, ``autoscaling_config``, ``health_check_period_s``,
            ``health_check_timeout_s``, ``graceful_shutdown_wait_loop_s``, ``graceful_shutdown_timeout_s``,
            ``max_constructor_retry_count``, ``ray_actor_options``, ``logging_config``, ``backpressure_config``,
            ``request_timeout_s``: see `serve.config.DeploymentConfig`.

    Raises:
        ValueError: an unknown option or a wrong value.
        TypeError: what is decorated is neither a class nor a function.
    """
    _refuse_removed("@serve.deployment", options)

    def decorate(decorated: Callable[..., Any]) -> Deployment[Any]:
        if isinstance(decorated, Deployment):
            raise TypeError(f"{decorated!r} is a deployment already; use .options(...) to change it")
        if not (inspect.isclass(decorated) or inspect.isroutine(decorated)):
            raise TypeError(f"@serve.deployment takes a class or a function, not {decorated!r}")
        return Deployment(decorated, name or decorated.__name__, options)

    return decorate if target is None else decorate(target)


def _refuse_removed(where: str, options: dict[str, Any]) -> None:
    if "route_prefix" in options:
        raise ValueError(f"{where}: route_prefix belongs to serve.run(app, route_prefix=...), not to a deployment")
    if "version" in options:
        raise ValueError(f"{where}: there is no version to give; a deployment's code is its version")


def _check_arguments(target: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Deployment):
            raise TypeError(
                f"deployment {name!r}: {value!r} among its arguments is not bound itself; write {value.name}.bind(...)"
            )
    if not inspect.isclass(target):
        if args or kwargs:
            raise TypeError(f"deployment {name!r} is a function, so .bind() takes no arguments; requests bring them")
        return
    try:
        signature = inspect.signature(target)
    except ValueError:  # a class of an extension module
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        wanted = f"{target.__name__}{signature.replace(return_annotation=inspect.Signature.empty)}"
        raise TypeError(f"deployment {name!r}: .bind() does not fit {wanted}: {error}") from None
