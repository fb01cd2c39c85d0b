"""``@serve.deployment``, ``.options``, ``.bind``: what is served, before it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from serve.config import DeploymentConfig

T = TypeVar("T")
P = ParamSpec("P")

#: arguments of the decorator that are not options of the deployment's replicas
_OWN = ("name", "route_prefix", "version")


class Application:
    """A deployment bound to its arguments, ready for ``serve.run``; others among the arguments make it a graph.

    Made by `Deployment.bind`.
    """

    def __init__(self, deployment: Deployment[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.deployment = deployment
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return f"Application({self.deployment.name})"


class Deployment(Generic[T]):
    """A class or function that replicas serve, with its options. Made by ``@serve.deployment``."""

    def __init__(self, target: Callable[..., T], name: str, options: dict[str, Any]) -> None:
        self._target = target
        self._name = name
        self._options = options
        self._config = DeploymentConfig.of(f"deployment {name!r}", options)

    @property
    def name(self) -> str:
        """The name, unique within an application."""
        return self._name

    @property
    def func_or_class(self) -> Callable[..., T]:
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

    def options(self, **options: Any) -> Deployment[T]:
        """Return the same deployment with other options.

        Args:
            **options: as for ``@serve.deployment``; those not named stay.

        Raises:
            ValueError: an unknown option or a wrong value.
        """
        name = options.pop("name", None) or self._name
        _refuse_removed("Deployment.options", options)
        merged = {**self._options, **options}
        if options.get("num_replicas") not in (None, "auto") and "autoscaling_config" not in options:
            merged.pop("autoscaling_config", None)
        elif options.get("autoscaling_config") is not None and "num_replicas" not in options:
            merged.pop("num_replicas", None)
        return Deployment(self._target, name, merged)

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """Bind the arguments of the constructor and return an application.

        Args:
            *args: positional arguments; an `Application` among them, however deep, becomes a `DeploymentHandle` there.
            **kwargs: keyword arguments, likewise.

        Raises:
            TypeError: the arguments do not fit the constructor, or a function was given some.
        """
        _check_arguments(self._target, self._name, args, kwargs)
        return Application(self, args, kwargs)

    def __call__(self, *_args: Any, **_kwargs: Any) -> T:
        """Refuse to be called: a deployment runs in replicas."""
        raise TypeError(
            f"deployment {self._name!r} cannot be called here: use .bind() with serve.run(), or .func_or_class for the "
            "plain class or function"
        )

    def __repr__(self) -> str:
        return f"Deployment(name={self._name!r})"


@overload
def deployment(target: Callable[P, T], /) -> Deployment[T]: ...


@overload
def deployment(*, name: str | None = None, **options: Any) -> Callable[[Callable[P, T]], Deployment[T]]: ...


def deployment(target: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any) -> Any:
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
        raise TypeError(f"deployment {name!r}: .bind() does not fit {target.__name__}{signature}: {error}") from None
